"""Every page for everyone: read out, by keyboard alone, in the dark, on a phone, on paper. One visit answers most.

axe-core knows the rules of WCAG 2.2; what it leaves to people, and what is this site's own, is asked beside it.
"""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from .conftest import LIVE, PAGES, SITE, panels_of

AXE = SITE.parents[1] / "node_modules" / "axe-core" / "axe.min.js"

# What the theme brings around each page, and no page can mend: its logo stands outside of the landmarks, and its button
# for the search is called "Search" while "Ctrl+K" stands on it, too.
THEME = {"region": {"enabled": False}}
THEME_PARTS = [".search-button-field"]
# The first cell of a table with names down and across has nothing to say.
CORNERS = {"empty-table-header": {"enabled": False}}

# Of the page's own part, the article: pictures without words, keys that are taken away or put out of order, and what
# can be reached but looks the same with the focus as without. (A script's focus is shown like that of a key.)
OWN = """() => {
  const article = document.querySelector("article") ?? document.querySelector("main"); // the search has no article
  const name = (element) => element.outerHTML.slice(0, 120);
  const look = (element) => {
    const s = getComputedStyle(element);
    return [s.outline, s.boxShadow, s.border, s.backgroundColor, s.textDecoration].join();
  };
  const controls = [...article.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")]
    .filter((element) => element.checkVisibility({ visibilityProperty: true }));
  const unseen = controls.filter((element) => {
    if (element.tabIndex < 0) return false;
    document.activeElement.blur();
    const before = look(element);
    element.focus({ preventScroll: true });
    const seen = look(element) !== before && Number(getComputedStyle(element).opacity) > 0;
    return document.activeElement === element && !seen;
  });
  return {
    "pictures without words": [...article.querySelectorAll("img")].filter((image) => !image.alt.trim()).map(name),
    "not reached by keyboard": controls
      .filter((e) => e.tabIndex > 0 || (e.tabIndex < 0 && e.matches("input, button, select, a[href]")))
      .map(name),
    "focus not seen": unseen.map(name),
    "without a label": [...article.querySelectorAll("input, select, textarea")]
      .filter((e) => !e.labels.length && !e.getAttribute("aria-label")).map(name),
  };
}"""


def violations(page: Page, **options: Any) -> list[str]:
    """What axe-core finds, a line for each element."""
    ask = "([context, options]) => axe.run(context, options)"
    found = page.evaluate(ask, [{"exclude": THEME_PARTS}, {"resultTypes": ["violations"], **options}])
    return [f"{rule['id']}: {node['html'][:120]}" for rule in found["violations"] for node in rule["nodes"]]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_can_be_read_seen_and_used_by_everyone(path, open_page):
    """One visit for all, since visits are what takes time."""
    if not AXE.exists():
        pytest.skip("no axe-core in book/node_modules: make book")
    page = open_page(path)
    panels_of(page)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = {"in the light": violations(page, rules=THEME | CORNERS)}
    page.keyboard.press("Tab")  # from now on the focus is shown
    found |= page.evaluate(OWN)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_timeout(300)  # the colours fade
    found["in the dark"] = violations(page, runOnly=["color-contrast"])
    page.set_viewport_size({"width": 390, "height": 900})
    found["wider than a phone"] = page.evaluate("document.documentElement.scrollWidth > 390 ? ['the page'] : []")
    assert {what: elements for what, elements in found.items() if elements} == {}


@pytest.mark.parametrize("path", LIVE[:1])
def test_the_tab_key_goes_through_every_control_of_the_page_and_leaves_it(path, open_page):
    page = open_page(path)
    panels_of(page)
    page.evaluate(
        "document.querySelectorAll('article :is(a[href], button, input, select, summary)')"
        ".forEach((e, k) => { if (e.checkVisibility({ visibilityProperty: true })) e.dataset.stop = k; })"
    )
    # Of radio buttons with one name the tab key visits one; the arrow keys go on.
    wanted = set(
        page.evaluate(
            "[...document.querySelectorAll('article [data-stop]')]"
            ".filter((e) => e.type !== 'radio' || e.checked).map((e) => e.dataset.stop)"
        )
    )
    seen = set()
    for _ in range(500):
        page.keyboard.press("Tab")
        stop = page.evaluate("document.activeElement.dataset.stop ?? ''")
        seen.add(stop)
        if wanted <= seen and not stop:
            break
    assert wanted <= seen
    assert not page.evaluate("document.activeElement.dataset.stop ?? ''"), "the tab key does not leave the article"


