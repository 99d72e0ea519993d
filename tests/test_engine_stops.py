"""An engine that goes away in mid-run, and comes back: on an engine of the test's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from waiting import seconds_until

from agentbox_magic import images

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="only root can start another engine"),
    pytest.mark.skipif(shutil.which("dockerd") is None, reason="there is no dockerd to start another engine with"),
]

USER = """
import sys, time
from agentbox_magic import Sandbox
box = Sandbox.create()
print("created", flush=True)
start = time.monotonic()
run = box.run_code(
    "import os, time; os.write(1, b'partial')\\nwhile True: time.sleep(0.1)",
    on_stdout=lambda text: print("running", flush=True),
)
print(run.status, run.stdout, type(run.error).__name__, flush=True)
box.kill()
sys.stdin.readline()
with Sandbox.create() as box:
    print(box.run_code("6 * 7").text, flush=True)
"""


class OwnEngine:
    """A dockerd with its own directories and socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/docker.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                # A network namespace of its own: an engine tidies away the bridge of another.
                ["unshare", "--net", "dockerd", f"--host={self.host}", f"--data-root={self.folder}/data",
                 f"--exec-root={self.folder}/exec", f"--pidfile={self.folder}/pid", "--iptables=false"],
                stdout=log, stderr=log,
            )  # fmt: skip
        seconds_until(self.answers, within=60)

    def answers(self) -> bool:
        done = subprocess.run(["docker", "--host", self.host, "version"], check=False, capture_output=True)
        return done.returncode == 0

    def end(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(60)

    def load(self, source: docker.DockerClient, image: str) -> None:
        save = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
        subprocess.run(
            ["docker", "--host", self.host, "load", "-q"], stdin=save.stdout, check=True, capture_output=True
        )
        assert save.stdout is not None
        save.stdout.close()
        assert save.wait() == 0


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, client: docker.DockerClient) -> Iterator[OwnEngine]:
    # Sockets have short names.
    folder = Path("/tmp") / f"agentbox-engine-{os.getpid()}"
    folder.mkdir()
    engine = OwnEngine(folder)
    try:
        engine.start()
        engine.load(client, images.default_image())
        yield engine
    finally:
        engine.end()
        subprocess.run(["umount", "-l", f"{folder}/exec"], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(300)
def test_the_run_is_lost_and_the_next_call_works(engine: OwnEngine) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", USER],
        env={**os.environ, "DOCKER_HOST": engine.host}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as user:  # fmt: skip
        assert user.stdin is not None
        assert user.stdout is not None
        assert user.stdout.readline() == "created\n"
        assert user.stdout.readline() == "running\n"
        engine.end()
        gone = time.monotonic()
        assert user.stdout.readline() == "lost partial OutcomeUnknownError\n"
        assert time.monotonic() - gone < 10  # what a user is promised
        engine.start()
        user.stdin.write("go on\n")
        user.stdin.flush()
        assert user.stdout.readline() == "42\n"
    assert user.returncode == 0
    with contextlib.closing(docker.DockerClient(engine.host, version="auto")) as client:
        seconds_until(lambda: not client.containers.list(all=True, sparse=True), within=10)
