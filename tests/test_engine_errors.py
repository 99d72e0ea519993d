"""An engine that is not there, may not be used, is too old, or cannot build: one clear line each, no stack trace."""

from __future__ import annotations

import os
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from agentbox_magic import ImageError, images, resources
from agentbox_magic.engine import Engine

CELL = """
from IPython.testing.globalipapp import start_ipython
import os, sys
{before}
shell = start_ipython()
shell.run_line_magic("load_ext", "agentbox_magic")
shell.run_cell("%%sandbox\\n1 + 1")
"""


def shown(before: str = "", **env: str) -> list[str]:
    """The lines a user sees of a cell, run in a Python of its own."""
    done = subprocess.run(
        [sys.executable, "-c", CELL.format(before=before)],
        env={**os.environ, "NO_COLOR": "1", **env}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return (done.stdout + done.stderr).strip().splitlines()


def test_no_engine(tmp_path: Path) -> None:
    assert shown(DOCKER_HOST=f"unix://{tmp_path}/none.sock") == [
        f"EngineUnavailableError: no Docker engine at unix://{tmp_path}/none.sock; start Docker, or install it "
        "(https://docs.docker.com/engine/install/), or set DOCKER_HOST"
    ]


def test_an_engine_that_is_not_running() -> None:
    assert shown(DOCKER_HOST="tcp://127.0.0.1:9") == [
        "EngineUnavailableError: the Docker engine at tcp://127.0.0.1:9 is not running; start it, or set DOCKER_HOST"
    ]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user without permission")
def test_no_permission(tmp_path: Path) -> None:
    socket = tmp_path / "docker.sock"
    tmp_path.chmod(0o755)
    with socketserver.UnixStreamServer(str(socket), socketserver.BaseRequestHandler):
        socket.chmod(0o600)
        for parent in [*tmp_path.parents][:-2]:
            parent.chmod(parent.stat().st_mode | 0o011)
        (line,) = shown("import agentbox_magic.sandbox; os.setuid(65534)", DOCKER_HOST=f"unix://{socket}", HOME="/tmp")
    assert line.startswith(f"EngineUnavailableError: no permission to use the Docker engine at unix://{socket}; add ")


class _OldEngine(BaseHTTPRequestHandler):
    """Answers as the engine of 2018 does: no real one of that age can be had."""

    def do_GET(self) -> None:
        body = b'{"Version": "18.03.1-ce", "ApiVersion": "1.37", "Arch": "amd64", "Os": "linux"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Not to stderr."""


@pytest.fixture
def old_engine() -> Iterator[str]:
    with socketserver.TCPServer(("127.0.0.1", 0), _OldEngine) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"tcp://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_an_old_engine(old_engine: str) -> None:
    assert shown(DOCKER_HOST=old_engine) == [
        "EngineUnavailableError: the Docker engine is 18.03.1-ce, which is too old; install 20.10 or newer"
    ]


def test_an_image_that_cannot_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No registry has this Python, and the base cannot be built here either."""
    shutil.copytree(resources.IMAGE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "build-base").write_text("echo 'mmdebstrap is not installed' >&2; exit 3\n", "utf-8")
    (tmp_path / "Dockerfile").write_text("FROM scratch\n", "utf-8")  # so that the engine has no image with it
    monkeypatch.setattr(resources, "IMAGE", tmp_path)
    monkeypatch.setattr(images, "python_minor", lambda: "3.0")
    images.default_image.cache_clear()
    try:
        with pytest.raises(ImageError) as caught:
            images.build(Engine.connect(), lambda text, part: None)
    finally:
        images.default_image.cache_clear()
    message = str(caught.value)
    assert message.startswith("the base image cannot be pulled (")
    assert "nor built here (mmdebstrap is not installed); load python:3.0-slim with docker load" in message
    assert "\n" not in message


def test_packages_that_cannot_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(resources.IMAGE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "requirements.txt").write_text(f"no-such-package-at-all==1.0 --hash=sha256:{'0' * 64}\n", "utf-8")
    monkeypatch.setattr(resources, "IMAGE", tmp_path)
    images.default_image.cache_clear()
    try:
        with pytest.raises(
            ImageError, match=r"the image's packages cannot be fetched with pip: ERROR: .*no-such-package"
        ):
            images.build(Engine.connect(), lambda text, part: None)
    finally:
        images.default_image.cache_clear()
