"""From a box's messages to an :class:`Execution`: every message checked, every byte bounded."""

from __future__ import annotations

import codecs
import json
import signal
from collections.abc import Callable
from typing import Any

from agent_executor.wire import MAX_BODY, Header, ProtocolError
from agentbox_magic.errors import (
    ExecutionError,
    MemoryLimitError,
    OutcomeUnknownError,
    SandboxClosedError,
    SandboxError,
    TimeLimitError,
)
from agentbox_magic.execution import MAX_HISTORY, STATUSES, Execution, Result, Sample, Usage
from agentbox_magic.limits import Limits, format_size
from agentbox_magic.text import clean, clean_traceback

BUDGET = 128 * 2**20
"""Bytes of answers the host takes for one run beside its output. The supervisor keeps to less; this is for one that
does not."""
PIECE_COST = 32
"""What a message counts beside its payload."""
MAX_OUTPUT = 64 * 2**20
MAX_PARTS = 20
MAX_TEXT = 64 * 1024
MAX_PARSED = 512 * 2**20
"""Memory, by :func:`parsed_size`, that the JSON of one run may take; what comes later stays text."""

OnText = Callable[[str], Any]
OnResult = Callable[[Result], Any]
OnClear = Callable[[bool], Any]
OnIdle = Callable[[], float | None]


def _text(value: object, limit: int) -> str:
    if not isinstance(value, str):
        raise ProtocolError("text is not text")
    return value[:limit]


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _seconds(value: object) -> float | None:
    # Ints are bounded first: one of 400 digits has no float.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**63:
        return None
    return float(value)


def _history(value: object) -> tuple[Sample, ...]:
    """Checked: numbers in range, times in order."""
    if not isinstance(value, list) or len(value) > MAX_HISTORY:
        raise ProtocolError("a history is not a list of samples")
    samples: list[Sample] = []
    for point in value:
        if not (isinstance(point, list) and len(point) == 3):
            raise ProtocolError("a sample is not [seconds, memory, CPU seconds]")
        seconds, memory, cpu = _seconds(point[0]), _count(point[1]), _seconds(point[2])
        if seconds is None or memory is None or cpu is None or (samples and seconds < samples[-1].seconds):
            raise ProtocolError("a sample is out of range")
        samples.append(Sample(seconds, memory, cpu))
    return tuple(samples)


def signal_name(number: int) -> str:
    """A signal's name.

    >>> signal_name(9), signal_name(60)
    ('SIGKILL', 'signal 60')
    """
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def parsed_size(raw: bytes) -> int:
    """About the bytes of memory that JSON takes once parsed, at most: ``[[],[],...`` grows thirtyfold."""
    return len(raw) + 40 * raw.count(b",") + 120 * raw.count(b"[") + 250 * raw.count(b"{")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")  # Python's reader takes it, others do not


def decode_bundle(header: Header, payload: bytes, *, parse: bool = True) -> dict[str, Any]:
    """The MIME bundle of a display message; with ``parse`` false, JSON as text. Raises :class:`ProtocolError`.

    >>> decode_bundle({"parts": [["text/plain", 2]]}, b"42")
    {'text/plain': '42'}
    """
    parts = header.get("parts")
    if not isinstance(parts, list) or len(parts) > MAX_PARTS:
        raise ProtocolError("a display without a list of parts")
    data: dict[str, Any] = {}
    start = 0
    for part in parts:
        if not (isinstance(part, list) and len(part) == 2 and isinstance(part[0], str)) or _count(part[1]) is None:
            raise ProtocolError("a display's part is not [type, size]")
        mime, size = part
        raw = payload[start : start + size]
        start += size
        if mime == "application/pdf" or (mime.startswith("image/") and mime != "image/svg+xml"):
            data[mime] = raw
        elif mime.startswith("text/") or mime in ("image/svg+xml", "application/javascript"):
            data[mime] = raw.decode("utf-8", "replace")
        else:
            try:
                data[mime] = json.loads(raw.decode(), parse_constant=_no_constant) if parse else raw.decode()
            except (ValueError, RecursionError):
                data[mime] = raw.decode("utf-8", "replace")
    if start != len(payload):
        raise ProtocolError("a display's parts are not its payload")
    return data


