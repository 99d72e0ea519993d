"""One execution as the supervisor sees it: its clock, its counters, and the caps on what it may send."""

from __future__ import annotations

import math
import os
import time
from typing import Any

from agent_executor.cgroup import Cgroup
from agent_executor.wire import MAX_PAYLOAD, Header

SAMPLE_SECONDS = 0.1
HOLD_SECONDS = 0.1
"""How long text is held that does not end in a newline: longer than a process waits for its turn on a busy machine."""
MAX_HELD = 256 * 1024
MAX_RESULTS_BYTES = 64 * 1024 * 1024
"""Displays and results of one execution, all together; what is beyond is dropped and counted."""
MAX_HISTORY = 120
"""Points of a run's history."""
MAX_RESULTS = 1000
MAX_ERRORS = 100
OVERHEAD = 256
"""Bytes that a display counts beside its content: so there is an end to updates too, which take no place."""


def environment(values: Any) -> dict[str, str]:
    """Variables, as a process can have them.

    >>> environment({"A": "1"})
    {'A': '1'}

    Raises:
        TypeError, ValueError: it can have none of these.
    """
    for name, value in values.items():
        if not name or b"=" in os.fsencode(name) or b"\0" in os.fsencode(name) + os.fsencode(value):
            raise ValueError(f"no process has a variable {name!r} with that value")
    return dict(values)


def seconds(value: Any) -> float | None:
    """A time, or None. Raises ValueError for what is none: a deadline of NaN would never come."""
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ValueError(f"{value!r} is no number of seconds")
    return float(value)


class OutputCap:
    """Passes the head of a stream on and keeps its tail, in bounded memory.

    >>> cap = OutputCap(head=4, tail=3)
    >>> cap.feed(b"abcdef"), cap.feed(b"ghij")
    (b'abcd', b'')
    >>> cap.finish()
    (3, b'hij')
    """

    def __init__(self, head: int, tail: int) -> None:
        self._left = head
        self._keep = tail
        self._tail = bytearray()
        self._dropped = 0

    def feed(self, data: bytes) -> bytes:
        """The part of ``data`` to pass on now."""
        now, rest = data[: self._left], data[self._left :]
        self._left -= len(now)
        if rest:
            self._tail += rest
            over = len(self._tail) - self._keep
            if over > 0:
                del self._tail[:over]
                self._dropped += over
        return now

    def finish(self) -> tuple[int, bytes]:
        """How many bytes were dropped between head and tail, and the tail."""
        dropped, tail = self._dropped, bytes(self._tail)
        self._dropped, self._tail = 0, bytearray()
        return dropped, tail


class History:
    """Points in time, at most :data:`MAX_HISTORY`, evenly spread over the run however long it is.

    >>> history = History()
    >>> for second in range(1000):
    ...     history.add([second])
    >>> points = history.points()
    >>> len(points) <= MAX_HISTORY, points[:3], points[-1]
    (True, [[0], [16], [32]], [999])
    """

    def __init__(self) -> None:
        self._points: list[list[Any]] = []
        self._last: list[Any] = []
        self._taken = 0
        self._step = 1

    def add(self, point: list[Any]) -> None:
        """Take a point; in a long run, only every so many."""
        self._last = point
        if self._taken % self._step == 0:
            if len(self._points) == MAX_HISTORY:  # half the resolution from here on
                del self._points[1::2]
                self._step *= 2
            if self._taken % self._step == 0:
                self._points.append(point)
        self._taken += 1

    def points(self) -> list[list[Any]]:
        """All that were kept, and the last one."""
        return self._points if self._points[-1] is self._last else [*self._points, self._last]


