"""JupyterLab on a copy of the notebooks, and a headless Chromium that looks at it.

Fixtures live as long as one module, not the session: while Playwright's synchronous interface is open, its event loop
occupies the thread, and other tests' `asyncio.run` would refuse to start.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
CHROMIUM_OPTIONS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    *(("--no-sandbox",) if getattr(os, "geteuid", lambda: 1)() == 0 else ()),  # Chromium as root has no sandbox
)
START_SECONDS = 60
# Without the windowing every cell is on the page, in sight or not; without the news nothing is asked of the network.
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="no Chromium on the PATH (Debian: apt-get install chromium)"))


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: where it listens, what it asks for, and the folder it serves."""

    url: str
    token: str
    folder: Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab on the loopback, with settings of its own, serving a copy of the repository's notebooks and data."""
    home = tmp_path_factory.mktemp("lab")
    folder = home / "work"
    for part in ("notebooks", "data"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name, settings in SETTINGS.items():
        path = home / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings), encoding="utf-8")
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "HMPO_FAST": "1",
        "OMP_NUM_THREADS": "1",
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = Lab(f"http://127.0.0.1:{port}", secrets.token_hex(16), folder)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={running.token}"]
    command += [f"--ServerApp.root_dir={folder}", "--LabApp.extension_manager=readonly"]
    log_path = home / "log.txt"
    with (
        log_path.open("w") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            _wait_until_up(running, server, log_path)
            yield running
        finally:
            server.terminate()


def _wait_until_up(lab: Lab, server: subprocess.Popen, log_path: Path) -> None:
    request = urllib.request.Request(f"{lab.url}/api/status", headers={"Authorization": f"token {lab.token}"})
    without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with without_proxy.open(request, timeout=2):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start within {START_SECONDS} s:\n{log_path.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium, with a fresh profile."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_OPTIONS))
        yield chromium
        chromium.close()


@dataclass(frozen=True)
class OpenNotebook:
    """A notebook open in JupyterLab, as a reader has it."""

    page: Page

    def run_all(self) -> None:
        """Run > Run All Cells, without waiting for their end."""
        self.menu("Run", "Run All Cells")

    def menu(self, name: str, entry: str) -> None:
        """Choose an entry of the menu bar."""
        self.page.get_by_role("menuitem", name=name, exact=True).click()
        self.page.get_by_role("menuitem", name=entry).first.click()

    def wait_until_run(self, *, seconds: float = 120) -> None:
        """Wait until every code cell has its number: none shows the star of a cell that runs or waits."""
        numbered = "p => /\\d/.test(p.textContent)"
        self.page.wait_for_function(
            f"() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].every({numbered})",
            timeout=seconds * 1000,
        )


@pytest.fixture
def open_notebook(lab: Lab, browser: Browser) -> Iterator[Callable[[str], OpenNotebook]]:
    """Opens a notebook by its path in `lab.folder`, as a reader does who has run nothing yet."""
    with browser.new_context(viewport={"width": 1280, "height": 1100}) as context:

        def open_page(path: str) -> OpenNotebook:
            page = context.new_page()
            page.goto(f"{lab.url}/lab/tree/{path}?reset&token={lab.token}")
            expect(page.locator(".jp-Notebook .jp-Cell").first).to_be_visible(timeout=START_SECONDS * 1000)
            expect(page.get_by_text("(ipykernel) | Idle")).to_be_visible(timeout=START_SECONDS * 1000)
            return OpenNotebook(page)

        yield open_page