@pytest.mark.parametrize("path", LIVE[:1])
def test_a_caption_is_not_spoken_while_a_slider_is_dragged_and_once_when_it_rests(path, open_page):
    page = open_page(path)
    panels_of(page)
    figure = page.locator("figure[data-frames]", has=page.locator("input[type=range]")).first
    slider = figure.locator("input[type=range]").first
    slider.scroll_into_view_if_needed()
    page.evaluate(
        "(status) => { window.spoken = []; new MutationObserver(() => window.spoken.push(status.textContent))"
        ".observe(status, { childList: true, characterData: true, subtree: true }); }",
        figure.locator("[role=status]").element_handle(),
    )
    box = slider.bounding_box()
    y, left, width = box["y"] + box["height"] / 2, box["x"] + 10, box["width"] - 20
    page.mouse.move(left, y)
    page.mouse.down()
    captions = set()
    for k in range(1, 16):
        page.mouse.move(left + width * k / 15, y)
        captions.add(figure.locator("figcaption").inner_text())
    assert len(captions) > 3
    while_dragged = page.evaluate("window.spoken")
    page.mouse.up()
    assert while_dragged == []
    expect(figure.locator("[role=status]")).to_have_text(figure.locator("figcaption").inner_text())
    assert len(page.evaluate("window.spoken")) == 1


@pytest.mark.parametrize("path", LIVE[:1])
def test_on_a_phone_a_tap_or_a_key_shows_a_picture_in_full_size_within_its_own_frame(path, open_page):
    page = open_page(path, width=390, has_touch=True)
    panels_of(page)
    figure = page.locator("figure[data-frames]").first
    image, whole = figure.locator("img"), figure.get_by_role("button", name="Full size")
    image.scroll_into_view_if_needed()
    full = int(image.get_attribute("width"))
    assert image.bounding_box()["width"] < 390
    image.tap()
    assert image.bounding_box()["width"] == full
    expect(whole).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "the page itself must not scroll sideways"
    whole.press("Enter")
    assert image.bounding_box()["width"] < 390


@pytest.mark.parametrize("path", LIVE[:1])
def test_on_paper_a_panel_is_its_picture_with_its_ground_and_without_its_controls(path, open_page):
    page = open_page(path)
    panels_of(page)
    figure = page.locator("figure[data-frames]").first
    figure.locator("input[type=range]").first.press("End")
    page.emulate_media(media="print")
    expect(figure.locator("input, button").first).to_be_hidden()
    style = figure.locator("img").evaluate(
        "i => (({backgroundImage, printColorAdjust}) => [backgroundImage, printColorAdjust])(getComputedStyle(i))"
    )
    assert style[0].startswith('url("data:image/')
    assert style[1] == "exact"


def test_the_handout_is_one_printed_page(open_page):
    page = open_page("docs/handout.html")
    margin = dict.fromkeys(("top", "right", "bottom", "left"), "10mm")
    for paper in ("A4", "Letter"):
        assert pages_of(page.pdf(format=paper, margin=margin)) == 1


def pages_of(pdf: bytes) -> int:
    """How many pages a PDF of Chromium has."""
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf))


def test_a_longer_page_is_more_than_one(open_page):
    assert pages_of(open_page("docs/results.html").pdf(format="A4")) > 1


def test_the_site_opens_from_a_folder_whose_name_has_spaces_and_umlauts(tmp_path, browser):
    place = tmp_path / "Bücher für alle"
    Path(place).symlink_to(SITE, target_is_directory=True)
    with browser.new_context(offline=True) as context:
        page = context.new_page()
        page.goto((place / LIVE[0]).absolute().as_uri())
        panels_of(page)
        figure = page.locator("figure[data-frames]").first
        before = figure.locator("img").get_attribute("src")
        figure.locator("input[type=range]").first.press("End")
        assert figure.locator("img").get_attribute("src") != before


def test_every_exported_name_is_in_the_reference():
    import hmpo_lib
    from hmpo_lib import lm, optim

    for module, page in ((hmpo_lib, "core"), (lm, "lm"), (optim, "optim")):
        text = (SITE / "api" / f"{page}.html").read_text(encoding="utf-8")
        assert [name for name in module.__all__ if f'id="{module.__name__}.{name}"' not in text] == []
