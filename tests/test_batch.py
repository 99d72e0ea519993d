"""Many agents at once: bounded, watched, stopped, and nothing left."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from kernel import Kernel
from waiting import seconds_until
from wills import wills

from agentbox_magic import Batch, ExecutionError, MemoryLimitError, TimeLimitError, agent, cost
from agentbox_magic.agents import concurrency_for
from agentbox_magic.display.grid import Row, grid, progress, summary
from agentbox_magic.engine import Engine
from agentbox_magic.limits import Limits


@pytest.fixture(autouse=True)
def _nothing_left(boxes: Callable[[], set[str]]) -> Any:
    yield
    seconds_until(
        lambda: not boxes() and not [one for one in threading.enumerate() if one.name == "agentbox-job"], within=10
    )


def work(task: str) -> str:
    print("began", task)
    if task == "error":
        raise ValueError("no <b>fox</b> here")
    if task == "oom":
        hoard = []
        while True:
            hoard.append(bytearray(10**6))
    if task == "timeout":
        while True:
            pass
    return task.upper()


# As a notebook's own functions: not to be found in a module.
work.__module__, work.__name__ = "__main__", "mixed"
mixed = agent(mem="96m", timeout=20)(work)


@pytest.fixture(scope="module")
def batch() -> Batch[str]:
    return mixed.options(timeout=3).map(["a", "error", "oom", "b", "timeout"], concurrency=3)


def test_failures_are_told_and_end_nobody_else(batch: Batch[str]) -> None:
    assert [job.stats.state for job in batch.jobs] == ["ok", "error", "oom", "ok", "timeout"]
    assert [job.task for job in batch.failed] == ["error", "oom", "timeout"]
    with pytest.raises(ExecutionError, match="no <b>fox</b> here"):
        _ = batch.values
    batch.return_exceptions = True
    values = batch.values
    batch.return_exceptions = False
    assert [values[0], values[3]] == ["A", "B"]
    assert [type(value) for value in values if not isinstance(value, str)] == [
        ExecutionError,
        MemoryLimitError,
        TimeLimitError,
    ]
    assert len(batch) == 5


def test_it_reads_the_same_from_run_to_run(batch: Batch[str]) -> None:
    ids = [job.id for job in batch.jobs]
    text = f"mixed: 5 tasks: 1 error, 1 oom, 1 timeout, 2 ok\n  error: {ids[1]}\n  oom: {ids[2]}\n  timeout: {ids[4]}"
    assert repr(batch) == text
    bundle = batch._repr_mimebundle_()
    assert bundle["text/plain"] == text
    html = bundle["text/html"]
    assert html.count("<details open>") == 3
    assert html.count("<tr>") == 5 + 4  # and a head for each state
    assert "no &lt;b&gt;fox&lt;/b&gt; here" in html
    assert "<b>fox" not in html
    assert html.count("<meter") >= 5


def test_a_frame(batch: Batch[str]) -> None:
    frame = batch.to_frame()
    assert list(frame["state"]) == ["ok", "error", "oom", "ok", "timeout"]
    assert list(frame["value"].dropna()) == ["A", "B"]
    assert (frame["memory_peak"] > 0).all()
    assert (frame["attempts"] == 1).all()


def test_rerunning_what_failed_keeps_what_is_done(batch: Batch[str]) -> None:
    again = batch.rerun_failed(mem="128m", timeout=2)
    assert [new is old for new, old in zip(again.jobs, batch.jobs, strict=True)] == [True, False, False, True, False]
    assert [job.stats.state for job in again.jobs] == ["ok", "error", "oom", "ok", "timeout"]
    assert again.jobs[2].stats.memory_limit == 128 * 2**20


def test_cost_is_what_the_seconds_cost(batch: Batch[str]) -> None:
    seconds = sum(job.seconds for job in batch.jobs)
    assert batch.cost == pytest.approx(cost.on_e2b(Limits.of(mem="96m"), seconds))
    assert cost.METER.runs >= 5


@pytest.mark.timeout(900)  # of containers, on any machine
def test_two_hundred_tasks_ten_at_a_time(boxes: Callable[[], set[str]]) -> None:
    @agent(mem="64m", cpus=0.5, timeout=120)
    def square(n: int) -> tuple[int, str]:
        import os

        return n * n, os.environ["TASK"]

    most, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            most.append(len(boxes()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        batch = square.map(range(200), concurrency=10)
    finally:
        stop.set()
        watcher.join()
    assert batch.values == [(n * n, str(n)) for n in range(200)]
    assert not batch.failed
    assert 5 <= max(most) <= 10
    assert len({job.id for job in batch.jobs}) == 200


def test_as_completed_gives_the_first_first_and_leaving_ends_the_rest() -> None:
    @agent(mem="64m")
    def wait(seconds: float) -> float:
        import time

        time.sleep(seconds)
        return seconds

    async def main() -> list[float]:
        seen = []
        async for job in wait.as_completed([600, 3, 0, 601], concurrency=4):
            seen.append(job.result())
            if len(seen) == 2:
                break
        return seen

    assert asyncio.run(main()) == [0, 3]


def test_outputs_in_the_order_of_their_end() -> None:
    @agent(mem="64m")
    def wait(seconds: float) -> float:
        import time

        time.sleep(seconds)
        return seconds

    assert wait.map([3, 0], concurrency=2, order_outputs=False).values == [0, 3]
    assert wait.map([]).values == []
    with pytest.raises(ValueError, match="concurrency 0"):
        wait.map([1], concurrency=0)


def test_how_many_boxes_a_machine_carries() -> None:
    cores, memory = Engine.connect().capacity()
    assert concurrency_for(Limits.of(cpus=1, mem="64m")) == max(1, cores)
    assert concurrency_for(Limits.of(cpus=cores * 10)) == 1
    assert concurrency_for(Limits.of(cpus=0.01, mem=memory // 10)) == 8


ROWS = [
    Row("a-1", "x", "running", 2.0, 2**20, 2**21, 1.0, 1.0, "\x1b[31m<script>alert(1)</script>"),
    Row("a-2", "<img src=x>", "ok", 1.0, None, 2**21, None, 1.0, "fine"),
    *[Row(f"a-{n}", "y", "queued", 0.0, None, 2**21, None, 1.0, "") for n in range(3, 600)],
]


def test_a_view_of_what_goes_on_is_bounded_and_escaped() -> None:
    html = progress("a", ROWS, 10.0)
    assert "1 of 599 done, 10 s, about 5980 s to go" in html
    assert html.count("<tr>") == 2
    done = grid("a", ROWS, 10.0, 0.5)["text/html"]
    for page in (html, done):
        assert "<script" not in page
        assert "<img" not in page
        assert "\x1b" not in page
    assert summary("a", ROWS) == "a: 599 tasks: 1 running, 1 ok, 597 queued\n  running: a-1"


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.close()


AGENT = """
from agentbox_magic import agent
@agent(mem="64m", cpus=0.5)
def wait(seconds: float) -> float:
    import time
    print("began", seconds, flush=True)
    time.sleep(seconds)
    return seconds
