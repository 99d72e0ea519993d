"""What a sandbox's parts share: asking its box, and following a run, with every failure turned into its own error."""

from __future__ import annotations

import contextlib
import errno
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from agent_executor.wire import MAX_PAYLOAD, Header, ProtocolError
from agentbox_magic import cost
from agentbox_magic.channel import REQUEST_SECONDS, Call, Channel, ChannelClosedError, Message, RefusedError, answer
from agentbox_magic.collector import Collector
from agentbox_magic.errors import (
    ExecutionInterrupted,
    OutcomeUnknownError,
    PolicyError,
    SandboxClosedError,
)
from agentbox_magic.execution import Execution
from agentbox_magic.limits import Limits, format_size

SLOW_SECONDS = 1.0
UNWIND_SECONDS = 3.0
"""How long a run may take to end when it is interrupted because its caller's own function failed."""
QUIET_SECONDS = 2.75
"""From a deadline until nothing but the reply is taken: the supervisor has ended the run by then."""
OUTER_GRACE_SECONDS = 3.5
"""From a deadline until the host ends the box itself, which leaves it a moment: the caller waits no longer than 5."""


_SILENT = (
    "the box did not answer at its deadline: it, the engine or the way to it is frozen; it has been killed, and what "
    "it did may or may not be done"
)


