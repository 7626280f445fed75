"""The book as a reader opens it: from a folder, in headless Chromium, without a network."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from ..browser.lab_server import CHROMIUM, ROOT, launch_chromium

SITE = ROOT / "book" / "_build" / "html"
WIDTHS = (1400, 390)
NEED_NO_SITE = ("test_answer_key.py", "test_pages.py", "test_requirements.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.path.name not in NEED_NO_SITE:
            if not (SITE / "index.html").exists():
                item.add_marker(pytest.mark.skip(reason="no book: make book"))
            if CHROMIUM is None and "open_page" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.skip(reason="no Chromium on the PATH (Debian: apt-get install chromium)"))


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

    def opened(path: str, *, width: int = WIDTHS[0], **options: object) -> Page:
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
