"""Functions as agents: what travels, what comes back, how it fails."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import types
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from waiting import seconds_until

from agentbox_magic import (
    ExecutionError,
    MemoryLimitError,
    Sandbox,
    TimeLimitError,
    TransferError,
    agent,
)
from agentbox_magic.engine import Engine


def jobs_threads() -> set[str]:
    return {one.name for one in threading.enumerate() if one.name.startswith("agentbox")}


@pytest.fixture(autouse=True)
def _nothing_left(boxes: Callable[[], set[str]]) -> Any:
    before = jobs_threads()
    yield
    seconds_until(lambda: not boxes() and jobs_threads() <= before, within=10)


def test_a_call_runs_in_a_box_and_local_does_not() -> None:
    @agent(mem="128m")
    def where() -> tuple[int, str]:
        import os

        return os.getuid(), os.getcwd()

    uid, folder = where()
    assert uid >= 10_000
    assert folder == "/workspace"
    assert where.local() != (uid, folder)


def test_a_bare_decorator_and_its_name_and_doc() -> None:
    @agent
    def double(x: int) -> int:
        """Twice."""
        return 2 * x

    assert double(21) == 42
    assert (double.__name__, double.__doc__, repr(double)) == ("double", "Twice.", "<agent double>")


def test_what_a_function_needs_travels_with_it() -> None:
    factor = 3

    class Pair:
        def __init__(self, a: int, b: int) -> None:
            self.a, self.b = a, b

        def sum(self) -> int:
            return self.a + self.b

    def helper(x: int) -> int:
        return factor * x

    @agent
    def work(pair: Any, *, then: Callable[[int], int]) -> list[int]:
        return [helper(pair.sum()), then(pair.a), Pair(1, 1).sum()]

    assert work(Pair(2, 5), then=lambda x: x - factor) == [21, -1, 2]


def test_a_method_and_an_agent_that_calls_itself() -> None:
    class Walker:
        step = 2

        @agent
        def walk(self, start: int) -> int:
            return start + self.step

    @agent
    def depth(n: int) -> int:
        return 0 if n == 0 else 1 + depth(n - 1)

    assert Walker().walk(1) == 3
    assert depth(5) == 5


def test_async_functions_and_awaited_jobs() -> None:
    @agent
    async def later(x: int) -> int:
        import asyncio

        return sum(await asyncio.gather(*(asyncio.sleep(0.01, n) for n in range(x))))

    async def both() -> list[int]:
        return await asyncio.gather(later.spawn(3), later.spawn(4))

    assert later(2) == 1
    assert asyncio.run(both()) == [3, 6]


def test_the_contract_of_the_environment() -> None:
    @agent(env={"MORE": "yes"})
    def look(task: str) -> dict[str, str]:
        import os
        import subprocess

        child = subprocess.run(["printenv", "TASK"], capture_output=True, text=True, check=True).stdout
        return {"child": child.strip(), **{name: os.environ[name] for name in ("AGENT_ID", "TASK", "MORE")}}

    assert look("find a fox") == {"child": "find a fox", "AGENT_ID": "look-1", "TASK": "find a fox", "MORE": "yes"}
    assert look("nul \0 and much" + "x" * 2**20)["child"].startswith("nul \\0 and much")


def test_what_it_prints_and_shows_is_kept_with_its_job() -> None:
    @agent
    def plot() -> int:
        import sys

        import matplotlib.pyplot as plt

        print("drawing")
        print("careful", file=sys.stderr)
        plt.plot([1, 2])
        return 1

    job = plot.spawn()
    assert job.result(120) == 1
    assert job.execution is not None
    assert job.execution.stdout == "drawing\n"
    assert job.execution.stderr == "careful\n"
    assert [bool(result.png) for result in job.execution.results] == [True]
    stats = job.stats
    assert (stats.state, stats.last_line, stats.attempts) == ("ok", "careful", 1)
    assert stats.memory is not None
    assert 0 < stats.memory < stats.memory_limit
    assert job.done()
    assert job.exception() is None


def test_an_exception_comes_with_its_traceback_once() -> None:
    @agent
    def fail(x: int) -> float:
        y = x
        return 1 / y

    with pytest.raises(ExecutionError) as caught:
        fail(0)
    error = caught.value
    assert (error.name, error.value) == ("ZeroDivisionError", "division by zero")
    assert error.traceback.count("ZeroDivisionError") == 1
    assert "return 1 / y" in error.traceback
    assert "agentbox" not in error.traceback
    assert "<fail>" in error.traceback


def test_limits_end_a_call_in_one_word() -> None:
    @agent(mem="96m", timeout=2)
    def misbehave(how: str) -> None:
        if how == "memory":
            hoard = []
            while True:
                hoard.append(bytearray(10**6))
        while True:
            pass

    with pytest.raises(MemoryLimitError):
        misbehave("memory")
    with pytest.raises(TimeLimitError):
        misbehave("time")
    assert misbehave.options(timeout=4).spec.limits.timeout == 4
    assert misbehave.options(timeout=4).spec.limits.mem == misbehave.spec.limits.mem


def test_cancel_ends_the_box_now() -> None:
    @agent
    def forever() -> None:
        import time

        print("up", flush=True)
        time.sleep(600)

    job = forever.spawn()
    seconds_until(lambda: job.stats.last_line == "up", within=60)
    assert job.stats.state == "running"
    assert job.cancel()
    with pytest.raises(CancelledError):
        job.result(10)
    assert (job.cancelled(), job.cancel(), job.stats.state) == (True, False, "cancelled")
    assert job.execution is not None
    assert job.execution.stdout == "up\n"


def test_a_cancelled_await_ends_the_box() -> None:
    @agent
    def forever() -> None:
        import time

        time.sleep(600)

    complaints = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: complaints.append(context["message"]))
        job, over = forever.spawn(), asyncio.Event()
        job.add_done_callback(lambda job: loop.call_soon_threadsafe(over.set))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(job, 2)
        await asyncio.wait_for(over.wait(), 30)

    asyncio.run(main())
    gc.collect()  # what nobody has asked for is complained of when it goes
    assert complaints == []


def test_retries_take_a_new_box_each(tmp_path: Path) -> None:
    tries = []

    def note() -> int:
        tries.append(1)
        return len(tries)

    @agent(retries=2, tools=[note])
    def flaky() -> list[str]:
        import os

        number = note()
        open(f"/workspace/{number}", "w").close()
        if number < 3:
            raise RuntimeError(f"try {number}")
        return os.listdir("/workspace")

    job = flaky.spawn()
    assert job.result(120) == ["3"]
    assert job.stats.attempts == 3
    assert len(job.tool_calls) == 3
    tries.clear()
    with pytest.raises(ExecutionError, match="try 1"):
        flaky.options(retries=0)()


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module that the image lacks."""
    (tmp_path / "fox_helpers.py").write_text("BASE = 40\ndef add(x):\n    return BASE + x\n")
    monkeypatch.syspath_prepend(tmp_path)
    import fox_helpers

    monkeypatch.delitem(sys.modules, "fox_helpers")
    sys.modules["fox_helpers"] = fox_helpers
    return fox_helpers


