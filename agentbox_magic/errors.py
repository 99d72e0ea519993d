"""Every way this package can fail.

::

    SandboxError
    ├── EngineUnavailableError   no Docker engine answers, or it may not be used, or it is too old
    ├── ImageError               an image is missing and cannot be built, or cannot serve as a box
    ├── LimitError               a limit of the box ended the run
    │   ├── MemoryLimitError
    │   ├── TimeLimitError       also a TimeoutError
    │   ├── PidsLimitError
    │   └── OutputLimitError
    ├── ExecutionError           the code raised, or its process ended
    ├── TransferError            a value or file cannot cross between host and box
    ├── SandboxClosedError       the sandbox has been killed or has ended
    ├── OutcomeUnknownError      the engine or the pipe went away in mid-run
    └── PolicyError              a wall that should hold does not
    ExecutionInterrupted         a KeyboardInterrupt: the user stopped the run
    BatchInterrupted             a KeyboardInterrupt: the user stopped many

A message says what happened, why, and what to do next, in one or two lines. Bad options of a magic raise IPython's own
``UsageError`` and bad arguments of a function ``ValueError``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from agentbox_magic.batch import Batch
    from agentbox_magic.execution import Execution


class SandboxError(Exception):
    """Base of all errors of this package."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the message alone. The frames of this package explain nothing to its user."""
        return [f"{type(self).__name__}: {self}"]


class EngineUnavailableError(SandboxError):
    """No Docker engine answers, or it may not be used, or it is too old."""


class ImageError(SandboxError):
    """An image is missing and cannot be built, or cannot serve as a box."""


class LimitError(SandboxError):
    """A limit of the box ended the run."""


class MemoryLimitError(LimitError):
    """The kernel killed the code because the box was out of memory."""


class TimeLimitError(LimitError, TimeoutError):
    """The code ran past its deadline and was killed."""


class PidsLimitError(LimitError):
    """The code needed more processes or threads than the box may have."""


class OutputLimitError(LimitError):
    """The code sent more than the host takes."""


class ExecutionError(SandboxError):
    """The code raised an exception, or ended its own process.

    Attributes:
        name: the class of the exception in the box, such as ``"ZeroDivisionError"``.
        value: its text.
        traceback: what a notebook would show of it, with ANSI colours; empty if there is none.
    """

    def __init__(self, name: str, value: str, traceback: str = "") -> None:
        super().__init__(f"{name}: {value}" if value else name)
        self.name = name
        self.value = value
        self.traceback = traceback

    def _render_traceback_(self) -> list[str]:
        return self.traceback.splitlines() or super()._render_traceback_()


class TransferError(SandboxError):
    """A value or a file cannot cross between host and box."""


class SandboxClosedError(SandboxError):
    """The sandbox has been killed or has ended."""


class OutcomeUnknownError(SandboxError):
    """The engine or the pipe went away in mid-run: whether the code finished is unknown."""


class PolicyError(SandboxError):
    """A wall that should hold does not, or what came out of a box breaks the rules."""


class ExecutionInterrupted(KeyboardInterrupt):  # named like the KeyboardInterrupt it is
    """The user stopped the run; what it had printed is in :attr:`execution`."""

    def __init__(self, execution: Execution) -> None:
        super().__init__("interrupted")
        self.execution = execution

    def _render_traceback_(self) -> list[str]:
        return ["KeyboardInterrupt: the sandboxed code was interrupted"]


class BatchInterrupted(KeyboardInterrupt):  # named like the KeyboardInterrupt it is
    """The user stopped a batch; what was done by then is in :attr:`batch`, and in the agent's ``last_batch``."""

    def __init__(self, batch: Batch[Any]) -> None:
        super().__init__("interrupted")
        self.batch = batch

    def _render_traceback_(self) -> list[str]:
        return [f"KeyboardInterrupt: stopped; the agent's last_batch has what was done\n{self.batch!r}"]
