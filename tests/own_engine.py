"""Engines of a test's own, with our image, beside the one everybody uses."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from waiting import seconds_until

from agentbox_magic import images

NEEDED = [
    pytest.mark.skipif(os.getuid() != 0, reason="only root can start another engine"),
    pytest.mark.skipif(shutil.which("dockerd") is None, reason="there is no dockerd to start another engine with"),
]
"""What a test of one needs."""

_numbers = itertools.count()


@contextlib.contextmanager
def short_folder(name: str) -> Iterator[Path]:
    """A directory with a short name, as sockets need."""
    folder = Path("/tmp") / f"agentbox-{name}-{os.getpid()}-{next(_numbers)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def load_image(host: str) -> None:
    """Our image, from the engine everybody uses."""
    save = subprocess.Popen(["docker", "save", images.default_image()], stdout=subprocess.PIPE)
    subprocess.run(["docker", "--host", host, "load", "-q"], stdin=save.stdout, check=True, capture_output=True)
    assert save.stdout is not None
    save.stdout.close()
    assert save.wait() == 0


def answers(host: str) -> bool:
    done = subprocess.run(["docker", "--host", host, "version"], check=False, capture_output=True)
    return done.returncode == 0


class OwnEngine:
    """A dockerd with its own directories, socket and configuration."""

    def __init__(self, folder: Path, configuration: dict[str, Any]) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/docker.sock"
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "daemon.json").write_text(json.dumps(configuration), "utf-8")

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                # A network namespace of its own: an engine tidies away the bridge of another.
                ["unshare", "--net", "dockerd", f"--config-file={self.folder}/daemon.json", f"--host={self.host}",
                 f"--data-root={self.folder}/data", f"--exec-root={self.folder}/exec", f"--pidfile={self.folder}/pid",
                 "--iptables=false"],
                stdout=log, stderr=log,
            )  # fmt: skip
        seconds_until(lambda: answers(self.host), within=60)

    def end(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(60)


@contextlib.contextmanager
def own_engine(**configuration: Any) -> Iterator[OwnEngine]:
    """Start one, and give it our image.

    Args:
        configuration: as in ``daemon.json``.
    """
    with short_folder("engine") as folder:
        engine = OwnEngine(folder, configuration)
        try:
            engine.start()
            load_image(engine.host)
            yield engine
        finally:
            engine.end()
            subprocess.run(["umount", "-l", f"{folder}/exec"], check=False, capture_output=True)


@contextlib.contextmanager
def frozen(engine: OwnEngine) -> Iterator[None]:
    """The engine does nothing, nor does its containerd."""
    assert engine.process is not None
    daemon = psutil.Process(engine.process.pid)
    both = [daemon, *(one for one in daemon.children() if one.name() == "containerd")]
    for one in both:
        one.suspend()
    try:
        yield
    finally:
        for one in both:
            one.resume()
