"""Nothing waits longer than it says, whatever is frozen: the box, its relay, the engine."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import docker
import pytest
from own_engine import NEEDED, OwnEngine, frozen, own_engine
from relays import relay_of
from waiting import seconds_until

from agent_executor.runs import MAX_ERRORS, MAX_RESULTS_BYTES, OVERHEAD, Run
from agent_executor.wire import Decoder, encode
from agentbox_magic import EngineUnavailableError, OutcomeUnknownError, Sandbox, SandboxError, files, launch, sandbox
from agentbox_magic.channel import PROTOCOL, Channel
from agentbox_magic.files import Files
from agentbox_magic.limits import Limits
from agentbox_magic.link import Link
from agentbox_magic.relay import SocketPipe

if TYPE_CHECKING:
    from agent_executor.cgroup import Cgroup

LATE = 5.0
"""What is promised: so long after its deadline a call returns."""
ROOM = 10.0
"""For a machine that does much else."""
BIG = bytes(20_000_000)
SHORT = 2.0


@contextlib.contextmanager
def returns_within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds + ROOM


@pytest.fixture
def paused() -> Iterator[Sandbox]:
    """Its pipe takes a few hundred KB, and then nothing."""
    with Sandbox.create(mem="1g", timeout=SHORT) as box:
        box.run_code("1")
        box.pause()
        yield box


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has a minute otherwise."""
    monkeypatch.setattr(files, "PATIENCE_SECONDS", SHORT)
    for module in (launch, sandbox):
        monkeypatch.setattr(module, "START_SECONDS", SHORT)


# -- a paused box ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["1", "#" * len(BIG)], ids=["short", "20 MB"])
def test_code_for_a_paused_box_is_lost(paused: Sandbox, code: str) -> None:
    with returns_within(SHORT + LATE):
        run = paused.run_code(code)
    assert (run.status, type(run.error)) == ("lost", OutcomeUnknownError)
    assert not paused.is_running()


CALLS: dict[str, Callable[[Sandbox, Path], object]] = {
    "write": lambda box, folder: box.files.write("big", BIG),
    "read": lambda box, folder: box.files.read("small"),
    "upload": lambda box, folder: box.files.upload(folder, "folder"),
    "metrics": lambda box, folder: box.get_metrics(SHORT),
    "command": lambda box, folder: box.commands.run("true", timeout=SHORT),
}


