"""``%%sandbox --bg``: a cell that runs while the notebook goes on."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from agentbox_magic.display.monitor import Monitor
from agentbox_magic.execution import Execution

if TYPE_CHECKING:
    from agentbox_magic.magics.parser import CellOptions
    from agentbox_magic.sandbox import Sandbox

_numbers = itertools.count(1)


class Job:
    """A cell in the background, with the methods of a ``concurrent.futures.Future``. Shown, it is a live view with a
    Stop button.

    Attributes:
        name: for ``%sandbox stop``.
        box: where it runs; it ends with the job unless it is a session's.
    """

    def __init__(
        self, box: Sandbox, cell: str, options: CellOptions, assign: Callable[[dict[str, Any]], object]
    ) -> None:
        """Not for callers: ``%%sandbox --bg``. ``assign`` takes the ``-o`` variables."""
        self.name = f"job{next(_numbers)}"
        self.box = box
        self._text = f"sandbox: {self.name} in the background"
        self._cell = cell
        self._options = options
        self._assign = assign
        self._values: dict[str, Any] = {}
        self._future: Future[Execution] = Future()
        self._interrupt: Callable[[], None] | None = None
        self._monitor = Monitor(box, options.limits.timeout, on_stop=self.cancel)
        threading.Thread(target=self._work, name=f"agentbox-{self.name}", daemon=True).start()

    def _work(self) -> None:
        try:
            run = self._run()
        except BaseException as error:  # result() raises it
            self._monitor.finish("error")
            self._future.set_exception(error)
        else:
            self._monitor.finish(run.status)
            self._future.set_result(run)

    def _run(self) -> Execution:
        options = self._options
        try:
            run = self.box.run_code(
                self._cell,
                language=options.language,
                timeout=options.limits.timeout,
                on_start=self._started,
                on_stdout=self._monitor.count,
                on_stderr=self._monitor.count,
            )
            if run.error is None and options.outputs:
                found = self.box.pull(list(options.outputs.values()), max_size=options.max_transfer)
                self._values = {name: found[source] for name, source in options.outputs.items()}
            return run
        finally:
            if options.session is None:
                self.box.close()

    def _started(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt

    @property
    def status(self) -> str:
        """``"running"``, or how it ended: the status of its :class:`Execution`."""
        if not self._future.done():
            return "running"
        return "error" if self._future.exception() else self._future.result().status

    def done(self) -> bool:
        """Whether it has ended."""
        return self._future.done()

    def cancel(self) -> bool:
        """Interrupt it; the second time, kill its process. False if it has ended."""
        if self.done():
            return False
        if self._interrupt:
            self._interrupt()
        return True

    def result(self, timeout: float | None = None) -> Execution:
        """Wait for its end. Its ``-o`` variables are assigned here.

        Raises:
            TimeoutError: it goes on after ``timeout`` seconds.
            SandboxError: as the cell would have.
        """
        run = self._future.result(timeout)
        values, self._values = self._values, {}
        self._assign(values)
        self.settle()
        return run.raise_for_status()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for its end; what :meth:`result` would raise."""
        return self._future.exception(timeout) or self._future.result().error

    def settle(self) -> None:
        """Put a line of text in the place of an ended job's live view; for the main thread, which alone may do so."""
        if self.done():
            self._monitor.close(self._text)

    def _ipython_display_(self) -> None:
        self._monitor.show(self._text)
        self.settle()

    def __repr__(self) -> str:
        return f"Job({self.name}, {self.status})"
