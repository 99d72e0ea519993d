"""Podman behind its Docker-compatible socket: the core of the conformance suite, on a service of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_engine import answers, load_image, short_folder
from waiting import seconds_until

from agentbox_magic import PolicyError, Sandbox, doctor
from agentbox_magic.engine import Engine

TESTS = Path(__file__).parent
CORE = ["conformance/test_execution.py", "conformance/test_streams.py", "conformance/test_endings.py",
        "test_readback.py::test_every_wall_of_a_box_holds"]  # fmt: skip

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="only root can start a rootful Podman"),
    pytest.mark.skipif(shutil.which("podman") is None, reason="Podman is not installed (Debian package podman)"),
]


@pytest.fixture(scope="module", autouse=True)
def podman() -> Iterator[str]:
    """The address of a Podman service."""
    with (
        short_folder("podman") as folder,
        pytest.MonkeyPatch.context() as monkeypatch,
        (folder / "log").open("wb") as log,
    ):
        host = f"unix://{folder}/podman.sock"
        storage = [f"--root={folder}/root", f"--runroot={folder}/run", f"--tmpdir={folder}/tmp"]
        runtime = shutil.which("runc") or "crun"
        command = [
            "podman",
            *storage,
            "--runtime",
            runtime,
            "--cgroup-manager=cgroupfs",
            "system",
            "service",
            "--time=0",
        ]
        service = subprocess.Popen(
            [*command, host], stdout=log, stderr=log, cwd=folder
        )  # where it notes what ran out of memory
        try:
            seconds_until(lambda: answers(host), within=60)
            load_image(host)
            monkeypatch.setenv("DOCKER_HOST", host)
            yield host
        finally:
            service.terminate()
            service.wait(30)
            subprocess.run(["podman", *storage, "rm", "-fa", "-t", "0"], check=False, capture_output=True)
            subprocess.run(["podman", *storage, "system", "reset", "-f"], check=False, capture_output=True)


def test_it_is_podman() -> None:
    assert Engine.connect().traits.podman


@pytest.mark.timeout(600)
def test_the_core_of_the_conformance_suite(podman: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *CORE],
        cwd=TESTS, env={**os.environ, "DOCKER_HOST": podman}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]


def test_files_and_terminals_of_the_box() -> None:
    with Sandbox.create(mem="256m", pty=True) as box:
        box.files.write("/workspace/a", b"x" * 300_000)
        assert len(box.files.read("/workspace/a", format="bytes")) == 300_000
        assert box.commands.run('test "$(stat -c %u /workspace)" = "$(id -u)"').exit_code == 0
        assert box.run_code("__import__('pty').openpty() and 1").text == "1"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("open('/run/x', 'w')", "Read-only file system"),
        ("open('/var/tmp/x', 'w')", "Read-only file system"),
        ("open('/workspace/x', 'wb').write(bytes(200 * 2**20))", "No space left"),
        ("__import__('socket').socket(40)", "Operation not permitted"),
        ("__import__('socket').create_connection(('1.1.1.1', 53), 2)", "Network is unreachable"),
        ("__import__('pty').openpty()", "out of pty devices"),
        ("assert open('/proc/vmstat').read(), 'it is empty'", "it is empty"),
        ("[__import__('threading').Thread(target=__import__('time').sleep, args=(1,)).start() for _ in range(60)]",
         "can't start new thread"),
    ],
)  # fmt: skip
def test_what_a_box_may_not_do(code: str, error: str) -> None:
    with Sandbox.create() as box:
        run = box.run_code(code)
    assert run.error is not None
    assert error in str(run.error)


def test_a_runtime_that_podman_does_not_take_is_noticed() -> None:
    """Its service has one runtime, whatever a container asks for."""
    with pytest.raises(PolicyError, match=r"the engine has another Runtime"):
        Sandbox.create(runtime="crun")


def test_the_doctor_finds_all_walls() -> None:
    report = doctor.run(Engine.connect())
    assert report.ok, str(report)
    assert report.engine.startswith("Podman")
    with Sandbox.create() as box:
        assert box.get_info().walls == report.badge().replace("caps 0, ", "")