def test_what_a_paused_box_did_not_do_in_time_does_not_end_it(paused: Sandbox, impatient: None, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(BIG)
    for call in CALLS.values():
        with returns_within(SHORT + LATE), pytest.raises(OutcomeUnknownError):
            call(paused, tmp_path)
    with returns_within(0):  # the connections are what waits
        paused.get_host(8000)
    paused.resume()
    paused.files.write("big", BIG)
    assert paused.files.read("big", "bytes") == BIG
    assert paused.run_code("6 * 7").text == "42"


def test_a_push_into_a_paused_box_is_lost(paused: Sandbox) -> None:
    with returns_within(SHORT + LATE), pytest.raises(OutcomeUnknownError):
        paused.push({"x": BIG})


def test_a_paused_box_cannot_be_made_new(paused: Sandbox, impatient: None) -> None:
    with returns_within(SHORT + LATE), pytest.raises(SandboxError):
        paused.reset()
    assert not paused.is_running()


# -- a stopped relay ---------------------------------------------------------------------------------------------------


@pytest.fixture
def shared() -> Iterator[Sandbox]:
    with Sandbox.create(detach=True, lifetime=600) as box:
        yield box


def test_a_stopped_relay(shared: Sandbox, impatient: None) -> None:
    relay = relay_of(shared)
    relay.suspend()
    try:
        with returns_within(SHORT + LATE), pytest.raises(SandboxError, match="does not"):
            Sandbox.connect(shared.sandbox_id)
        with returns_within(SHORT + LATE):
            assert shared.run_code("1", timeout=SHORT).status == "lost"
        with returns_within(LATE):
            assert not shared.kill()
    finally:
        relay.resume()


# -- a frozen engine ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with own_engine() as engine:
        yield engine


@pytest.mark.timeout(300)
@pytest.mark.parametrize("needed", [pytest.param(None, marks=NEEDED)])
def test_a_frozen_engine(engine: OwnEngine, needed: None, impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    monkeypatch.setattr(launch, "START_SECONDS", 60.0)
    monkeypatch.setattr(sandbox, "START_SECONDS", 60.0)
    one, two = Sandbox.create(timeout=SHORT), Sandbox.create()
    monkeypatch.setattr(launch, "START_SECONDS", SHORT)
    monkeypatch.setattr(sandbox, "START_SECONDS", SHORT)
    with frozen(engine):
        with returns_within(SHORT + LATE):
            assert one.run_code("1").status == "lost"
        with returns_within(SHORT + LATE), pytest.raises(EngineUnavailableError):
            Sandbox.create()
        with returns_within(LATE), pytest.raises(EngineUnavailableError, match="does not say that the container"):
            two.kill()
        with returns_within(LATE):
            one.close()
    assert two.kill()  # known now
    assert not two.kill()
    assert not one.kill()
    with contextlib.closing(docker.DockerClient(engine.host, version="auto")) as client:
        seconds_until(lambda: not client.containers.list(all=True, sparse=True), within=60)


# -- code that is late -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "from IPython.display import clear_output\nwhile True: clear_output()",
        "from IPython.display import clear_output\nwhile True: clear_output(); print(1)",
        "from IPython.display import display\nhandle = display(1, display_id=True)\nwhile True: handle.update(2)",
        "while True: print(1)",
    ],
    ids=["clears", "clears between output", "updates", "output"],
)
def test_a_flood_keeps_nobody_beyond_the_deadline(box: Sandbox, code: str) -> None:
    """Even one whom each message costs time."""
    slow: Callable[..., None] = lambda *_: time.sleep(0.01)  # noqa: E731
    with returns_within(SHORT + LATE):
        run = box.run_code(code, timeout=SHORT, on_clear=slow, on_result=slow, on_stdout=slow)
    assert run.status == "timeout"
    assert box.run_code("6 * 7", timeout=30).text == "42"


def test_clears_that_say_nothing_stay_in_the_box(box: Sandbox) -> None:
    clears: list[bool] = []
    code = "from IPython.display import clear_output\nfor n in range(100): clear_output(wait={})\nprint(1)"
    for wait in (True, False):
        box.run_code(code.format(wait), on_clear=clears.append)
    assert clears == [True, False]


def test_what_takes_no_place_counts_too() -> None:
    """A clear makes room for more displays, and for no more bytes."""
    run = Run(cast("Cgroup", None), {"id": 1, "type": "execute_request"}, b"")
    flood = [{"type": "clear_output"}, {"type": "display_data", "parts": []}, {"type": "error"}]
    passed = sum(run.admits(header, 0) for _ in range(200_000) for header in flood)
    assert passed * OVERHEAD <= MAX_RESULTS_BYTES + (MAX_ERRORS + 1) * OVERHEAD


STOP = """
import os, signal, time
mine = {os.getpid(), os.getppid()}
print("ready", flush=True)
while True:
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if pid not in mine and pid > os.getpid():
            os.kill(pid, signal.SIGSTOP)
"""


def read_for_ever(box: Sandbox) -> None:
    while True:
        box.files.read("stop.py")


def test_a_transfer_whose_process_is_stopped(box: Sandbox, impatient: None) -> None:
    box.files.write("stop.py", STOP)
    command = box.commands.run("exec python stop.py", background=True, timeout=None)
    with pytest.raises(TimeoutError):
        command.wait(0.5)
    with returns_within(SHORT + LATE), pytest.raises(OutcomeUnknownError):
        read_for_ever(box)  # one may be too fast for who stops it
    command.kill()


