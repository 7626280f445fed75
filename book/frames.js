// Panels of a page without a kernel: native controls that choose among pictures drawn while the book was built.
// A figure names its frames; they are a script, not data to fetch, so that a page opened from a folder can load them.
(() => {
  "use strict";
  const folder = new URL("frames/", document.currentScript.src);
  const SETTLED = 600; // milliseconds without a move, after which a screen reader hears the new caption
  const BEAT = 350; // milliseconds a frame while a recording plays
  let count = 0;
  window.hmpoFrames = {};

  const make = (name, parent, properties = {}) => parent.appendChild(Object.assign(document.createElement(name), properties));

  function bringToLife(figure, data) {
    const image = figure.querySelector("img");
    const caption = figure.querySelector("figcaption");
    const id = `hmpo-panel-${++count}`;
    const at = data.controls.map((control) => control.start);
    const panel = document.createElement("div");
    panel.className = "hmpo-controls";
    const put = []; // moves a control to a stop
    let settling;

    function show() {
      const k = at.reduce((sum, i, c) => sum * data.controls[c].stops.length + i, 0);
      image.style.backgroundImage = `url(${data.background})`;
      image.src = data.frames[data.order[k]];
      image.alt = data.alts[k];
      caption.textContent = data.captions[k];
      clearTimeout(settling);
      settling = setTimeout(() => (spoken.textContent = data.captions[k]), SETTLED);
    }

    function addRange(control, c) {
      const row = make("div", panel, { className: "hmpo-row" });
      make("label", row, { textContent: control.label, htmlFor: `${id}-${c}` });
      // autocomplete: a browser that restores the handle after a reload would not restore the picture.
      const input = make("input", row, { type: "range", min: 0, max: control.stops.length - 1, id: `${id}-${c}`, autocomplete: "off" });
      const output = make("output", row);
      output.htmlFor = input.id;
      output.setAttribute("aria-live", "off"); // the slider's own value text says the same
      output.style.minWidth = `${Math.max(...control.stops.map((stop) => stop.length))}ch`;
      input.addEventListener("input", () => { put[c](Number(input.value)); show(); });
      return (i) => {
        at[c] = i;
        input.value = i;
        output.textContent = control.stops[i];
        input.setAttribute("aria-valuetext", control.stops[i]);
      };
    }

    function addButtons(control, c) {
      const set = make("fieldset", panel, { className: "hmpo-row" });
      make("legend", set, { textContent: control.label, className: control.titled ? "" : "hmpo-heard" });
      const inputs = control.stops.map((stop, i) => {
        const label = make("label", set);
        const input = make("input", label, { type: "radio", name: `${id}-${c}`, autocomplete: "off" });
        label.append(stop);
        input.addEventListener("change", () => { at[c] = i; show(); });
        return input;
      });
      return (i) => { at[c] = i; inputs[i].checked = true; };
    }

    function addList(control, c) {
      const row = make("div", panel, { className: "hmpo-row" });
      make("label", row, { textContent: control.label, htmlFor: `${id}-${c}` });
      const select = make("select", row, { id: `${id}-${c}`, autocomplete: "off" });
      control.stops.forEach((stop, i) => make("option", select, { textContent: stop, value: i }));
      select.addEventListener("change", () => { at[c] = select.selectedIndex; show(); });
      return (i) => { at[c] = i; select.selectedIndex = i; };
    }

    const kinds = { range: addRange, radio: addButtons, list: addList };
    data.controls.forEach((control, c) => {
      put.push(kinds[control.kind](control, c));
      put[c](control.start);
    });
    const foot = make("div", panel, { className: "hmpo-row" });
    if (data.play) addPlay(foot);
    const reset = make("button", foot, { type: "button", textContent: "Reset" });
    reset.addEventListener("click", () => { data.controls.forEach((control, c) => put[c](control.start)); show(); });
    if (data.fixed) make("small", foot, { textContent: `Fixed here, free in the lab: ${data.fixed}` });
    const spoken = make("span", panel, { className: "hmpo-heard" });
    spoken.setAttribute("role", "status");

    function addPlay(parent) {
      const c = data.controls.length - 1;
      const last = data.controls[c].stops.length - 1;
      const button = make("button", parent, { type: "button", textContent: "Play" });
      let timer = null;
      const stop = () => { clearInterval(timer); timer = null; button.textContent = "Play"; };
      button.addEventListener("click", () => {
        if (timer !== null) return stop();
        if (at[c] === last) { put[c](0); show(); }
        button.textContent = "Pause";
        timer = setInterval(() => {
          if (at[c] === last) return stop();
          put[c](at[c] + 1);
          show();
        }, BEAT);
      });
    }

    figure.prepend(panel);
    figure.dataset.live = "yes";
    // Decoded ahead, so that the first move is as quick as the others.
    const idle = window.requestIdleCallback || ((later) => setTimeout(later, 200));
    idle(() => data.frames.forEach((source) => { new Image().src = source; }));
  }

  function load(figure) {
    if (figure.dataset.live) return;
    figure.dataset.live = "loading";
    const name = figure.dataset.frames;
    if (window.hmpoFrames[name]) return bringToLife(figure, window.hmpoFrames[name]);
    const script = document.createElement("script");
    script.src = new URL(`${name}.js`, folder);
    script.onload = () => bringToLife(figure, window.hmpoFrames[name]);
    document.head.append(script);
  }

  // A prediction's options are a list; here they are buttons, and choosing one opens the answer.
  function ask(prediction) {
    const fold = prediction.querySelector("details");
    const buttons = [...prediction.querySelectorAll("ul > li")].map((item) => {
      const option = item.textContent;
      item.textContent = "";
      const button = make("button", item, { type: "button", textContent: option });
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => {
        buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
        fold.querySelector("summary").textContent = `You chose: ${option}`;
        fold.open = true;
      });
      return button;
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".hmpo-prediction").forEach(ask);
    const near = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); load(entry.target); }
    }, { rootMargin: "1000px" });
    document.querySelectorAll("figure[data-frames]").forEach((figure) => near.observe(figure));
  });
})();
