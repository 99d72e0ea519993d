"""Many calls of one agent: run together, watched, and looked at when they are done."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agentbox_magic import cost
from agentbox_magic.jobs import Crew, Job, Shelf, Spec

if TYPE_CHECKING:
    from agentbox_magic.display.grid import Row

T = TypeVar("T")

LOOK_SECONDS = 0.5
"""How often the live view is renewed."""


class Batch(Generic[T]):
    """The calls of :meth:`Agent.map <agentbox_magic.agents.Agent.map>`. In a notebook it shows as a table.

    Attributes:
        jobs: one per task, in the order of the tasks.
        concurrency: boxes there may be at one time.
        seconds: from the first call to the last one's end.
        order_outputs: see :meth:`Agent.map <agentbox_magic.agents.Agent.map>`. Likewise ``return_exceptions``
            and ``reuse``.
    """

    def __init__(
        self,
        spec: Spec,
        jobs: Sequence[Job[T]],
        concurrency: int,
        again: Callable[[Sequence[Job[T]], dict[str, Any]], tuple[Spec, list[Job[T]]]],
    ) -> None:
        """Not for callers: use :meth:`Agent.map <agentbox_magic.agents.Agent.map>`."""
        self.jobs = list(jobs)
        self.concurrency = concurrency
        self.seconds = 0.0
        self.order_outputs = True
        self.return_exceptions = False
        self.reuse = False
        self._shelf = Shelf()
        self._spec = spec
        self._again = again
        self._finished: list[Job[T]] = []
        self._listeners: list[Callable[[Job[T]], object]] = []
        self._left = 0
        self._lock = threading.Lock()
        self._over = threading.Event()

    # -- going --------------------------------------------------------------------------------------------------------

    def wait(self) -> Batch[T]:
        """Run what has not run, and wait until all is done. In a notebook a table shows how it goes.

        Raises:
            KeyboardInterrupt: the user pressed Ctrl-C; what ran has been ended.
        """
        from agentbox_magic.display.grid import LiveGrid  # here: most uses of a batch have nothing to show

        self._start()
        with LiveGrid(self._spec.name) as live:
            try:
                while not self._over.wait(LOOK_SECONDS):
                    live.show(self._rows(), time.monotonic() - self._began)
            except KeyboardInterrupt:
                self.cancel()
                self._over.wait()
                raise
            finally:
                live.end(self._rows(), self.seconds)
        return self

    async def __aiter__(self) -> AsyncIterator[Job[T]]:
        """The jobs, each when it is done. Leaving the loop ends the rest."""
        loop = asyncio.get_running_loop()
        done: asyncio.Queue[Job[T]] = asyncio.Queue()

        def tell(job: Job[T]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(done.put_nowait, job)

        self._listeners.append(tell)
        self._start()
        try:
            for _ in self.jobs:
                yield await done.get()
        finally:
            await asyncio.to_thread(self.cancel)

    def cancel(self) -> None:
        """End what runs, and do not begin the rest; what is done stays."""
        for job in reversed(self.jobs):  # those that wait come last, and must not begin meanwhile
            job.cancel()

    def _start(self) -> None:
        self._began = time.monotonic()
        waiting = [job for job in self.jobs if not job.done()]
        self._left = len(waiting)
        if not waiting:
            self._over.set()
        crew = Crew()
        for job in waiting:
            job.shelf = self._shelf if self.reuse else None
            job.add_done_callback(self._note)
        for job in waiting:
            crew.submit(job, 1 / self.concurrency)

    def _note(self, job: Job[T]) -> None:
        with self._lock:
            self._finished.append(job)
            self._left -= 1
            if not self._left:
                self._shelf.clear()
                self.seconds = time.monotonic() - self._began
                self._over.set()
        for listener in self._listeners:
            listener(job)

    # -- looking ------------------------------------------------------------------------------------------------------

    @property
    def values(self) -> list[Any]:
        """What the calls returned.

        Raises:
            SandboxError: the first failure, unless ``return_exceptions`` puts the failures in their places.
        """
        jobs = self.jobs if self.order_outputs else self._finished
        return [_outcome(job) if self.return_exceptions else job.result() for job in jobs]

    @property
    def failed(self) -> list[Job[T]]:
        """The jobs that did not return, cancelled ones included."""
        return [job for job in self.jobs if job.done() and _failure(job) is not None]

    def rerun_failed(self, **changes: Any) -> Batch[T]:
        """Call again what failed, with other options perhaps (``mem="1g"``), and wait: a new batch of all the tasks,
        with what was done before in its place.

        Raises:
            BatchInterrupted: as :meth:`Agent.map <agentbox_magic.agents.Agent.map>`.
        """
        from agentbox_magic.errors import BatchInterrupted

        failed = self.failed
        spec, fresh = self._again(failed, changes)
        new = dict(zip(map(id, failed), fresh, strict=True))
        batch = Batch(spec, [new.get(id(job), job) for job in self.jobs], self.concurrency, self._again)
        batch.order_outputs, batch.return_exceptions = self.order_outputs, self.return_exceptions
        batch.reuse = self.reuse
        batch._finished = [job for job in self._finished if id(job) not in new]
        try:
            return batch.wait()
        except KeyboardInterrupt:
            raise BatchInterrupted(batch) from None

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row per task. Raises ImportError where there is no pandas."""
        import pandas

        rows = []
        for job in self.jobs:
            stats, failure = job.stats, _failure(job)
            rows.append(
                {
                    "id": job.id,
                    "task": job.task,
                    "state": stats.state,
                    "value": None if failure is not None or not job.done() else job.result(),
                    "error": None if failure is None else str(failure) or type(failure).__name__,
                    "seconds": stats.seconds,
                    "memory_peak": stats.memory,
                    "cpu_seconds": stats.cpu_seconds,
                    "attempts": stats.attempts,
                }
            )
        return pandas.DataFrame(rows)

    @property
    def cost(self) -> float:
        """US dollars that the same seconds in the same sandboxes would have cost on E2B, see
        :mod:`agentbox_magic.cost`."""
        return sum(cost.on_e2b(job.spec.limits, job.seconds) for job in self.jobs)

    def __len__(self) -> int:
        return len(self.jobs)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)

    def _rows(self) -> list[Row]:
        from agentbox_magic.display.grid import Row

        rows = []
        for job in self.jobs:
            stats, failure = job.stats, _failure(job)
            line = stats.last_line if failure is None else str(failure) or type(failure).__name__
            rows.append(
                Row(
                    id=job.id, task=job.task, state=stats.state, seconds=stats.seconds, memory=stats.memory,
                    memory_limit=stats.memory_limit, cpu_seconds=stats.cpu_seconds, cpus=job.spec.limits.cpus,
                    line=line,
                )
            )  # fmt: skip
        return rows

    def __repr__(self) -> str:
        from agentbox_magic.display.grid import summary

        return summary(self._spec.name, self._rows())

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from agentbox_magic.display.grid import grid

        return grid(self._spec.name, self._rows(), self.seconds, self.cost)


def _failure(job: Job[Any]) -> BaseException | None:
    if not job.done():
        return None
    try:
        return job.exception()
    except CancelledError as error:
        return error


def _outcome(job: Job[T]) -> T | BaseException:
    failure = _failure(job)
    return job.result() if failure is None else failure
