"""The built site: nothing from elsewhere, panels that move, stills without JavaScript, links that lead somewhere."""

import re
from functools import cache
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import expect

from .conftest import LIVE, PAGES, SITE, panels_of


def read(path):
    return (SITE / path).read_text(encoding="utf-8")


class References(HTMLParser):
    """What a page's tags point at: links and what is loaded, and the places in it that can be pointed at."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.places = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.places |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a":
            self.links.append(given.get("href"))
        elif tag in ("script", "img", "iframe", "source"):
            self.loaded.append(given.get("src"))
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(given.get("href"))


def references(path):
    return References(read(path))


@cache
def places_of(page):
    return References(page.read_text(encoding="utf-8")).places


@pytest.mark.parametrize("path", PAGES)
def test_every_link_within_the_site_leads_to_a_page_and_a_place_on_it(path):
    broken = []
    for link in filter(None, references(path).links):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (SITE / path).parent / unquote(parts.path) if parts.path else SITE / path
        if not target.exists() or (parts.fragment and unquote(parts.fragment) not in places_of(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("path", PAGES)
def test_formulas_are_in_the_page_and_none_could_not_be_read(path):
    text = read(path)
    assert "katex-error" not in text
    assert len(re.findall(r'class="math[ "]', text)) == text.count('<span class="katex">')


@pytest.mark.parametrize("path", PAGES)
def test_nothing_of_a_page_comes_from_elsewhere(path, open_page):
    page = open_page(path)
    page.wait_for_load_state("load")
    assert [url for url in page.elsewhere if not url.startswith(("file:", "data:"))] == []
    assert [url for url in references(path).loaded if url and urlsplit(url).scheme not in ("", "data")] == []


def seen(figure):
    """Picture, caption and alt text of a panel."""
    image = figure.locator("img")
    return image.get_attribute("src"), figure.locator("figcaption").inner_text(), image.get_attribute("alt")


@pytest.mark.parametrize("path", LIVE)
def test_every_panel_follows_its_keys_and_goes_back(path, open_page):
    page = open_page(path)
    for figure in panels_of(page):
        figure.get_by_role("button", name="Reset").click()
        start = seen(figure)
        for control in figure.locator("input[type=range], input[type=radio]:checked, select").all():
            moved = set()
            for key in ("Home", "End", "ArrowLeft", "ArrowRight"):
                control.press(key)
                moved.add(seen(figure))
            figure.get_by_role("button", name="Reset").click()
            assert seen(figure) == start
            assert moved - {start}, control.evaluate("(control) => control.labels[0].textContent")
        assert page.evaluate(
            "(image) => image.decode().then(() => image.naturalWidth)", figure.locator("img").element_handle()
        )


@pytest.mark.parametrize("path", [path for path in PAGES if 'class="hmpo-prediction"' in read(path)])
def test_choosing_an_option_opens_the_answer_and_no_other(path, open_page):
    page = open_page(path)
    asked = page.locator(".hmpo-prediction")
    for k in range(asked.count()):
        expect(asked.nth(k).locator("details")).not_to_have_attribute("open", re.compile(""))
        option = asked.nth(k).locator("ul button").last
        option.press("Enter")
        expect(asked.nth(k).locator("details")).to_have_attribute("open", "")
        expect(asked.nth(k).locator("summary")).to_have_text(f"You chose: {option.inner_text()}")


@pytest.mark.parametrize("path", LIVE)
def test_without_javascript_a_panel_is_its_still(path, open_page):
    page = open_page(path, java_script_enabled=False)
    for figure in page.locator("figure[data-frames]").all():
        expect(figure.locator("input, button, select")).to_have_count(0)
        source, _, alt = seen(figure)
        assert source.startswith("data:image/png;base64,")
        assert figure.locator("figcaption").text_content()
        assert alt


def test_the_search_finds_a_word_from_a_folder(open_page):
    page = open_page("search.html?q=harmonic")
    expect(page.locator("#search-results a").first).to_be_visible()
    assert re.search(r"[1-9]", page.locator("#search-results").inner_text())
