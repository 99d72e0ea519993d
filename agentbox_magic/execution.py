"""What a run gave: the records a caller gets. Plain data; nothing here touches a box or a notebook."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from agentbox_magic.errors import ExecutionError, SandboxError

Status = Literal["ok", "error", "timeout", "oom", "interrupted", "killed", "lost"]
STATUSES: tuple[Status, ...] = ("ok", "error", "timeout", "oom", "interrupted", "killed", "lost")
"""How a run ends: it finished; it raised or ended its process; its deadline, the memory limit, the user, or a signal
ended it; or the engine or the pipe went away and the outcome is unknown."""

MAX_HISTORY = 121
"""Samples of a run that are kept: the box's 120, and the last one."""

_KNOWN = {
    "text/plain", "text/html", "text/markdown", "text/latex", "image/svg+xml", "image/png", "image/jpeg",
    "application/pdf", "application/javascript", "application/json",
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """One thing the code displayed: a MIME bundle, as it came from the box. **Untrusted**: show it with
    :mod:`agentbox_magic.display`, never as it is.

    Attributes:
        data: MIME type to content: ``bytes`` for images, ``str`` for text, JSON values for ``*/*json``.
        is_main_result: it is the value of the cell's last expression.
        display_id: the name under which the code may show a later state of it; the results keep the last.
    """

    data: dict[str, Any]
    is_main_result: bool = False
    display_id: str | None = None

    @property
    def text(self) -> str | None:
        """``text/plain``."""
        return self.data.get("text/plain")

    @property
    def html(self) -> str | None:
        """``text/html``, unsanitised."""
        return self.data.get("text/html")

    @property
    def markdown(self) -> str | None:
        """``text/markdown``."""
        return self.data.get("text/markdown")

    @property
    def latex(self) -> str | None:
        """``text/latex``."""
        return self.data.get("text/latex")

    @property
    def svg(self) -> str | None:
        """``image/svg+xml``."""
        return self.data.get("image/svg+xml")

    @property
    def png(self) -> bytes | None:
        """``image/png``."""
        return self.data.get("image/png")

    @property
    def jpeg(self) -> bytes | None:
        """``image/jpeg``."""
        return self.data.get("image/jpeg")

    @property
    def pdf(self) -> bytes | None:
        """``application/pdf``."""
        return self.data.get("application/pdf")

    @property
    def javascript(self) -> str | None:
        """``application/javascript``."""
        return self.data.get("application/javascript")

    @property
    def json(self) -> Any:
        """``application/json``, parsed."""
        return self.data.get("application/json")

    @property
    def extra(self) -> dict[str, Any]:
        """The types that have no property of their own."""
        return {mime: value for mime, value in self.data.items() if mime not in _KNOWN}

    def formats(self) -> list[str]:
        """The MIME types there are."""
        return list(self.data)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; images in base64."""
        data = {
            mime: base64.b64encode(value).decode() if isinstance(value, bytes) else value
            for mime, value in self.data.items()
        }
        return {"data": data, "is_main_result": self.is_main_result}

    def __repr__(self) -> str:
        return f"Result({', '.join(sorted(self.data))})"


@dataclass(frozen=True)
class Logs:
    """What the code wrote, each a list of pieces in order of arrival (as E2B's ``Logs``)."""

    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)


class Sample(NamedTuple):
    """What a run was using at one moment.

    Attributes:
        seconds: since its start.
        memory: bytes in use.
        cpu_seconds: CPU time since its start.
    """

    seconds: float
    memory: int
    cpu_seconds: float


@dataclass(frozen=True)
class Usage:
    """What the run used, counted by the kernel for the whole box; None where the kernel does not count it.

    Attributes:
        memory_peak: bytes.
        memory_limit: bytes.
        cpu_seconds: CPU time of all processes.
        pids_peak: processes and threads, the box's own included; sampled every 0.1 s.
        oom_kills: processes the kernel killed for memory.
        history: samples in order of time, at most :data:`MAX_HISTORY`, spread evenly.
    """

    memory_peak: int | None = None
    memory_limit: int | None = None
    cpu_seconds: float | None = None
    pids_peak: int | None = None
    oom_kills: int = 0
    history: tuple[Sample, ...] = ()


@dataclass
class Execution:
    """The outcome of one run.

    Attributes:
        status: one word, see :data:`STATUSES`.
        results: what was displayed, in order; the value of the last expression is the one with ``is_main_result``.
        logs: what was written.
        error: the exception that :meth:`raise_for_status` would raise; None if the run is ok.
        usage: what it used.
        duration: seconds, from the start in the box to the end.
        execution_count: the number of the cell in its context.
        exit_code: the exit status: of a command, of a run of bash, and of Python code that called ``sys.exit`` or ended
            its own process.
        signal: the number of the signal that ended it.
        dropped_results: displays beyond the cap (1000, or 64 MiB together), which did not come.
        dropped_stdout: bytes of stdout beyond the cap, from its middle, which did not come; a line in :attr:`stdout`
            says so too. Likewise ``dropped_stderr``.
    """

    status: Status = "lost"
    results: list[Result] = field(default_factory=list)
    logs: Logs = field(default_factory=Logs)
    error: SandboxError | None = None
    usage: Usage = field(default_factory=Usage)
    duration: float = 0.0
    execution_count: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    dropped_results: int = 0
    dropped_stdout: int = 0
    dropped_stderr: int = 0

    @property
    def text(self) -> str | None:
        """The plain text of the last expression's value."""
        for result in self.results:
            if result.is_main_result:
                return result.text
        return None

    @property
    def stdout(self) -> str:
        """All of stdout."""
        return "".join(self.logs.stdout)

    @property
    def stderr(self) -> str:
        """All of stderr."""
        return "".join(self.logs.stderr)

    def raise_for_status(self) -> Execution:
        """Return self if the run is ok.

        Raises:
            SandboxError: :attr:`error`, if the run is not.
        """
        if self.error is not None:
            raise self.error
        return self

    def to_json(self) -> str:
        """The whole record as JSON: everything but the exception object, whose text is in ``error``.

        >>> Execution(status="ok").to_json()[:16]
        '{"status": "ok",'
        """
        error = None if self.error is None else {"type": type(self.error).__name__, "message": str(self.error)}
        if isinstance(self.error, ExecutionError):
            error = {**(error or {}), "name": self.error.name, "value": self.error.value}
            error["traceback"] = self.error.traceback
        return json.dumps(
            {
                "status": self.status,
                "text": self.text,
                "results": [result.to_dict() for result in self.results],
                "logs": asdict(self.logs),
                "error": error,
                "usage": asdict(self.usage),
                "duration": self.duration,
                "execution_count": self.execution_count,
                "exit_code": self.exit_code,
                "signal": self.signal,
                "dropped_results": self.dropped_results,
                "dropped_stdout": self.dropped_stdout,
                "dropped_stderr": self.dropped_stderr,
            }
        )

    def __repr__(self) -> str:  # no times: it must be the same from run to run
        parts: list[str] = [self.status]
        if self.text is not None:
            parts.append(f"text={self.text[:80]!r}")
        if self.error is not None:
            parts.append(f"error={str(self.error)[:80]!r}")
        return f"Execution({', '.join(parts)})"