class Run:
    """One execution, of code or of a command, or a transfer of values: what was asked, what is seen of it, how it will
    be told.

    Attributes:
        id: the request's; None when nobody listens any more.
        kind: the request's type.
        pieces: what has come of a push before its turn, each with whether it is the last.
        unanswered: pieces that the worker has been given and has not answered.
        full_sockets: it was killed because sockets held too much.
    """

    def __init__(self, cgroup: Cgroup, header: Header, payload: bytes) -> None:
        self._cgroup = cgroup
        self.id: int | None = header["id"]
        self.kind: str = header["type"]
        self.header = header
        self.payload = payload
        self.timeout = seconds(header.get("timeout"))
        self.envs = environment(header.get("envs") or {})
        cap = int(header.get("max_output", 1024 * 1024))
        tail = cap // 8
        self.caps = {name: OutputCap(cap - tail, tail) for name in ("stdout", "stderr")}
        self.interrupted = False
        self.timed_out = False
        self.closed = False
        self.cut_off = False
        self.kill_at: float | None = None
        self.results = 0
        self.results_bytes = 0
        self.dropped_results = 0
        self.dropping = False
        self.errors = 0
        self.cleared = (
            0  # whether nothing was shown since a clear: 1 for one that waits for what follows, 2 for one at once
        )
        self.pieces: list[tuple[bool, bytes]] = []
        self.unanswered = 0
        self.full_sockets = False
        self.data_bytes = 0
        self._held = bytearray()
        self._held_name = ""
        self._held_until: float | None = None
        self._held_since = 0.0

    def hold(self, name: str, data: bytes) -> list[tuple[str, bytes]]:
        """What to pass on now that the code has written this, each piece with the stream it is of.

        What a ``print`` writes in several pieces goes on as one: text that does not end in a newline is held, for
        :data:`HOLD_SECONDS`, until there is more of it or something else to pass on. It is held here, where no end of
        its writer loses it.
        """
        before = self.release() if name != self._held_name else []
        self._held_name = name
        self._held += data
        if data.endswith(b"\n") or len(self._held) >= MAX_HELD:
            return before + self.release()
        now = time.monotonic()
        if self._held_until is None:
            self._held_since = now
        self._held_until = min(now, self._held_since + HOLD_SECONDS) + HOLD_SECONDS
        return before

    @property
    def holds(self) -> bool:
        """Whether there is text that waits for more."""
        return self._held_until is not None

    def release(self, now: float | None = None) -> list[tuple[str, bytes]]:
        """What is held; with a time, only if it has been held for long enough by then."""
        if self._held_until is not None and now is not None and now < self._held_until:
            return []
        self._held_until = None
        # In a flow of lines the last one is the one that goes on.
        whole = self._held.rfind(b"\n") + 1 if now is not None else 0
        end = whole or len(self._held)
        held, self._held = bytes(self._held[:end]), self._held[end:]
        if self._held and now is not None:
            self._held_since, self._held_until = now, now + HOLD_SECONDS
        return [(self._held_name, held)] if held else []

    def start(self) -> None:
        """The clock and the counters begin here; the first :meth:`sample` is the caller's to take, when there is
        time."""
        self.started = time.monotonic()
        self.deadline = None if self.timeout is None else self.started + self.timeout
        self.cpu = self._cgroup.cpu_seconds()
        self.peak = self._cgroup.memory_peak()
        self.oom_kills = self._cgroup.oom_kills()
        self.sampled_memory = 0
        self.sampled_pids = 0
        self.history = History()

    def sample(self) -> float | None:
        """Look at what only ever shows its present value. The CPU time used until now."""
        now = time.monotonic()
        self.next_sample = now + SAMPLE_SECONDS
        memory, cpu = self._cgroup.memory() or 0, self._cgroup.cpu_seconds()
        self.sampled_memory = max(self.sampled_memory, memory)
        self.sampled_pids = max(self.sampled_pids, self._cgroup.pids() or 0)
        used = None if cpu is None or self.cpu is None else cpu - self.cpu
        self.history.add([round(now - self.started, 3), memory, round(used or 0.0, 3)])
        return used

    def usage(self) -> dict[str, Any]:
        """Memory in bytes, times in seconds; the history is of time, memory in use and CPU time.

        The kernel's peak counts from the start of the box: it is this run's own peak where it rose during the run, and
        the highest sample is the best there is where it did not."""
        used = self.sample()
        peak = self._cgroup.memory_peak()
        rose = peak is not None and (self.peak is None or peak > self.peak)
        return {
            "memory_peak": peak if rose else self.sampled_memory,
            "cpu_seconds": used,
            "pids_peak": self.sampled_pids,
            "oom_kills": self._cgroup.oom_kills() - self.oom_kills,
            "duration": time.monotonic() - self.started,
            "history": self.history.points(),
        }

    def next_event(self) -> float:
        """When the loop must look at this run again, on the monotonic clock."""
        times = [t for t in (self.deadline, self.kill_at, self._held_until) if t is not None]
        return min(self.next_sample, *times) if times else self.next_sample

    def admits(self, header: Header, size: int) -> bool:
        """Whether a message of the worker may pass: there is a cap on displays, their number and their bytes; the data
        of a value may be as long as the host said; pieces are answered once."""
        if header["type"] == "ack":
            self.unanswered -= 1
            return self.unanswered >= 0
        if header["type"] == "data":
            self.data_bytes += size
            return self.kind in ("pull_request", "call_request") and self.data_bytes <= self.header["max_size"]
        if header["type"] == "tool_request":  # the host counts these
            return True
        if header["type"] == "clear_output":
            return self._clear(2 - bool(header.get("wait")))
        self.cleared = 0
        if header["type"] == "error":
            self.errors += 1
            return self.errors <= MAX_ERRORS
        if header["type"] == "more":
            self.results_bytes += size
            return not self.dropping
        whole = _announced(header, size)
        full = self.results >= MAX_RESULTS and not header.get("update")
        full |= whole > MAX_PAYLOAD or self.results_bytes + whole > MAX_RESULTS_BYTES
        self.dropping = full
        self.dropped_results += full
        self.results += not (full or header.get("update"))
        self.results_bytes += 0 if full else size + OVERHEAD
        return not full

    def _clear(self, kind: int) -> bool:
        """A clear of what has been cleared says nothing, and one too many is dropped like any display."""
        if self.cleared >= kind or self.results_bytes + OVERHEAD > MAX_RESULTS_BYTES:
            return False
        self.cleared = kind
        self.results = 0
        self.results_bytes += OVERHEAD
        return True


def _announced(header: Header, size: int) -> int:
    """The bytes of a whole display, of which ``size`` come with its header; they are counted as they come, too."""
    try:
        whole: int = sum(part[1] for part in header["parts"])
    except (KeyError, IndexError, TypeError):
        return size
    return max(size, whole)