def test_a_transfer_that_drips(impatient: None) -> None:
    """A whole box that lies: it always sends something, and never much."""
    ours, theirs = socket.socketpair()
    channel = Channel(SocketPipe(ours))
    link = Link(channel, Limits(), functools.partial(channel.close))

    def drip() -> None:
        decoder = Decoder()
        number = 0
        with theirs, contextlib.suppress(OSError):
            while not number:
                for header, _ in decoder.feed(theirs.recv(65536)):
                    if header["type"] == "hello":
                        theirs.sendall(header["nonce"].encode() + encode({"type": "ready", "protocol": PROTOCOL}))
                    elif header["type"] == "files_request":
                        number = header["id"]
            while True:
                theirs.sendall(encode({"type": "data", "id": number}, b"x"))
                time.sleep(0.05)

    threading.Thread(target=drip, daemon=True).start()
    channel.handshake(30)
    with returns_within(SHORT + LATE), pytest.raises(OutcomeUnknownError):
        Files(link).read("drip")
    channel.close()


# -- the end of a box --------------------------------------------------------------------------------------------------


def ends(box: Sandbox, end: Callable[[], object]) -> set[str]:
    """The statuses of calls that were in a box as it ended."""
    statuses: list[str] = []

    def run(number: int) -> None:
        context = box.create_code_context()
        started.acquire()
        run = box.run_code("print(1, flush=True)\nwhile True: pass", context=context, timeout=100, on_stdout=tell)
        statuses.append(run.status)

    def tell(text: str) -> None:
        running.release()

    started, running = threading.Semaphore(6), threading.Semaphore(0)
    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert running.acquire(timeout=60)
    end()
    for thread in threads:
        thread.join(60)
    assert len(statuses) == 6
    return set(statuses)


def test_the_word_when_a_box_dies_with_several_calls_in_it(client: docker.DockerClient) -> None:
    with Sandbox.create() as box:
        assert ends(box, lambda: client.api.kill(box.sandbox_id)) == {"lost"}
        assert not box.kill()


def test_the_word_when_a_box_is_killed_with_several_calls_in_it() -> None:
    with Sandbox.create() as box:
        assert ends(box, box.kill) == {"killed"}


def test_killing_what_has_ended(client: docker.DockerClient) -> None:
    for is_detached in (False, True):
        box = Sandbox.create(detach=is_detached)
        client.api.kill(box.sandbox_id)
        seconds_until(lambda box=box: not box.is_running(), within=60)  # type: ignore[misc]  # bound for this turn
        assert not box.kill()
    box = Sandbox.create(detach=True)
    relay_of(box).kill()
    seconds_until(lambda: not box.is_running(), within=60)
    assert box.kill()  # which the loss of its relay did not end


def test_nothing_changes_a_container_whose_end_has_begun() -> None:
    with Sandbox.create() as box:
        channel = box._channel
        over: list[bool] = []
        with channel.held_open() as is_open:
            assert is_open
            ender = threading.Thread(target=lambda: over.append(box.kill()))
            ender.start()
            seconds_until(lambda: channel.ended_here, within=30)
            assert not channel.closed
        ender.join(60)
        assert over == [True]
        with channel.held_open() as is_open:
            assert not is_open
        with pytest.raises(SandboxError, match="has ended"):
            box.pause()


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


def interrupted(delay: float, call: Callable[[], Any]) -> Any:
    """What a call gives when SIGINT comes so many seconds after its start; None if it is broken off."""
    over = threading.Event()

    def press() -> None:
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGINT)
        over.set()

    try:
        try:
            threading.Thread(target=press).start()
            return call()
        finally:
            assert over.wait(60)
            for _ in range(10):  # it is heard between two instructions
                pass
    except KeyboardInterrupt:
        return None


def test_an_interrupt_at_any_moment_loses_no_session() -> None:
    moments = random.Random(7)  # noqa: S311  # the same ones each time
    kinds: dict[str, Callable[[], Any]] = {}
    with Sandbox.create(mem="1g", timeout=60) as box:
        kinds["code"] = lambda: box.run_code(f"x = {'a' * 5_000_000!r}; 1")
        kinds["short"] = lambda: box.run_code("1")
        kinds["file"] = lambda: box.files.write("big", BIG[:5_000_000])
        kinds["value"] = lambda: box.push({"y": BIG[:5_000_000]})
        for turn in range(24):
            name = list(kinds)[turn % len(kinds)]
            interrupted(moments.random() * (0.02 if name == "short" else 0.2), kinds[name])
            again = box.run_code("6 * 7")
            assert (again.status, again.text) == ("ok", "42"), (turn, name)
        assert not box._channel._calls
        assert box._channel.outbox.is_empty
