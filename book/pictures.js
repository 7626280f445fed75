// On a narrow page a picture is as wide as the page and its letters are small. A tap, or the button below it, shows it in
// its full size; it then scrolls within its own frame.
(() => {
  "use strict";
  const FULL = 720; // pixels of width at which the letters of a picture that is a file can be read
  function prepare(image) {
    const full = Number(image.getAttribute("width")) || FULL;
    const frame = document.createElement("div");
    const button = document.createElement("button");
    frame.className = "hmpo-picture";
    image.before(frame);
    frame.append(image);
    Object.assign(button, { type: "button", className: "hmpo-full", textContent: "Full size", hidden: true });
    button.setAttribute("aria-pressed", "false");
    frame.after(button);
    const set = (large) => {
      frame.classList.toggle("hmpo-large", large);
      image.style.width = large ? `${full}px` : "";
      frame.tabIndex = large ? 0 : -1; // what scrolls can be scrolled by keys
      button.setAttribute("aria-pressed", String(large));
    };
    const isLarge = () => frame.classList.contains("hmpo-large");
    button.addEventListener("click", () => set(!isLarge()));
    image.addEventListener("click", (event) => {
      if (button.hidden) return;
      const part = event.offsetX / image.clientWidth;
      set(!isLarge());
      frame.scrollLeft = part * full - frame.clientWidth / 2; // what was tapped is in sight
    });
    new ResizeObserver(() => {
      button.hidden = frame.clientWidth === 0 || frame.clientWidth >= full;
      if (button.hidden) set(false);
    }).observe(frame);
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".cell_output figure img[width], .bd-article p > img").forEach(prepare);
    document.querySelectorAll('.cell_output [style*="overflow-x"]').forEach((text) => { text.tabIndex = 0; });
  });
})();
