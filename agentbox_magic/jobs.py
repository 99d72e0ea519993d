"""A call of an agent on its way: queued, in its box, done. The names are those of ``concurrent.futures``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agent_executor.values import ERROR
from agentbox_magic import forks, values
from agentbox_magic.errors import ExecutionError, ExecutionInterrupted, SandboxError, TransferError
from agentbox_magic.execution import Execution
from agentbox_magic.sandbox import Sandbox
from agentbox_magic.text import clean
from agentbox_magic.tools import Desk, Tool, ToolCall

if TYPE_CHECKING:
    from agentbox_magic.hardening import Box
    from agentbox_magic.limits import Limits

T = TypeVar("T")
Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""By position, and by name."""

RETRIED = frozenset({"error", "timeout", "oom", "killed"})
"""Outcomes after which a call is made again. Not ``lost``: it may have done what it does."""
METRICS_SECONDS = 1.0
"""How long a box may take to say what it uses, for a look in passing."""


@dataclass(frozen=True)
class Spec:
    """What an agent's calls have in common.

    Attributes:
        name: the function's.
        limits: of each box.
        box: what each box is.
        env: environment variables of each call.
        packages: for pip.
        tools: by name.
        retries: calls after the first that failed.
    """

    name: str
    limits: Limits
    box: Box
    env: dict[str, str]
    packages: tuple[str, ...]
    tools: dict[str, Tool]
    retries: int


@dataclass(frozen=True)
class Stats:
    """A job at one moment.

    Attributes:
        state: ``"queued"``, ``"starting"``, ``"running"``, ``"cancelled"``, or how its run ended.
        seconds: since it got its box.
        memory: bytes in use now, or at the peak once it is done; None if unknown.
        memory_limit: bytes.
        cpu_seconds: CPU time so far.
        attempts: boxes it has had.
        last_line: the end of what it printed.
    """

    state: str
    seconds: float
    memory: int | None
    memory_limit: int
    cpu_seconds: float | None
    attempts: int
    last_line: str


class Shelf:
    """The boxes of a batch whose tasks use them one after another, each made new before it is used again."""

    def __init__(self) -> None:
        self._boxes: list[Sandbox] = []
        self._lock = threading.Lock()

    def take(self) -> Sandbox | None:
        """A box that has been made new; None if there is none."""
        while True:
            with self._lock:
                if not self._boxes:
                    return None
                box = self._boxes.pop()
            with contextlib.suppress(SandboxError):  # it cannot be made new, and has been killed
                box.reset()
                return box

    def put(self, box: Sandbox) -> None:
        """Give back a box that was used."""
        with self._lock:
            self._boxes.append(box)

    def clear(self) -> None:
        """End them."""
        with self._lock:
            boxes, self._boxes = self._boxes, []
        for box in boxes:
            box.close()


