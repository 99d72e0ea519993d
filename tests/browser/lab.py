"""A real JupyterLab and a real browser, driven as a person drives them."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, Request
from waiting import seconds_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
TIMEOUT = 90_000
"""Milliseconds that anything may take on a busy machine."""

_SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # All cells are on the page, not only those that are in sight.
    "notebook-extension/tracker": {"windowingMode": "none", "recordTiming": False},
}


_HOMES = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")


class Beacon:
    """A server of somebody else: what reaches it has left the page. It answers "no content", so that a page which
    navigates to it stays.

    Attributes:
        hits: the paths that were asked for.
        connections: how many there were, those included that asked for nothing.
    """

    def __init__(self) -> None:
        self.hits: list[str] = []
        self.connections = 0
        beacon = self

        class Handler(BaseHTTPRequestHandler):
            def setup(self) -> None:
                beacon.connections += 1
                super().setup()

            def do_GET(self) -> None:
                beacon.hits.append(self.path.strip("/").split("?")[0])
                self.send_response(204)
                self.send_header("Access-Control-Allow-Origin", "*")
                self.end_headers()

            do_POST = do_GET  # noqa: N815  # the name is http.server's

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def start_browser(playwright: Playwright) -> Browser:
    """Chromium, with a profile of its own that is gone afterwards."""
    assert CHROMIUM
    return playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


class Lab:
    """A JupyterLab server of our own, with its own settings, on notebooks in ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root / "notebooks"
        self.root.mkdir(parents=True)
        for name, settings in _SETTINGS.items():
            path = root / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings))
        self.token = secrets.token_hex(8)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        home = {name: str(root / name.lower()) for name in _HOMES}
        environment = {
            **os.environ,
            **home,
            "JUPYTERLAB_SETTINGS_DIR": str(root / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(root / "workspaces"),
        }
        self._log = (root / "lab.log").open("wb")
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
                "--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}",
                f"--ServerApp.root_dir={self.root}",
                "--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly",
            ],
            env=environment, stdout=self._log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        seconds_until(self._answers, within=60)

    def _answers(self) -> bool:
        assert self._process.poll() is None, Path(self._log.name).read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/api?token={self.token}"):  # noqa: S310  # our own address
                return True
        except (urllib.error.URLError, ConnectionError):
            return False

    def write(self, name: str, cells: list[str]) -> None:
        """Make a notebook of code cells. An error in one does not keep the next from running."""
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
        for source in cells:
            cell = nbformat.v4.new_code_cell(source)
            cell.metadata["tags"] = ["raises-exception"]
            notebook.cells.append(cell)
        nbformat.write(notebook, self.root / name)

    def read(self, name: str) -> Any:
        return nbformat.read(self.root / name, as_version=4)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()


@contextmanager
def serve(root: Path) -> Iterator[Lab]:
    lab = Lab(root)
    try:
        yield lab
    finally:
        lab.close()


class Notebook:
    """One notebook open in a browser page of its own.

    Attributes:
        requests: to anything but the server, by the page, its frames, and pages that it opened.
    """

    def __init__(self, context: BrowserContext, lab: Lab, name: str) -> None:
        self._lab = lab
        self.name = name
        self.requests: list[str] = []
        self.context = context
        context.set_default_timeout(TIMEOUT)
        context.on("requestfinished", self._note)
        context.on("requestfailed", lambda request: request.failure == "csp" or self._note(request))
        self.page: Page = context.new_page()
        self.page.on("dialog", lambda dialog: dialog.accept())
        self.open()

    def _note(self, request: Request) -> None:
        if not request.url.startswith((self._lab.url, "data:", "blob:", "about:")):
            self.requests.append(request.url)

    def open(self) -> None:
        self.page.goto(f"{self._lab.url}/lab/tree/{self.name}?reset&token={self._lab.token}")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self.page.wait_for_function(
            "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
        )

    def command(self, name: str, *, wait: bool = True, **arguments: Any) -> None:
        """Run one of JupyterLab's commands, to its end if ``wait``."""
        self.page.evaluate(
            "([name, args, wait]) => { const done = window.jupyterapp.commands.execute(name, args);"
            " return wait ? done.then(() => null) : null }",
            [name, arguments, wait],
        )

    def run_all(self) -> None:
        self.command("notebook:run-all-cells")
        self.wait_until_idle()

    def wait_until_idle(self) -> None:
        """Until all cells have run."""
        self.page.wait_for_function(
            "() => { const panel = window.jupyterapp.shell.currentWidget;"
            " const cells = panel.content.widgets.map(cell => cell.model).filter(model => model.type === 'code');"
            " return panel.sessionContext.session.kernel.status === 'idle'"
            " && cells.every(model => model.executionCount !== null && model.executionState !== 'running') }"
        )

    def shut_down(self) -> None:
        """End the kernel."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")

    def outputs(self) -> list[str]:
        """The text of each cell's output area, as it is seen."""
        texts = self.page.evaluate(
            "() => [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')]"
            ".map(cell => cell.querySelector('.jp-Cell-outputArea')?.innerText ?? '')"
        )
        return [" ".join(text.split()) for text in texts]

    def pictures(self) -> int:
        """How many pictures are in the output areas."""
        return self.page.locator(".jp-Cell-outputArea img").count()

    def click_everything(self, pause: float) -> None:
        """One after the other, all that can be clicked in the outputs, but for addresses in plain text that JupyterLab
        itself made links of. (In milliseconds: a click cuts short what the one before it began.)"""
        for frame in self.page.frames:
            where = ".jp-Cell-outputArea " if frame == self.page.main_frame else ""
            for element in frame.query_selector_all(f"{where}:is(a, button, input, area)"):
                element.evaluate("one => { if (one.getAttribute('href') !== one.textContent) one.click() }")
                self.page.wait_for_timeout(pause)

    def scripts(self) -> list[str]:
        """What scripts have left on any document of the page, see hostile.py."""
        ran = [frame.evaluate("() => document.documentElement.dataset.ran") for frame in self.page.frames]
        return [name for name in ran if name]

    def close(self) -> None:
        self.context.close()
