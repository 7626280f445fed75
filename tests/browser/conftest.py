"""JupyterLab on a copy of the notebooks, and a headless Chromium that looks at it.

Fixtures live as long as one module, not the session: while Playwright's synchronous interface is open, its event loop
occupies the thread, and other tests' `asyncio.run` would refuse to start.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from .lab_server import CHROMIUM, ROOT, Lab, OpenNotebook, launch_chromium, serve


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="no Chromium on the PATH (Debian: apt-get install chromium)"))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab on the loopback, with settings of its own, serving a copy of the repository's notebooks and data."""
    home = tmp_path_factory.mktemp("lab")
    for part in ("notebooks", "data"):
        shutil.copytree(ROOT / part, home / "work" / part, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    with serve(home, HMPO_FAST="1") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium, with a fresh profile."""
    with sync_playwright() as playwright:
        chromium = launch_chromium(playwright)
        yield chromium
        chromium.close()


@pytest.fixture
def open_notebook(lab: Lab, browser: Browser) -> Iterator[Callable[[str], OpenNotebook]]:
    """Opens a notebook by its path in `lab.folder`, as a reader does who has run nothing yet."""
    with browser.new_context(viewport={"width": 1280, "height": 1100}) as context:
        yield lambda path: lab.open(context.new_page(), path)
