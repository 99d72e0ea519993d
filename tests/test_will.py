"""Nothing is left of what a process had created and not started, however it ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest
from docker.errors import NotFound
from slow_engine import slow_engine
from waiting import seconds_until
from wills import BETWEEN, wills

from agentbox_magic import hardening, will

PROMISED = 5.0
"""Seconds."""

NO_WILL = """
will.in_force = lambda where: contextlib.nullcontext()
place, boot = owner._place()
owner._place = lambda: ("another-" + place, boot)  # so that no other test sweeps what it leaves
"""


@pytest.fixture
def begin(client: docker.DockerClient) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Starts one, and gives it and the id of its container."""
    begun: list[tuple[subprocess.Popen[str], str]] = []

    def one(options: str = "", before: str = "", then: str = "", **more: Any) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", BETWEEN.format(options=options, before=before, then=then)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **more,
        )  # fmt: skip
        assert process.stdout is not None
        begun.append((process, process.stdout.readline().strip()))
        assert state(client, begun[-1][1]) == "created"
        return begun[-1]

    yield one
    for process, container in begun:
        process.kill()
        with process:
            pass
        if state(client, container):
            client.api.remove_container(container, force=True)
        for one in wills(process.pid):
            one.kill()


def state(client: docker.DockerClient, container: str) -> str:
    """Empty if there is no such container."""
    try:
        return str(client.api.inspect_container(container)["State"]["Status"])
    except NotFound:
        return ""


@pytest.mark.parametrize("options", ["", "detach=True"], ids=["its own", "detached"])
def test_a_killed_process_leaves_no_created_container(
    begin: Callable[..., tuple[subprocess.Popen[str], str]], client: docker.DockerClient, options: str
) -> None:
    without, stays = begin(options, NO_WILL)
    alive, untouched = begin(options)
    doomed, goes = begin(options)
    for process in (without, doomed):
        process.kill()
    seconds_until(lambda: not state(client, goes), within=PROMISED)
    assert state(client, stays) == "created"  # what would happen without a will
    assert state(client, untouched) == "created"
    assert doomed.wait() == -signal.SIGKILL
    seconds_until(lambda: not wills(doomed.pid), within=30)
    assert len(wills(alive.pid)) == 1
    assert not wills(without.pid)


@pytest.mark.parametrize(
    "then",
    [
        pytest.param("os._exit(0)", id="an exit that asks nobody"),
        pytest.param("os.kill(os.getpid(), signal.SIGTERM)", id="a polite signal"),
        pytest.param("os.closerange(3, 1000); os.kill(os.getpid(), 9)", id="without its descriptors"),
    ],
)
def test_other_ends(
    begin: Callable[..., tuple[subprocess.Popen[str], str]], client: docker.DockerClient, then: str
) -> None:
    process, container = begin(then=then)
    assert process.stdin is not None
    process.stdin.close()
    seconds_until(lambda: not state(client, container), within=PROMISED)


def test_a_process_that_closes_its_descriptors_keeps_its_boxes(
    begin: Callable[..., tuple[subprocess.Popen[str], str]], client: docker.DockerClient
) -> None:
    """The end of the pipe is not taken for its death."""
    process, container = begin(then="os.closerange(3, 1000); print('closed', flush=True); sys.stdin.read()")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "closed\n"
    seconds_until(lambda: not wills(process.pid), within=30)
    assert state(client, container) == "created"


FORK = """
def fork():
    if os.fork() == 0:
        os.close(0); os.close(1)
        signal.pause()
with will.in_force(Engine.connect().where): pass  # it is there before the fork
fork()
"""


def test_a_fork_does_not_hold_it_up(
    begin: Callable[..., tuple[subprocess.Popen[str], str]], client: docker.DockerClient
) -> None:
    process, container = begin(before=FORK, then="fork(); print('forked', flush=True); sys.stdin.read()")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "forked\n"
    owner = psutil.Process(process.pid)
    seconds_until(lambda: len(owner.children()) == 2, within=30)  # the shell that has started the will has ended
    forks = owner.children()
    process.kill()
    try:
        seconds_until(lambda: not state(client, container), within=PROMISED)
        assert all(fork.is_running() for fork in forks)
    finally:
        for fork in forks:
            fork.kill()


