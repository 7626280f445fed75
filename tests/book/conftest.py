"""The book as a reader opens it: from a folder, in headless Chromium, without a network."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from ..browser.lab_server import CHROMIUM, ROOT, launch_chromium

SITE = ROOT / "book" / "_build" / "html"
PAGES = sorted(
    path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if "_static" not in path.relative_to(SITE).parts
)
LIVE = [path for path in PAGES if 'data-frames="' in (SITE / path).read_text(encoding="utf-8")]
NEED_NO_SITE = ("test_answer_key.py", "test_pages.py", "test_requirements.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.path.name not in NEED_NO_SITE:
            if not (SITE / "index.html").exists():
                item.add_marker(pytest.mark.skip(reason="no book: make book"))
            if CHROMIUM is None and "browser" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.skip(reason="no Chromium on the PATH (Debian: apt-get install chromium)"))


def panels_of(page: Page) -> list[Locator]:
    """All panels of the page, brought to life, those in folds included."""
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    figures = page.locator("figure[data-frames]").all()
    for figure in figures:
        figure.scroll_into_view_if_needed()
        expect(figure).to_have_attribute("data-live", "yes", timeout=30_000)
    return figures


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium, with a fresh profile."""
    with sync_playwright() as playwright:
        chromium = launch_chromium(playwright)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page of the site by its path; what it asks of elsewhere fails, and is listed in ``page.elsewhere``."""
    contexts: list[BrowserContext] = []

    def opened(path: str, *, width: int = 1400, **options: object) -> Page:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options))
        page = contexts[-1].new_page()
        page.elsewhere = []
        page.on("request", lambda request: page.elsewhere.append(request.url))
        file, _, query = path.partition("?")
        page.goto((SITE / file).as_uri() + (f"?{query}" if query else ""))
        return page

    yield opened
    for context in contexts:
        context.close()