"""


def test_a_notebook_watches_and_stops(kernel: Kernel, boxes: Callable[[], set[str]]) -> None:
    assert kernel.run(AGENT).status == "ok"
    cell = kernel.run("batch = wait.map([0, 0.1], concurrency=2)\nbatch.values")
    assert cell.data("text/plain") == ["", "wait: 2 tasks: 2 ok", "[0, 0.1]"]
    assert cell.data("text/html")[0] == ""
    message = kernel.start("wait.map([0, 600, 601, 602], concurrency=2)")
    while "1 ok" not in str(kernel._cells[message].data("text/html")):
        assert kernel._take(message)
    kernel.manager.interrupt_kernel()
    stopped = kernel.finish(message)
    assert stopped.error["ename"] == "BatchInterrupted"
    assert "stopped; the agent's last_batch has what was done" in "\n".join(stopped.error["traceback"])
    assert not boxes()
    after = kernel.run("[job.stats.state for job in wait.last_batch.jobs], wait.last_batch.jobs[0].result()")
    assert after.data("text/plain") == ["(['ok', 'cancelled', 'cancelled', 'cancelled'], 0)"]
    threads = kernel.run("import threading; [t.name for t in threading.enumerate() if t.name.startswith('agentbox')]")
    assert threads.data("text/plain") == ["[]"]


def test_without_a_live_view(kernel: Kernel) -> None:
    kernel.run("import os; os.environ['AGENTBOX_LIVE'] = '0'")
    kernel.run(AGENT)
    cell = kernel.run("batch = wait.map([0])")
    assert cell.data("text/plain") == ["wait: 1 task: 1 ok"]


@pytest.fixture
def running(boxes: Callable[[], set[str]], client: docker.DockerClient) -> Callable[[], int]:
    """How many of our boxes have been started, not only created."""
    return lambda: len(boxes() & {one.id for one in client.containers.list(sparse=True)})


def counting(begun: Path) -> str:
    """The beginning of an agent that writes to a file of the host when it begins."""
    return (
        "from agentbox_magic import agent\n"
        "def begin() -> None:\n"
        f"    with open({str(begun)!r}, 'a') as file: file.write('x')\n"
        "@agent(mem='64m', cpus=0.5, tools=[begin])\n"
    )


def test_a_killed_kernel_leaves_no_boxes(kernel: Kernel, boxes: Callable[[], set[str]], tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    kernel.run(f"{counting(begun)}def wait(n: int) -> None:\n    import time\n    begin()\n    time.sleep(600)\n")
    kernel.start("wait.map(range(20), concurrency=5)")
    seconds_until(lambda: begun.exists() and begun.stat().st_size == 5, within=120)
    assert len(boxes()) == 5
    os.kill(kernel.pid, signal.SIGKILL)
    seconds_until(lambda: not boxes(), within=5)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("after", [1, 30])
def test_a_kernel_killed_in_the_middle_of_two_hundred_tasks(
    kernel: Kernel, boxes: Callable[[], set[str]], running: Callable[[], int], tmp_path: Path, after: int
) -> None:
    """Whatever each of its boxes was at: being created, started, running, being removed."""
    begun = tmp_path / "begun"
    kernel.run(f"{counting(begun)}def work(n: int) -> int:\n    begin()\n    return n\n")
    pid = kernel.pid
    kernel.start("work.map(range(200), concurrency=10)")
    seconds_until(lambda: len(boxes()) > running() and begun.exists() and begun.stat().st_size >= after, within=120)
    os.kill(pid, signal.SIGKILL)
    seconds_until(lambda: not boxes(), within=5)
    assert begun.stat().st_size < 200
    seconds_until(lambda: not wills(pid), within=30)
    assert not boxes()


def test_an_interrupted_call_is_one_clean_line(
    kernel: Kernel, boxes: Callable[[], set[str]], running: Callable[[], int]
) -> None:
    kernel.run(AGENT)
    message = kernel.start("wait(600)")
    seconds_until(lambda: running() == 1, within=60)
    kernel.manager.interrupt_kernel()
    cell = kernel.finish(message)
    assert cell.error["ename"] in ("ExecutionInterrupted", "KeyboardInterrupt")
    assert not boxes()
