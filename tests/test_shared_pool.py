"""Detached boxes that wait for ``agentbox init --use-pool``: each call a process of its own, as from a shell."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest
from command import COMMAND
from relays import relay_of, relays
from waiting import seconds_until

from agentbox_magic import Sandbox, derived, hardening, shared_pool
from agentbox_magic.engine import Engine
from agentbox_magic.limits import Limits

START = 60.0
MIB = 2**20


@pytest.fixture(scope="module", autouse=True)
def _alone() -> Iterator[None]:
    """What waits, waits for all processes of this user: other tests of this kind, too."""
    with Path("/tmp/agentbox-test-shared-pool.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shared_pool.drain(Engine.connect())
        yield


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The ids of the boxes that a test has taken. At the end none is left, nor any that waits."""
    monkeypatch.setenv("AGENTBOX_POOL", "2")
    made: list[str] = []
    yield made
    seconds_until(lambda: not fillers(), START)
    ended = {*made, *shared_pool.drain(Engine.connect())}
    for one in made:
        Engine.connect().remove(one)
    seconds_until(lambda: not any(relays(one) for one in ended), within=START)


def agentbox(*words: str, code: int = 0) -> Any:
    done = subprocess.run([*COMMAND, words[0], "--json", *words[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == code, done
    return json.loads(done.stdout)


@pytest.fixture
def init(made: list[str]) -> Callable[..., dict[str, Any]]:
    """Runs ``agentbox init --use-pool``."""

    def run(*words: str) -> dict[str, Any]:
        document: dict[str, Any] = agentbox("init", "--use-pool", *words)
        made.append(document["id"])
        return document

    return run


def waiting() -> list[str]:
    """What waits and can be taken, newest first."""
    found = shared_pool._waiting(Engine.connect())
    return [one["Id"] for one in found if not shared_pool._name(one).startswith(shared_pool._UNREADY)]


def fillers() -> list[psutil.Process]:
    """The processes that start what is to wait."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[1:3] == ["-m", "agentbox_magic.shared_pool"]:
                found.append(process)
    return found


def fill(count: int = 2) -> list[str]:
    """Wait until so many wait, and nobody makes more."""
    seconds_until(lambda: not fillers() and len(waiting()) == count, START)
    return waiting()


def run(box: str, line: str) -> str:
    return str(agentbox("exec", box, line)["stdout"])


def lifetime(box: str) -> float:
    with_it = Sandbox.connect(box)
    try:
        return float(with_it._link.info()["lifetime"])
    finally:
        with_it.disconnect()


MEMORY = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"
PIDS = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null"


def test_three_at_once_get_boxes_of_their_own(
    init: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTBOX_POOL", "3")
    first = init()["id"]
    ahead = fill(3)
    listed = {one["id"] for one in agentbox("ps")}
    assert first in listed
    assert not listed & set(ahead)
    assert not {info.sandbox_id for info in Sandbox.list()} & set(ahead)

    def one(number: int) -> tuple[str, str]:
        box = init("--mem", f"{600 + number}m", "--pids", f"{20 + number}", "--env", f"WHO={number}")["id"]
        return box, run(box, f"echo $WHO; ls -A; touch here; {MEMORY}; {PIDS}; true")

    with ThreadPoolExecutor(3) as threads:
        done = list(threads.map(one, range(3)))
    assert sorted(box for box, _ in done) == sorted(ahead)
    assert [said for _, said in done] == [f"{n}\n{(600 + n) * MIB}\n{20 + n}\n" for n in range(3)]
    listed_limits = {info.sandbox_id: info.limits for info in Sandbox.list()}
    assert [listed_limits[box] for box, _ in done] == [Limits.of(f"{600 + n}m", pids=20 + n) for n in range(3)]
    assert not set(fill(3)) & set(ahead)


def test_many_at_once_never_share_one(init: Callable[..., dict[str, Any]]) -> None:
    init()
    fill()
    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(lambda _: init()["id"], range(8)))
    assert len(set(done)) == 8


def test_its_lifetime_is_the_callers(init: Callable[..., dict[str, Any]]) -> None:
    init()
    ahead = fill()
    assert all(0 < lifetime(box) <= shared_pool.LIFETIME for box in ahead)
    stays = init()["id"]
    assert 3500 < lifetime(stays) <= 3600
    goes = init("--timeout", "2")["id"]
    assert {stays, goes} == set(ahead)
    seconds_until(lambda: goes not in {one["id"] for one in agentbox("ps")}, within=20)
    seconds_until(lambda: not relays(goes), within=20)
    assert run(stays, "echo here") == "here\n"


def test_a_name(init: Callable[..., dict[str, Any]], made: list[str]) -> None:
    init()
    ahead = fill()
    name = f"red_fox-{os.getpid()}"
    box = init("--name", name, "--mem", "600m")["id"]
    assert box in ahead
    assert run(name, "echo here") == "here\n"
    assert [one["name"] for one in agentbox("ps") if one["id"] == box] == [name]
    assert [info.sandbox_id for info in Sandbox.list({"name": name})] == [box]
    assert "choose another" in agentbox("init", "--use-pool", "--name", name, code=125)["error"]["message"]
    connected = Sandbox.connect(box)
    assert connected.limits.mem == connected.get_info().limits.mem == 600 * MIB
    connected.disconnect()
    assert agentbox("kill", name) == {"killed": [box]}
    seconds_until(lambda: not relays(box), within=20)
    assert agentbox("kill", name, code=125)["error"]["type"] == "SandboxClosedError"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--mem", "128m"], id="smaller directories"),
        pytest.param(["--env", "PYTHONHASHSEED=1"], id="what the interpreter reads when it starts"),
    ],
)
def test_what_only_a_new_box_can_have(init: Callable[..., dict[str, Any]], words: list[str]) -> None:
    init()
    ahead = fill()
    box = init(*words)["id"]
    assert box not in ahead
    assert run(box, "echo here") == "here\n"


def test_another_image_has_its_own(init: Callable[..., dict[str, Any]], base: str) -> None:
    """And no more wait in all, whatever their kind."""
    init()
    ours = fill()
    first = init("--image", base)["id"]
    assert first not in ours
    seconds_until(lambda: not set(waiting()) & set(ours), START)
    theirs = fill()
    box = init("--image", base)["id"]
    assert box in theirs
    assert run(box, "echo here") == "here\n"


def test_a_dead_one_is_not_handed_out(init: Callable[..., dict[str, Any]], client: docker.DockerClient) -> None:
    init()
    ahead = fill()
    client.api.kill(ahead[0])
    box = init()["id"]
    assert box != ahead[0]
    assert run(box, "echo here") == "here\n"


def test_what_no_box_can_have_is_the_same_error(init: Callable[..., dict[str, Any]]) -> None:
    init()
    ahead = fill()
    refused = [agentbox("init", *pool, "--cpus", "4000", code=125)["error"] for pool in ([], ["--use-pool"])]
    assert refused[0] == refused[1]
    assert "CPU" in refused[0]["message"]
    assert len(set(waiting()) & set(ahead)) == 1  # nobody knows what has become of the one that was tried


def test_prune_ends_what_waits(init: Callable[..., dict[str, Any]], client: docker.DockerClient) -> None:
    box = init()["id"]
    ahead = fill()
    assert agentbox("prune")["waiting"] == ahead
    assert not set(ahead) & {one["Id"] for one in client.api.containers(all=True)}
    seconds_until(lambda: not any(relays(one) for one in ahead), within=20)
    assert run(box, "echo here") == "here\n"


def test_what_waits_ends_by_itself(monkeypatch: pytest.MonkeyPatch, client: docker.DockerClient) -> None:
    monkeypatch.setattr(shared_pool, "LIFETIME", 3.0)
    image, start = derived.prepare(Engine.connect(), None)
    shared_pool.refill(Limits(), hardening.Box(image=image, start=start, detached=True))
    ahead = fill()
    seconds_until(lambda: not set(ahead) & {one["Id"] for one in client.api.containers(all=True)}, within=20)
    seconds_until(lambda: not any(relays(one) for one in ahead), within=20)


def test_one_that_is_being_made_is_not_handed_out(
    init: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has looked at its walls yet."""
    init()
    ahead = fill()
    for number, one in enumerate(ahead):
        Engine.connect().rename(one, f"{shared_pool._UNREADY}{os.getpid()}-{number}")
    assert init()["id"] not in ahead
    Engine.connect().rename(ahead[0], f"{hardening.WARM}{os.getpid()}")
    assert init()["id"] == ahead[0]  # so it was the name


def test_its_relay_waits_as_long_as_it_does(init: Callable[..., dict[str, Any]]) -> None:
    init()
    (box, _) = fill()
    (old,) = relays(box)
    old.kill()
    old.wait(10)
    code = (
        "import sys; from agentbox_magic import relay; relay.IDLE_SECONDS = 0.2; "
        "sys.argv = ['agentbox_magic.relay', sys.argv[-1]]; relay.main()"
    )
    subprocess.run([sys.executable, "-c", code, "agentbox_magic.relay", box], check=True, capture_output=True)
    (mine,) = relays(box)
    cpu = mine.cpu_times()
    seconds_until(lambda: mine.cpu_times() > cpu, within=20)  # it has looked whether to go on
    assert init()["id"] == box
    assert relay_of(Sandbox.connect(box)) == mine
    seconds_until(lambda: not relays(box), within=20)  # without guests, as any


def test_none_waits_if_none_is_to_wait(init: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTBOX_POOL", "0")
    assert run(init()["id"], "echo here") == "here\n"
    assert waiting() == []
    with pytest.raises(ValueError, match="give detach=True too"):
        Sandbox.create(use_pool=True)
