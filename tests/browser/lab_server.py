"""A JupyterLab of its own on the loopback, and a headless Chromium that opens a notebook in it.

For the browser tests and the benchmark alike: nothing here knows of pytest.
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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, Playwright, expect

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
        """Wait until every code cell has its number: none shows the star of a cell that runs or waits.

        A collapsed check has a placeholder in place of its number, so a notebook has to end with a visible cell.
        """
        numbered = "p => /\\d/.test(p.textContent)"
        prompts = ".jp-CodeCell .jp-InputPrompt:not(.jp-Placeholder-prompt)"
        self.page.wait_for_function(
            f"() => [...document.querySelectorAll('{prompts}')].every({numbered})",
            timeout=seconds * 1000,
        )


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: where it listens, what it asks for, and the folder it serves."""

    url: str
    token: str
    folder: Path

    def open(self, page: Page, path: str) -> OpenNotebook:
        """Open a notebook of the folder in this page, as a reader does who has run nothing yet."""
        page.goto(f"{self.url}/lab/tree/{path}?reset&token={self.token}")
        expect(page.locator(".jp-Notebook .jp-Cell").first).to_be_visible(timeout=START_SECONDS * 1000)
        expect(page.get_by_text("(ipykernel) | Idle")).to_be_visible(timeout=START_SECONDS * 1000)
        return OpenNotebook(page)


@contextmanager
def serve(home: Path, **environment: str) -> Iterator[Lab]:
    """JupyterLab with settings of its own, serving the folder `work` of this one, until the block is left."""
    folder = home / "work"
    folder.mkdir(exist_ok=True)
    for name, settings in SETTINGS.items():
        path = home / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings), encoding="utf-8")
    (home / "config").mkdir()
    shutil.copy(ROOT / ".jupyter" / "jupyter_server_config.py", home / "config")
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lab = Lab(f"http://127.0.0.1:{port}", secrets.token_hex(16), folder)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={lab.token}"]
    command += [f"--ServerApp.root_dir={folder}", "--LabApp.extension_manager=readonly"]
    log_path = home / "log.txt"
    with (
        log_path.open("w") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            _wait_until_up(lab, server, log_path)
            yield lab
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
    raise RuntimeError(f"JupyterLab did not start within {START_SECONDS} s:\n{log_path.read_text()[-2000:]}")


def launch_chromium(playwright: Playwright) -> Browser:
    """Headless Chromium, with a fresh profile."""
    if CHROMIUM is None:
        raise RuntimeError("no Chromium on the PATH (Debian: apt-get install chromium)")
    return playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_OPTIONS))