def test_a_module_that_the_image_lacks_is_named_and_can_be_included(helpers: types.ModuleType) -> None:
    def use(x: int) -> int:
        import fox_helpers as again

        return helpers.add(x) + again.BASE

    with pytest.raises(ExecutionError, match=r"no module fox_helpers.*include=\[fox_helpers\]"):
        agent(use)(2)
    assert agent(include=[helpers])(use)(2) == 82


def test_another_python_is_named_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    @agent
    def work() -> int:
        return 1

    monkeypatch.setattr(Sandbox, "python_version", "3.99.1")
    with pytest.raises(TransferError, match=r"bytecode of this Python, 3\.\d+, and our image here has 3\.99\.1"):
        work()


def test_an_image_without_our_packages(base: str) -> None:
    @agent(image=base)
    def work(x: int) -> int:
        def inner() -> int:
            return x

        return inner() + 1

    assert work(1) == 2
    with pytest.raises(ExecutionError) as caught:
        work("a")  # type: ignore[arg-type]
    assert caught.value.name == "TypeError"
    assert "<work>" in caught.value.traceback
    assert "agentbox" not in caught.value.traceback


def test_what_cannot_be_sent_is_named() -> None:
    lock = threading.Lock()

    @agent
    def hold() -> None:
        lock.acquire()

    @agent
    def take(x: object) -> None: ...

    with pytest.raises(TransferError, match="hold cannot be sent: it refers to lock, and that, a lock"):
        hold()
    with pytest.raises(TransferError, match="take cannot be sent: argument 1, a lock"):
        take(lock)
    with pytest.raises(TransferError, match="more than 32 MiB"):
        take(bytes(33 * 2**20))


def test_what_cannot_come_back_is_told() -> None:
    @agent
    def give() -> object:
        return object()

    with pytest.raises(TransferError, match="the result is of the class object"):
        give()


def test_bad_options_are_told_at_once() -> None:
    def work() -> None: ...

    with pytest.raises(ValueError, match="mem 1m is too little"):
        agent(mem="1m")(work)
    with pytest.raises(TypeError, match="agent has no option memory"):
        agent(memory="1g")(work)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="retries -1"):
        agent(retries=-1)(work)
    with pytest.raises(TypeError, match="is an agent already"):
        agent(agent(work))
    with pytest.raises(TypeError, match="is for functions"):
        agent(3)  # type: ignore[call-overload]


def test_spawned_jobs_are_what_the_machine_carries(boxes: Callable[[], set[str]]) -> None:
    """However many agents they are of."""
    cores, _ = Engine.connect().capacity()

    @agent(mem="64m", cpus=cores)
    def one(n: int) -> int:
        return n

    jobs = [one.options(env={"N": str(n)}).spawn(n) for n in range(4)]
    most = 0
    while not all(job.done() for job in jobs):
        most = max(most, len(boxes()))
    assert [job.result() for job in jobs] == [0, 1, 2, 3]
    assert most == 1