def test_ctrl_c_of_the_terminal_is_not_for_it(
    begin: Callable[..., tuple[subprocess.Popen[str], str]], client: docker.DockerClient
) -> None:
    process, container = begin(before="signal.signal(signal.SIGINT, signal.SIG_IGN)", start_new_session=True)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGKILL):
        os.killpg(process.pid, number)
    seconds_until(lambda: not state(client, container), within=PROMISED)


USER = """
import os, subprocess, sys
from agentbox_magic import Sandbox, will
command = will._WAIT.replace('exec "$@"', "touch {marker}; false")
assert command != will._WAIT
will._WAIT = command
with Sandbox.create() as box:
    print(box.run_code("6 * 7").text, flush=True)
    sys.stdin.readline()
{end}
"""


@pytest.mark.parametrize(("end", "executed"), [("", False), ("os._exit(0)", True)], ids=["normal", "sudden"])
def test_it_waits_quietly_and_a_normal_end_revokes_it(tmp_path: Path, end: str, executed: bool) -> None:
    marker = tmp_path / "marker"
    with subprocess.Popen(
        [sys.executable, "-c", USER.format(marker=marker, end=end)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as user:
        assert user.stdout is not None
        assert user.stdin is not None
        assert user.stdout.readline() == b"42\n"
        (waiting,) = wills(user.pid)
        seconds_until(
            lambda: not psutil.Process(user.pid).children(), within=30
        )  # so it cannot be a zombie of its owner's
        assert {os.readlink(f"/proc/{waiting.pid}/fd/{fd}") for fd in (1, 2)} == {os.devnull}
        assert os.getsid(waiting.pid) not in (os.getsid(0), os.getsid(user.pid))
        assert waiting.memory_info().rss < 4 * 2**20
        user.stdin.close()
        assert user.stdout.read() == b""  # which it does not hold open
        seconds_until(lambda: not wills(user.pid), within=30)
    assert marker.exists() == executed


# -- a creation that is asked for and never answered -------------------------------------------------------------------

INTERRUPTED = """
import sys
from agentbox_magic import Sandbox, SandboxError, will
{before}
try:
    Sandbox.create()
except (KeyboardInterrupt, SandboxError) as error:
    print(type(error).__name__, flush=True)
    sys.stdin.readline()
"""
NOT_REMOVED = "will._remove_late = lambda engine, name: None"


@pytest.mark.parametrize("late", [False, True], ids=["created and not answered", "created afterwards"])
@pytest.mark.parametrize("before", ["", NOT_REMOVED], ids=["", "only by the will"])
@pytest.mark.parametrize("interrupted", [True, False], ids=["an interrupt", "the engine hangs up"])
def test_a_creation_without_an_answer(client: docker.DockerClient, before: str, late: bool, interrupted: bool) -> None:
    with slow_engine(late=late) as engine:
        with subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED.format(before=before)],
            env={**os.environ, "DOCKER_HOST": engine.host, "AGENTBOX_POOL": "0"},  # which would create others
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as user:  # fmt: skip
            assert user.stdout is not None
            assert user.stdin is not None
            assert engine.asked.wait(60)
            if not interrupted:
                engine.hang_up()
            said: list[Any] = []
            while (
                interrupted and not said
            ):  # a signal just before a system call is heard after it: a person presses once more
                user.send_signal(signal.SIGINT)
                said = select.select([user.stdout], [], [], 2 * will.PROMPT_SECONDS)[0]
            assert user.stdout.readline() == ("KeyboardInterrupt\n" if interrupted else "EngineUnavailableError\n")
            assert engine.name.startswith(hardening.LABEL)
            if before:  # what would be left
                seconds_until(lambda: state(client, engine.name) == "created", within=30)
            else:
                seconds_until(lambda: state(client, engine.name) == "", within=PROMISED)
            user.stdin.close()
        assert user.returncode == 0
        if before:  # it knows that something may have been left, and acts at a normal end too
            seconds_until(lambda: not state(client, engine.name), within=PROMISED)
        seconds_until(lambda: not wills(user.pid), within=30)