class Job(Generic[T]):
    """One call. Get it from ``agent.spawn(...)``; ``await job`` or ``job.result()`` gives what the function returned.

    Attributes:
        id: what the agent sees as ``AGENT_ID``.
        task: what it was called with, as text; the agent sees it as ``TASK``.
        execution: its output, displays and use of resources; of the last attempt. None before it has run.
        seconds: how long it had its last box.
        tool_calls: what it asked of the host, over all attempts.
        shelf: where its box comes from and goes to; None for a box of its own.
    """

    def __init__(
        self, spec: Spec, number: int, task: str, call: Arguments, pack: Callable[[Arguments, str], bytes]
    ) -> None:
        """Not for callers: use :meth:`Agent.spawn <agentbox_magic.agents.Agent.spawn>`."""
        self.id = f"{spec.name}-{number}"
        self.task = task
        self.spec = spec
        self.call = call
        self.execution: Execution | None = None
        self.tool_calls: list[ToolCall] = []
        self.seconds = 0.0
        self._pack = pack
        self._future: Future[T] = Future()
        self._box: Sandbox | None = None
        self._attempts = 0
        self._state = "queued"
        self._started: float | None = None
        self._cancelled = False
        self._last_line = ""
        self._lock = threading.Lock()
        self.shelf: Shelf | None = None
        self._owner = os.getpid()
        forks.let_go(self)

    def abandon(self) -> None:
        """In a fork: it runs in the parent, and its end is not heard of here."""
        if not self._future.done():
            self._future = Future()
            self._future.set_exception(
                SandboxError(f"this job belongs to process {self._owner}, and this is a fork of it; start one here")
            )

    # -- for the caller -----------------------------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> T:
        """What the function returned; waits for it.

        Raises:
            SandboxError: how it failed: :class:`ExecutionError` with the traceback of the box, a limit, ...
            CancelledError: it was cancelled.
            TimeoutError: it is not done after so many seconds; it goes on.
        """
        return self._future.result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """How it failed, None if it did not; waits for it as :meth:`result` does."""
        return self._future.exception(timeout)

    def done(self) -> bool:
        """Whether it is over."""
        return self._future.done()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._future.cancelled() or self._state == "cancelled"

    def cancel(self) -> bool:
        """End it, and its box, now; False if it was done."""
        with self._lock:
            if self._future.done():
                return False
            self._cancelled = True
            box = self._box
        if self._future.cancel():  # it never began
            self._state = "cancelled"
        elif box is not None:
            box.close()
        return True

    def add_done_callback(self, callback: Callable[[Job[T]], object]) -> None:
        """Call a function with this job when it is over, in whichever thread ends it."""
        self._future.add_done_callback(lambda _: callback(self))

    def __await__(self) -> Generator[Any, None, T]:
        return self._wait().__await__()

    async def _wait(self) -> T:
        over = asyncio.wrap_future(self._future)
        # Who is cancelled here does not ask how it ended, and asyncio would complain of that.
        over.add_done_callback(lambda over: over.cancelled() or over.exception())
        try:
            return await asyncio.shield(over)
        except asyncio.CancelledError:
            await asyncio.to_thread(self.cancel)
            raise

    @property
    def stats(self) -> Stats:
        """How it stands; asks its box, if it has one."""
        memory = cpu = None
        box, run = self._box, self.execution
        if run is not None:
            memory, cpu = run.usage.memory_peak, run.usage.cpu_seconds
        elif box is not None:
            try:
                metrics = box.get_metrics(METRICS_SECONDS)
                memory, cpu = metrics.memory, metrics.cpu_seconds
            except SandboxError:
                pass  # it is ending just now
        seconds = self.seconds if self._started is None else time.monotonic() - self._started
        limit = self.spec.limits.mem
        return Stats(self._state, seconds, memory, limit, cpu, self._attempts, self._last_line.strip())

    def __repr__(self) -> str:
        return f"Job({self.id}, {self._state})"

    # -- for whoever runs it ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Do it, in the calling thread, to its end; :meth:`result` has the outcome.

        Raises:
            ExecutionInterrupted: the user pressed Ctrl-C, in the main thread.
        """
        if not self._future.set_running_or_notify_cancel():
            return
        try:
            value = self._attempt()
            while value is None:
                value = self._attempt()
        except BaseException as error:
            self._end(error)
            if isinstance(error, KeyboardInterrupt):
                raise
        else:
            self._end(None, *value)

    def _end(self, error: BaseException | None, value: Any = None) -> None:
        if self._started is not None:
            self.seconds = time.monotonic() - self._started
            self._started = None
        if self._cancelled:
            error = CancelledError()
            self._state = "cancelled"
        elif error is not None:
            ended = self.execution is not None and self.execution.status
            self._state = ended if ended and ended != "ok" else "error"
        else:
            self._state = "ok"
        if error is None:
            self._future.set_result(value)
        else:
            if isinstance(error, SandboxError):  # its frames explain nothing, and would keep the box in memory
                error = error.with_traceback(None)
            self._future.set_exception(error)

    def _attempt(self) -> tuple[T] | None:
        """Call it once: its value in a tuple, or None if it failed and may try again."""
        spec = self.spec
        self._attempts += 1
        self._state, self._started = "starting", time.monotonic()
        self.execution = None
        with self._open() as box:
            with self._lock:
                if self._cancelled:
                    raise CancelledError
                self._box = box
            self._state = "running"
            desk = Desk(spec.tools, box.answer_tool)
            try:
                run, raw = box.call_pickled(
                    self._pack(self.call, box.python_version),
                    envs={**spec.env, "AGENT_ID": self.id, "TASK": self.task},
                    on_stdout=self._printed,
                    on_stderr=self._printed,
                    on_tool=desk.request,
                )
            except ExecutionInterrupted as stop:
                self.execution = stop.execution
                raise
            finally:
                self._box = None
                desk.close()
                self.tool_calls += desk.calls
        self.execution = run
        if run.error is not None:
            if run.status in RETRIED and self._attempts <= spec.retries and not self._cancelled:
                return None
            raise _transfer_error(run.error) or run.error
        return (values.decode(raw),)

    @contextlib.contextmanager
    def _open(self) -> Iterator[Sandbox]:
        box = self.shelf.take() if self.shelf else None
        if box is None:
            box = Sandbox.start(self.spec.limits, self.spec.box, self.spec.packages)
        try:
            yield box
        except BaseException:
            box.close()
            raise
        if self.shelf and box.is_running():
            self.shelf.put(box)
        else:
            box.close()

    def _printed(self, text: str) -> None:
        lines = (self._last_line + text)[-2000:].splitlines(keepends=True)
        kept = [line for line in lines if line.strip()]
        self._last_line = clean(kept[-1], colour=False)[-200:] if kept else ""


def _transfer_error(error: SandboxError) -> TransferError | None:
    """The error of a result that cannot cross, which is told as the function's own."""
    if isinstance(error, ExecutionError) and error.name == ERROR:
        return TransferError(error.value)
    return None


class Crew:
    """Runs jobs in threads, each with its share of a whole; the rest wait. No thread is left when none has work."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Job[Any], float]] = deque()
        self._shares: list[float] = []
        self._lock = threading.Lock()

    def submit(self, job: Job[Any], share: float) -> None:
        """Run a job as soon as there is room, in the order in which they came.

        Args:
            share: its part of the whole: 0.1 for a job of which ten may run together.
        """
        with self._lock:
            self._waiting.append((job, share))
            self._fill()

    def _fill(self) -> None:
        while self._waiting and (not self._shares or sum(self._shares) + self._waiting[0][1] < 1 + 1e-6):
            job, share = self._waiting.popleft()
            self._shares.append(share)
            threading.Thread(target=self._work, args=(job, share), name="agentbox-job", daemon=True).start()

    def _work(self, job: Job[Any], share: float) -> None:
        try:
            job.run()
        finally:
            with self._lock:
                self._shares.remove(share)
                self._fill()


SPAWNED = Crew()
"""Runs the jobs of this process that no batch runs: together they are what the engine's machine carries."""
os.register_at_fork(after_in_child=SPAWNED.__init__)  # type: ignore[misc]  # in a fork: its jobs are the parent's
