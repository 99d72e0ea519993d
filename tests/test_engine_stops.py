"""An engine that goes away in mid-run, and comes back: on an engine of the test's own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import docker
import pytest
from own_engine import NEEDED, OwnEngine, own_engine
from waiting import seconds_until

pytestmark = NEEDED

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


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with own_engine() as engine:
        yield engine


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
