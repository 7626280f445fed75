// Renders formulas with KaTeX: a JSON line {tex, display} in, a JSON line {html} or {error} out. Arguments: katex.min.js.
"use strict";
const katex = require(process.argv[2]);
require("readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const { tex, display } = JSON.parse(line);
    let answer;
    try {
      answer = { html: katex.renderToString(tex, { displayMode: display }) };
    } catch (error) {
      answer = { error: error.message };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
  });
