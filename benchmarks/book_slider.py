"""How long after a move the picture of a panel in the built book has changed: python -m benchmarks.book_slider

For every panel of every page, the median of the time from a move of its first slider to the animation frame after the
new picture is decoded: in a window of 1400 px, and in one of 390 px whose processor is slowed down to a quarter.
"""

import statistics
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))
from lab_server import ROOT, launch_chromium

SITE = ROOT / "book" / "_build" / "html"
KEYS = 20

# From the event to the frame after the one in which the decoded picture can be painted.
MEASURE = """async (figure, stop) => {
    const control = figure.querySelector("input[type=range]");
    const image = figure.querySelector("img");
    const began = performance.now();
    control.value = stop;
    control.dispatchEvent(new Event("input"));
    await image.decode();
    await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
    return performance.now() - began;
}"""


def medians(page: Page) -> list[tuple[str, float]]:
    """Each panel's first slider and the median of its milliseconds."""
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    found = []
    for figure in page.locator("figure[data-frames]").all():
        figure.scroll_into_view_if_needed()
        figure.locator(".hmpo-controls").wait_for()
        page.wait_for_timeout(1500)  # the frames are decoded ahead, while nothing else happens
        sliders = figure.locator("input[type=range]")
        if sliders.count():
            stops = int(sliders.first.get_attribute("max") or 0) + 1
            times = [figure.evaluate(MEASURE, k % stops) for k in range(KEYS)]
            found.append((figure.locator("label").first.inner_text(), statistics.median(times)))
    return found


def main() -> None:
    """Prints a row a panel."""
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        print("| page | first slider | 1400 px, ms | phone, ms |\n|---|---|---|---|")
        everything: list[tuple[float, float]] = []
        for path in sorted((SITE / "notebooks").rglob("*.html")):
            if 'data-frames="' not in path.read_text(encoding="utf-8"):
                continue
            rows = []
            for width, slower in ((1400, 1), (390, 4)):
                page = browser.new_page(viewport={"width": width, "height": 900})
                page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slower})
                page.goto(path.as_uri())
                rows.append(medians(page))
                page.close()
            for (name, wide), (_, phone) in zip(*rows, strict=True):
                print(f"| {path.stem[:2]} | {name} | {wide:.0f} | {phone:.0f} |", flush=True)
                everything.append((wide, phone))
        wide, phone = (statistics.median(times) for times in zip(*everything, strict=True))
        print(f"| all {len(everything)} | | {wide:.0f} | {phone:.0f} |")
        browser.close()


if __name__ == "__main__":
    main()
