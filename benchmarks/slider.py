"""How soon a slider's key press is a new picture on the page: .venv/bin/python benchmarks/slider.py

Starts JupyterLab on a temporary folder and opens a throw-away notebook in headless Chromium: notebook 01's explorer,
and beside it the same three plots with `interact` and `plt.show()`. The clock is the page's own. It runs from the key
press to the first animation frame after the new picture is decoded. Blocks of key presses alternate between the two, so
that both meet the same load. Then the panel alone is moved many times, and the memory of kernel and page is printed.
"""

import argparse
import itertools
import os
import statistics
import sys
import tempfile
from pathlib import Path

import nbformat
import psutil
from playwright.sync_api import CDPSession, Locator, Page, sync_playwright

# By its folder: another program may have installed a package called tests.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "browser"))
from lab_server import launch_chromium, serve

PANEL = """
from hmpo_lib.teach.three_means import power_mean_explorer

ratios = [0.3, 0.9, 1.1, 1.2, 1.3, 1.5]
power_mean_explorer(ratios)
"""

# What one writes without a library. In its favour: the curve is computed once, and pyplot's own resolution of 100 dots
# per inch gives fewer than half as many pixels as the panel's picture has.
INTERACT = """
import matplotlib.pyplot as plt
import torch
from ipywidgets import interact

from hmpo_lib import power_mean, power_mean_weights
from hmpo_lib.teach import p_slider

r = torch.tensor(ratios)
exponents = torch.linspace(-5, 5, 201)
curve = [power_mean(r, p) for p in exponents.tolist()]


def show(p):
    mean, weights = power_mean(r, p).item(), power_mean_weights(r.log(), p)
    figure = plt.figure(figsize=(7.6, 4.4))
    line = figure.add_axes((0.105, 0.7, 0.875, 0.22), title="Ratios and their mean", xlim=(0, 1.62), yticks=[])
    line.scatter(r, [0] * len(r), s=360 * weights)
    line.scatter(r, [0] * len(r), s=60, facecolors="none", edgecolors="grey")
    line.axvline(mean)
    line.text(mean, 0.03, f"mean {mean:.3f}")
    rise = figure.add_axes((0.105, 0.115, 0.47, 0.425), title="The mean rises with p", xlabel="p", yscale="log")
    rise.plot(exponents, curve)
    rise.plot(max(-6.25, min(6.25, p)), mean, "o")
    rise.grid()
    heard = figure.add_axes((0.66, 0.115, 0.32, 0.425), title="Whom the mean hears", xlabel="ratio", ylim=(0, 1.1))
    heard.bar_label(heard.bar([f"{ratio:g}" for ratio in ratios], weights), fmt="%.2f")
    plt.show()


interact(show, p=p_slider());
"""

KERNEL = "import os; os.getpid()"

# The promise `arrived` holds the milliseconds from a key press to the first frame with the new picture decoded.
WATCH = """
cell => {
  const picture = () => cell.querySelector('.jp-OutputArea img')
  let pressed = null, shown = picture().src, arrive = null
  cell.addEventListener('keydown', event => {
    pressed = event.timeStamp
    cell.arrived = new Promise(resolve => { arrive = resolve })
  }, true)
  new MutationObserver(async () => {
    const image = picture()
    if (pressed === null || !image || image.src === shown) return
    const began = pressed
    shown = image.src
    pressed = null
    await image.decode()
    requestAnimationFrame(() => arrive(performance.now() - began))
  }).observe(cell, {subtree: true, childList: true, attributes: true, attributeFilter: ['src']})
}
"""


class Slider:
    """One version's cell in the open notebook, and where its slider goes next."""

    def __init__(self, page: Page, cell: Locator) -> None:
        cell.locator("img").wait_for()
        cell.evaluate(WATCH)
        self._page, self._cell = page, cell
        self._keys = itertools.cycle(["ArrowRight"] * 10 + ["ArrowLeft"] * 10)

    def press(self, moves: int) -> list[float]:
        """Move by so many key presses, each after the last one's picture; milliseconds of each."""
        self._cell.get_by_role("slider").focus()
        milliseconds = []
        for key in itertools.islice(self._keys, moves):
            self._page.keyboard.press(key)
            milliseconds.append(self._cell.evaluate("cell => cell.arrived"))
        return milliseconds


def times(sliders: dict[str, Slider], blocks: int) -> None:
    """Print how long each version takes, and how many times faster the first one is than the second."""
    milliseconds: dict[str, list[float]] = {name: [] for name in sliders}
    for _ in range(blocks):
        for name, slider in sliders.items():
            milliseconds[name] += slider.press(20)
    medians = []
    for name, values in milliseconds.items():
        medians.append(statistics.median(values))
        low, *_, high = statistics.quantiles(values, n=20)
        print(f"{name:10}{medians[-1]:6.1f} ms   5 to 95 %: {low:.1f} to {high:.1f} ms   {len(values)} moves")
    print(f"ratio     {medians[1] / medians[0]:6.1f}      load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def memory(kernel: psutil.Process, inspector: CDPSession, moves: int) -> None:
    """Print a line on what kernel and page hold, when the page's garbage has been collected."""
    inspector.send("HeapProfiler.collectGarbage")
    page_holds = {metric["name"]: metric["value"] for metric in inspector.send("Performance.getMetrics")["metrics"]}
    print(
        f"{moves:6} moves   kernel {kernel.memory_info().rss / 2**20:7.1f} MiB"
        f"   page {page_holds['JSHeapUsedSize'] / 2**20:6.2f} MiB, {page_holds['Nodes']:.0f} nodes,"
        f" {page_holds['JSEventListeners']:.0f} listeners"
    )


def main() -> None:
    """Print times, then memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=8, help="blocks of 20 moves of each version (default: 8)")
    parser.add_argument("--moves", type=int, default=1000, help="moves between the memory's first and last line")
    options = parser.parse_args()
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source.strip()) for source in (PANEL, INTERACT, KERNEL)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}},
    )
    with tempfile.TemporaryDirectory() as home, serve(Path(home)) as lab, sync_playwright() as playwright:
        nbformat.write(notebook, lab.folder / "slider.ipynb")
        browser = launch_chromium(playwright)
        page = browser.new_page(viewport={"width": 1280, "height": 1100})
        opened = lab.open(page, "slider.ipynb")
        opened.run_all()
        opened.wait_until_run()
        cells = page.locator(".jp-CodeCell")
        sliders = {name: Slider(page, cells.nth(k)) for k, name in enumerate(("panel", "interact"))}
        for slider in sliders.values():
            slider.press(20)  # the first moves are slower: fonts and code are read
        times(sliders, options.blocks)

        kernel = psutil.Process(int(cells.nth(2).locator(".jp-OutputArea-output").inner_text()))
        inspector = page.context.new_cdp_session(page)
        inspector.send("Performance.enable")
        memory(kernel, inspector, 0)
        done = 0
        for goal in (options.moves // 10, options.moves // 2, options.moves):
            sliders["panel"].press(goal - done)
            done = goal
            memory(kernel, inspector, done)
        browser.close()


if __name__ == "__main__":
    main()