class Collector:
    """Fills one :class:`Execution` and calls the caller's functions, in the thread that calls :meth:`add`.

    Attributes:
        interrupted: the user pressed Ctrl-C once.
        ended: the run has been told to be over.
    """

    def __init__(
        self, limits: Limits, timeout: float | None, on_stdout: OnText | None, on_stderr: OnText | None,
        on_result: OnResult | None,
        on_clear: OnClear | None = None,
        on_idle: OnIdle | None = None,
        *,
        max_output: int = 2**20,
    ) -> None:  # fmt: skip
        if not 0 <= max_output <= MAX_OUTPUT:
            raise ValueError(
                f"max_output {max_output} is out of range; give bytes up to {MAX_OUTPUT}, or write to a file in the box"
            )
        self.execution = Execution()
        self.interrupted = False
        self.ended = False
        self._limits = limits
        self._timeout = timeout
        self._on_result = on_result
        self._on_clear = on_clear
        self._on_idle = on_idle
        logs = self.execution.logs
        self._streams = {"stdout": (logs.stdout, on_stdout), "stderr": (logs.stderr, on_stderr)}
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {name: decoder("replace") for name in self._streams}
        self._displays: dict[str, int] = {}
        self._clear_next = False
        # Output may come in pieces of one byte, to both streams, and each piece costs.
        self.budget = self._left = BUDGET + 2 * max_output * (1 + PIECE_COST)
        self._remote: ExecutionError | None = None
        self._room = MAX_PARSED

    def add(self, header: Header, payload: bytes) -> bool:
        """Take one message; True when it was the last. Raises :class:`ProtocolError`."""
        self._left -= len(payload) + PIECE_COST
        if self._left < 0:
            raise ProtocolError("the box sent more than a run may")
        kind = header["type"]
        if kind == "stream":
            self._stream(header, payload)
        elif kind in ("display_data", "execute_result"):
            self._result(header, payload, is_main=kind == "execute_result")
        elif kind == "clear_output":
            self._clear_next = True
            if not header.get("wait"):
                self._clear()
            if self._on_clear:
                self._on_clear(bool(header.get("wait")))
        elif kind == "error":
            self._error(payload)
        elif kind == "execute_reply":
            self.ended = True
            self._reply(header)
            return True
        else:
            raise ProtocolError(f"unknown message {kind[:40]!r}")
        return False

    def mute(self) -> None:
        """Call none of the caller's functions any more."""
        self._on_result = self._on_clear = self._on_idle = None
        self._streams = {name: (pieces, None) for name, (pieces, _) in self._streams.items()}

    @property
    def has_idle(self) -> bool:
        """Whether :meth:`idle` does anything."""
        return self._on_idle is not None

    def idle(self) -> float | None:
        """Nothing has come for the moment. After how many seconds to call this again, if nothing comes; None: not at
        all."""
        return self._on_idle() if self._on_idle else None

    def _result(self, header: Header, payload: bytes, *, is_main: bool) -> None:
        name = header.get("display_id")
        if name is not None and not isinstance(name, str):
            raise ProtocolError("a display's id is not text")
        self._room -= parsed_size(payload)
        data = decode_bundle(header, payload, parse=self._room >= 0)
        result = Result(data, is_main_result=is_main, display_id=name)
        results = self.execution.results
        if header.get("update"):
            if name not in self._displays:
                return  # an update of what this run did not show
            results[self._displays[name]] = result
        else:
            self._clear()
            results.append(result)
            if name is not None:
                self._displays[name] = len(results) - 1
        if self._on_result:
            self._on_result(result)

    def _clear(self) -> None:
        """Do what ``clear_output`` asked for, which with ``wait=True`` waits for the next output."""
        if self._clear_next:
            self._clear_next = False
            self.execution.results.clear()
            self._displays.clear()

    def _stream(self, header: Header, payload: bytes) -> None:
        name = header.get("name")
        if not isinstance(name, str) or name not in self._streams:
            raise ProtocolError("a stream without a name")
        self._clear()
        dropped = _count(header.get("dropped"))
        if dropped:
            if name == "stdout":
                self.execution.dropped_stdout += dropped
            else:
                self.execution.dropped_stderr += dropped
            self._emit(name, self._decoders[name].decode(b"", final=True))
            self._emit(name, f"\n[... {dropped:,} bytes dropped ...]\n")
        self._emit(name, self._decoders[name].decode(payload))

    def _emit(self, name: str, text: str) -> None:
        if text:
            pieces, callback = self._streams[name]
            pieces.append(text)
            if callback:
                callback(text)

    def _error(self, payload: bytes) -> None:
        if len(payload) > MAX_BODY:  # more than its texts may be
            raise ProtocolError("an error report is too long")
        try:
            report = json.loads(payload)
            name, value, trace = report["ename"], report["evalue"], report["traceback"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ProtocolError("an error report is not one") from None
        self._remote = ExecutionError(
            clean(_text(name, 200), colour=False),
            clean_traceback(_text(value, MAX_TEXT), colour=False),
            clean_traceback(_text(trace, MAX_TEXT)),
        )

    def _reply(self, header: Header) -> None:
        status = header.get("status")
        if status not in STATUSES:
            raise ProtocolError("a reply without a status")
        usage = header.get("usage")
        if not isinstance(usage, dict):
            raise ProtocolError("a reply without usage")
        run = self.execution
        run.status = status
        run.execution_count = _count(header.get("execution_count"))
        run.exit_code = _count(header.get("exit_code"))
        run.signal = _count(header.get("signal"))
        run.dropped_results = _count(header.get("dropped_results")) or 0
        run.duration = _seconds(usage.get("duration")) or 0.0
        run.usage = Usage(
            memory_peak=_count(usage.get("memory_peak")),
            memory_limit=self._limits.mem,
            cpu_seconds=_seconds(usage.get("cpu_seconds")),
            pids_peak=_count(usage.get("pids_peak")),
            oom_kills=_count(usage.get("oom_kills")) or 0,
            history=_history(usage.get("history", [])),
        )
        self.end(self._explain(header))

    def end(self, error: SandboxError | None) -> Execution:
        """Close the record: the last bytes of an unfinished character, and the error."""
        for name, decoder in self._decoders.items():
            self._emit(name, decoder.decode(b"", final=True))
        self.execution.error = error
        return self.execution

    def _explain(self, header: Header) -> SandboxError | None:
        status = self.execution.status
        if status == "ok":
            return None
        if status == "timeout":
            return self.timed_out()
        if status == "oom":
            if header.get("sockets") is True:
                return self._full_sockets()
            return self.out_of_memory(self.execution.usage.memory_peak)
        if status == "lost":
            return OutcomeUnknownError("the box does not know how the run ended")
        if status == "killed":
            if header.get("lifetime"):
                return SandboxClosedError("the sandbox's lifetime ended in mid-run; set_timeout gives it a longer one")
            if header.get("cut_off"):
                return ExecutionError("OSError", "the code broke the process that runs it, which was ended")
            name = signal_name(self.execution.signal or 0)
            return ExecutionError(name, f"the code's process was killed by {name}")
        code = self.execution.exit_code
        if status == "error" and code is not None and self._remote is None:
            return ExecutionError("SystemExit", f"the code ended its own process with exit code {code}")
        if status == "interrupted":
            return self._remote or ExecutionError("KeyboardInterrupt", "")
        return self._remote or ExecutionError("Exception", "the code failed without a report")

    def timed_out(self) -> TimeLimitError:
        """The error of a run that passed its deadline."""
        limit = self._timeout or 0
        return TimeLimitError(f"killed: ran past its {limit:g} s; raise timeout, such as --timeout {limit * 2:g}")

    def _full_sockets(self) -> MemoryLimitError:
        limit = self._limits.mem
        return MemoryLimitError(
            f"killed: its sockets held more than a quarter of its {format_size(limit)}; read what is sent and close "
            f"what is done with, or raise mem, such as --mem {2 * limit // 2**20}m"
        )

    def out_of_memory(self, peak: int | None) -> MemoryLimitError:
        """The error of a run that the kernel killed for memory."""
        limit = self._limits.mem
        used = format_size(limit if peak is None else min(peak, limit))
        more = f"--mem {2 * limit // 2**20}m"
        return MemoryLimitError(f"killed: used {used} of {format_size(limit)}; raise mem, such as {more}")