class Link:
    """The live end of a box. ``kill`` ends it without waiting for that; ``detached`` boxes do not end with their pipe.

    Attributes:
        killed: whoever holds the box has let go of it.
    """

    def __init__(self, channel: Channel, limits: Limits, kill: Callable[[], object], *, detached: bool = False) -> None:
        self.limits = limits
        self._detached = detached
        self.killed = False
        self._channel = channel
        self._kill = kill
        self._lock = threading.Lock()
        self._turns: dict[int, tuple[str, float]] = {}

    @property
    def is_open(self) -> bool:
        """Whether the box still listens."""
        return not (self.killed or self._channel.closed)

    def check_owner(self) -> None:
        """Raises SandboxError in a fork of the process whose box it is."""
        self._channel.check_owner()

    def call(self, kind: str, payload: bytes = b"", *, budget: int, **fields: Any) -> Call:
        """Ask something whose answer has many parts. Raises SandboxClosedError, and ValueError for more than the box
        takes at once."""
        self.check_owner()
        if not self.is_open:
            raise SandboxClosedError("this sandbox has ended; create another")
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(
                f"this is {format_size(len(payload))}, and {format_size(MAX_PAYLOAD)} go to a box at once; write it to "
                "a file there with files.write()"
            )
        return self._channel.call(kind, payload, budget=budget, **fields)

    def send(self, header: Header, payload: bytes = b"") -> None:
        """Say something that has no answer of its own; it waits for nothing."""
        self.check_owner()
        self._channel.send(header, payload)

    def interrupt(self, call: Call) -> None:
        """Interrupt a run; the second time, kill its process."""
        self.send({"type": "interrupt_request", "id": call.id})

    def request(self, kind: str, payload: bytes = b"", *, patience: float = REQUEST_SECONDS, **fields: Any) -> Any:
        """Ask for one thing and give its result, which is plain JSON, within ``patience`` seconds.

        Raises:
            OSError: the box says why it cannot be done.
            SandboxClosedError, OutcomeUnknownError, PolicyError: as :meth:`guard`.
        """
        with self.call(kind, payload, budget=2**22, **fields) as call, self.guard():
            return self.answer(*call.get(patience))

    def info(self, patience: float = REQUEST_SECONDS) -> dict[str, Any]:
        """What the box says of itself: numbers of its use, commands, contexts."""
        info = self.request("info_request", patience=patience)
        with self.guard():
            return _checked_info(info)

    def answer(self, header: Header, body: bytes) -> Any:
        """The result in a reply; raises OSError if that says no."""
        try:
            return answer(header, body)
        except RefusedError as error:
            hint = {
                "ENOSPC": "; files count against mem: raise it, or remove some",
                "EAGAIN": "; the box has as many processes and threads as pids allows: raise it, or end some",
            }.get(error.code, "")
            raise OSError(getattr(errno, error.code, errno.EIO), f"{error}{hint}") from None

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Around whatever reads from the box.

        Raises:
            PolicyError: the box broke the protocol; it has been killed.
            SandboxClosedError: it was killed meanwhile.
            OutcomeUnknownError: it, or its engine, went away or does not answer.
        """
        try:
            yield
        except ProtocolError as error:
            self._kill()
            raise PolicyError(f"the box broke the protocol and was killed: {error}") from error
        except ChannelClosedError as error:
            raise self.ended(error) from error
        except queue.Empty:
            raise OutcomeUnknownError("the box does not answer; kill it and create another") from None

    def ended(self, error: ChannelClosedError) -> Exception:
        """Why the pipe ended: the box broke the rules, we killed it, or it or its engine went away. Raises SandboxError
        in a fork."""
        self.check_owner()
        if error.reason:
            self._kill()
            return PolicyError(error.reason + "; it has been killed")
        if self._channel.ended_here:
            return SandboxClosedError("the sandbox was killed in mid-run")
        if not self._detached:
            self._kill()
        return OutcomeUnknownError("the box or its engine went away in mid-run; what it did may or may not be done")

    @contextlib.contextmanager
    def ending(self, call: Call, collector: Collector, *spared: type[BaseException]) -> Iterator[None]:
        """Around a call of the caller's own functions. What they raise, but for what is ``spared``, ends the run too:
        it is interrupted, and killed if that is not enough; the box goes on."""
        try:
            yield
        except spared:
            raise
        except BaseException:
            collector.mute()
            self._end(call, collector)
            raise

    def _end(self, call: Call, collector: Collector) -> None:
        call.skip()  # the message in which that happened
        for patience in (UNWIND_SECONDS, OUTER_GRACE_SECONDS):
            if not collector.ended:
                self.interrupt(call)  # the second time, it kills
            until = time.monotonic() + patience
            try:
                while not collector.ended and time.monotonic() < until:
                    collector.add(*call.get(max(0.0, until - time.monotonic())))
            except queue.Empty:
                continue
            except ChannelClosedError:
                return
            except ProtocolError:
                break
            if collector.ended:
                return
        self._kill()

    def follow(self, call: Call, collector: Collector, patience: float | None, quiet: float | None = None) -> Execution:
        """Take the messages of a run to its end. What was waiting at the start is taken in any case.

        Args:
            call: the run's.
            collector: takes them.
            patience: seconds; those in the caller's functions count.
            quiet: when to begin to take nothing but the reply, on the monotonic clock.

        Raises:
            OSError: the box says why it cannot be run: its context has been removed, there is no room for a process.
            queue.Empty: ``patience`` seconds went by; following can go on later.
            ExecutionInterrupted: the user pressed Ctrl-C; a second one kills the box.
            PolicyError: the box broke the protocol; it has been killed.
        """
        until = None if patience is None else time.monotonic() + patience
        early = call.waiting
        begun: Header | None = None
        while True:
            try:
                now = time.monotonic()
                if until is not None and now >= until and not early:
                    raise queue.Empty
                header, payload = self._next(call, collector, None if until is None else max(0.0, until - now))
                is_late = quiet is not None and not early and time.monotonic() >= quiet
                if header["type"] == "reply":
                    self.answer(header, payload)  # it says why there is no run
                # A Ctrl-C may come in the middle of a message. The reply is taken again then; what else was begun is
                # done, but for what the caller's own functions left undone.
                over = False
                if header["type"] == "execute_reply" or not (is_late or header is begun):
                    begun = header
                    with self.ending(call, collector, ProtocolError, KeyboardInterrupt):
                        over = collector.add(header, payload)
                call.drop()
                early = max(0, early - 1)
                if over:
                    break
            except ProtocolError as error:
                self._kill()
                raise PolicyError(f"the box broke the protocol and was killed: {error}") from error
            except ChannelClosedError as error:
                why = self.ended(error)
                if isinstance(why, PolicyError):
                    raise why from error
                killed = isinstance(why, SandboxClosedError)
                collector.execution.status = "killed" if killed else "lost"
                collector.end(why if isinstance(why, (SandboxClosedError, OutcomeUnknownError)) else None)
                break
            except KeyboardInterrupt:
                if collector.interrupted:
                    self._kill()
                    collector.execution.status = "interrupted"
                    raise ExecutionInterrupted(collector.end(None)) from None
                collector.interrupted = True
                if self._channel.retract(call):  # the box has not heard of it
                    collector.execution.status = "interrupted"
                    raise ExecutionInterrupted(collector.end(None)) from None
        cost.METER.add(self.limits, collector.execution.duration)
        if collector.interrupted:
            raise ExecutionInterrupted(collector.execution)
        return collector.execution

    def _next(self, call: Call, collector: Collector, left: float | None) -> Message:
        """The next message; while there is none, the caller does what it has put off. Raises as :meth:`Call.peek`."""
        until = math.inf if left is None else time.monotonic() + left
        while collector.has_idle and not call.waiting:
            with self.ending(call, collector, KeyboardInterrupt):
                rest = collector.idle()
            if rest is None or time.monotonic() + rest >= until:
                break
            with contextlib.suppress(queue.Empty):
                return call.peek(rest)
        return call.peek(None if left is None else max(0.0, until - time.monotonic()))

    def deadline(self, call: Call, seconds: float | None, context: str | None = None) -> float | None:
        """When the host itself ends a run (monotonic), if the supervisor does not.

        Runs of one context take turns, and the time of each counts from its turn: so from when those before it must be
        over. That is the host's own reckoning, which nothing that a box says puts off.
        """
        if seconds is None and context is None:
            return None
        with self._lock:
            before = [until for where, until in self._turns.values() if where == context]
            begin = max([time.monotonic(), *before])
            until = math.inf if seconds is None else begin + seconds + OUTER_GRACE_SECONDS
            if context is not None:
                self._turns[call.id] = context, until
        return None if until == math.inf else until

    def follow_to_deadline(
        self, call: Call, collector: Collector, until: float | None, on_slow: Callable[[], Any] | None = None
    ) -> Execution:
        """:meth:`follow`; where the supervisor does not keep the deadline, kill the box at ``until``, which
        :meth:`deadline` gave. ``on_slow`` is called if the run goes on after a second."""
        try:
            if on_slow:
                try:
                    return self.follow(call, collector, SLOW_SECONDS)
                except queue.Empty:
                    with self.ending(call, collector):
                        on_slow()
            left = None if until is None else until - time.monotonic()
            quiet = None if until is None else until - (OUTER_GRACE_SECONDS - QUIET_SECONDS)
            return self.follow(call, collector, left, quiet)
        except queue.Empty:
            # A box that speaks, and not of the end of this run, still runs it.
            speaks = until is not None and self._channel.heard_at > until - OUTER_GRACE_SECONDS
            self._kill()
            collector.execution.status = "timeout" if speaks else "lost"
            return collector.end(collector.timed_out() if speaks else OutcomeUnknownError(_SILENT))
        finally:
            with self._lock:
                self._turns.pop(call.id, None)


def _checked_info(info: Any) -> dict[str, Any]:
    if not isinstance(info, dict):
        raise ProtocolError("what the box says of itself is no object")
    for name in ("memory", "memory_peak", "cpu_seconds", "pids"):
        if info.get(name) is not None and not isinstance(info[name], (int, float)):
            raise ProtocolError(f"{name} is no number")
    for name, keys in (("commands", ("pid", "cmd", "cwd", "envs")), ("contexts", ("id", "language", "cwd"))):
        if not isinstance(info.get(name), list):
            raise ProtocolError(f"no list of {name}")
        if not all(isinstance(one, dict) and all(key in one for key in keys) for one in info[name]):
            raise ProtocolError(f"{name} are not what they should be")
    return info
