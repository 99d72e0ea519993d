"""The host's end of a box's pipe: requests go out, messages come back to whoever asked.

What comes in is hostile. Lengths are bounded by :mod:`agent_executor.wire`; an answer nobody asked for, or more bytes
than a request may have as its answer, ends the channel.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import secrets
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from agent_executor.wire import Assembler, Decoder, Header, ProtocolError, encode_message, is_id, weight
from agentbox_magic import forks
from agentbox_magic.outbox import LOOK_SECONDS, Outbox, keep
from agentbox_magic.text import clean

Message = tuple[Header, bytes]

PROTOCOL = 1
MAX_REPLY = 2**22
"""Bytes of the answer to a plain request."""

_FLAT = 256
"""What a message costs beyond its payload. An ordinary header is in memory for a moment only and is paid with that."""
_ORDINARY = 1024
TOUCH_SECONDS = 2.0
"""How long the end of a pipe waits for the engine to have done what it was asked with the container."""
JOIN_SECONDS = 1.0
"""How long the reader of a pipe that has been closed is waited for."""
REQUEST_SECONDS = 60.0
"""How long a box may take to answer a request that has no deadline of its own."""
_UNWEIGHED = 2
"""So many may wait before headers are weighed, which takes as long as to read them: a result and its reply."""


class ChannelClosedError(Exception):
    """The pipe has ended. ``reason`` is empty if it just ended, and tells what was wrong if the box broke the rules."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RefusedError(Exception):
    """The box could not do what was asked. ``code`` is an errno's name, such as ``"ENOENT"``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def answer(header: Header, body: bytes) -> Any:
    """The result in a ``reply``, which is plain JSON.

    Raises:
        RefusedError: the reply says so.
        ProtocolError: it is no reply.
    """
    if header["type"] != "reply":
        raise ProtocolError(f"{header['type'][:40]!r} where a reply should be")
    result = parse(body)
    code = header.get("error")
    if code is not None:
        raise RefusedError(clean(str(code)[:40], colour=False), clean(str(result)[:1000], colour=False))
    return result


def parse(body: bytes) -> Any:
    """JSON of a box. Raises :class:`ProtocolError`."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ProtocolError("a body is not JSON") from None


class Call:
    """One request and the messages that answer it, of which at most ``budget`` bytes may wait to be taken.

    Attributes:
        on_message: called by the channel's thread when there is something to take, for an asker that waits for other
            things too.
    """

    def __init__(self, channel: Channel, number: int, budget: int) -> None:
        self.id = number
        self._channel = channel
        self._budget = budget
        self._arrived = 0  # counted by the channel's thread alone
        self._taken = 0  # and this by the asker's
        self._messages: queue.SimpleQueue[tuple[Message, int] | None] = queue.SimpleQueue()
        self._first: deque[tuple[Message, int] | None] = deque()
        self.on_message: Callable[[], object] = lambda: None

    def put(self, message: Message | None) -> None:
        """For the channel's thread: None means that no more will come."""
        if message is None:
            self._messages.put(None)
            self.on_message()
            return
        cost = len(message[1]) + _FLAT
        if self._messages.qsize() >= _UNWEIGHED:
            cost += max(0, weight(message[0]) - _ORDINARY)
        self._arrived += cost
        if self._arrived - self._taken > self._budget:
            raise ProtocolError("the box sends more than it was asked for")
        self._messages.put((message, cost))
        self.on_message()

    def abandon(self) -> None:
        """In a fork: no more will come here. (The parent's asker is not woken.)"""
        self._messages.put(None)

    @property
    def waiting(self) -> int:
        """How many messages can be taken at once."""
        return len(self._first) + self._messages.qsize()

    def get(self, timeout: float | None = None) -> Message:
        """The next message, within ``timeout`` seconds.

        Raises:
            queue.Empty: none came in time, or what was asked cannot be sent: the box has taken nothing for a minute.
            ChannelClosedError: none will come.
        """
        message = self.peek(timeout)
        self.drop()
        return message

    def peek(self, timeout: float | None = None) -> Message:
        """:meth:`get`; but the message stays the next one until it is dropped, whatever a Ctrl-C breaks off."""
        if not self._first:
            outbox = self._channel.outbox
            if outbox.is_empty:
                keep(self._first, self._messages.get, True, timeout)
            else:
                self._wait(outbox, math.inf if timeout is None else time.monotonic() + timeout)
        item = self._first[0]
        if item is None:
            raise ChannelClosedError(self._channel.reason)
        return item[0]

    def drop(self) -> None:
        """Have done with the message that :meth:`peek` gave."""
        item = self._first.popleft()
        if item is not None:
            self._taken += item[1]

    def skip(self) -> None:
        """Have done with the message that :meth:`peek` gave and nobody dropped, if there is one."""
        if self._first and self._first[0] is not None:
            self.drop()

    def _wait(self, outbox: Outbox, until: float) -> None:
        """Wait for a message while there is something to send."""
        while not self._first:
            outbox.push()  # a Ctrl-C may have come before somebody else did
            left = max(0.0, until - time.monotonic())
            try:
                keep(self._first, self._messages.get, True, min(left, LOOK_SECONDS))
            except queue.Empty:
                if left <= LOOK_SECONDS or outbox.is_stalled:
                    raise

    def __enter__(self) -> Call:
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        """Listen no more. A Ctrl-C that nobody has passed on to what runs is passed on."""
        if kind is KeyboardInterrupt:
            self._channel.retract(self)
        self._channel.forget(self)


class Pipe(Protocol):
    """The link to a box: the engine's own, or a relay's."""

    stderr: bytearray
    socket: socket.socket

    def recv(self) -> bytes:
        """What comes next; empty when the box is gone."""

    def close(self) -> None:
        """Close both ways. Wakes a reader."""


class Channel:
    """A pipe with its one reader thread, which ends when the pipe does.

    Attributes:
        outbox: what is on its way to the box.
        closed: the pipe has ended.
        ended_here: it was ended at this end, by :meth:`close`.
        reason: what the box did wrong; empty if the pipe just ended.
        heard_at: when something came last, on the monotonic clock.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.outbox = Outbox(pipe.socket)
        self._last = 0
        # A call that nobody holds any more, after a Ctrl-C anywhere, is in nobody's way.
        self._calls: weakref.WeakValueDictionary[int, Call] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()
        self._nonce = secrets.token_hex(16)
        self._hello = Call(self, 0, 4096)
        self._touching = threading.Lock()
        self.closed = False
        self.ended_here = False
        self.reason = ""
        self.heard_at = time.monotonic()
        self._thread = threading.Thread(target=self._read, name="agentbox-channel", daemon=True)
        self._thread.start()
        self._owner = os.getpid()
        forks.let_go(self)

    def check_owner(self) -> None:
        """Raises SandboxError in a fork of the process whose box it is."""
        forks.check(self._owner)

    def abandon(self) -> None:
        """In a fork: let go of the pipe, and have whoever is in the middle of a call hear that no more will come."""
        self.closed = True
        self._pipe.close()
        for call in list(self._calls.values()):
            call.abandon()

    def handshake(self, timeout: float) -> Header:
        """Greet the supervisor; its greeting. Raises as :meth:`Call.get` does, or :class:`ProtocolError`."""
        self.send({"type": "hello", "nonce": self._nonce})
        header, _ = self._hello.get(timeout)
        spoken = header.get("protocol")
        if not is_id(spoken):  # its text is not asked for: that of a deep list overflows the stack
            raise ProtocolError("a greeting without a protocol")
        if spoken != PROTOCOL:
            raise ProtocolError(f"the image speaks protocol {str(spoken)[:20]}, not {PROTOCOL}")
        return header

    def send(self, header: Header, payload: bytes = b"") -> None:
        """Send a message, and wait for nothing; if the pipe has ended, whoever waits for an answer hears of it."""
        self.outbox.put(header.get("id"), encode_message(header, payload))

    def call(self, kind: str, payload: bytes = b"", *, budget: int, **fields: Any) -> Call:
        """Ask something; a context manager around its answers. It waits for nothing, not even for the request to go."""
        with self._lock:
            self._last += 1
            call = Call(self, self._last, budget)
        try:
            self._calls[call.id] = call
            if self.closed:
                call.put(None)
            else:
                header = {"type": kind, "id": call.id, **fields}
                self.outbox.put(call.id, encode_message(header, payload), opens=True)
        except BaseException:
            self.retract(call)
            raise
        return call

    def request(self, kind: str, payload: bytes = b"", *, timeout: float = REQUEST_SECONDS, **fields: Any) -> Any:
        """Ask for one thing and wait for the reply, at most ``timeout`` seconds; its result.

        Raises:
            RefusedError, ProtocolError, ChannelClosedError, queue.Empty: as :func:`answer` and :meth:`Call.get` do.
        """
        with self.call(kind, payload, budget=MAX_REPLY, **fields) as call:
            return answer(*call.get(timeout))

    def retract(self, call: Call) -> bool:
        """Ask for it no more: True if nothing had been sent of it; else what runs is interrupted."""
        if self.closed:  # nobody hears it; and in a fork the outbox is the parent's
            return False
        if self.outbox.withdraw(call.id):
            return True
        self.send({"type": "interrupt_request", "id": call.id})
        return False

    def forget(self, call: Call) -> None:
        """Late answers to this call are dropped from now on; a request of which nothing has gone is not sent."""
        self._calls.pop(call.id, None)
        if not (self.closed or self.outbox.is_empty):
            self.outbox.withdraw(call.id)

    @contextlib.contextmanager
    def held_open(self) -> Iterator[bool]:
        """For as long as the engine is asked to change the container: this end is not what ends the box meanwhile.
        False if it has been ended. (The engine may never finish the removal of what it renames or changes.)"""
        with self._touching:
            yield not (self.ended_here or self.closed)

    @property
    def last_words(self) -> str:
        """What the supervisor wrote to stderr, which is only ever why it could not go on."""
        return clean(self._pipe.stderr.decode("utf-8", "replace"), colour=False)

    def close(self) -> None:
        """End the pipe, and with it the box; in a fork nothing."""
        if os.getpid() != self._owner:
            return
        if not self.closed:
            self.ended_here = True  # from now on nobody begins to change the container
        if self._touching.acquire(timeout=TOUCH_SECONDS):
            self._touching.release()
        self._pipe.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=JOIN_SECONDS)

    def _read(self) -> None:
        try:
            self._read_messages()
        except ProtocolError as error:
            self.reason = f"the box broke the protocol: {error}"
        finally:
            self.closed = True
            self._pipe.close()
            for call in (self._hello, *list(self._calls.values())):
                call.put(None)

    def _read_messages(self) -> None:
        # The stream begins with the nonce of our greeting: what came before it was meant for an earlier owner.
        seen = b""
        nonce = self._nonce.encode()
        while nonce not in seen:
            data = self._hear()
            if not data:
                return
            seen = seen[-len(nonce) :] + data
        data = seen.partition(nonce)[2]
        decoder, assembler = Decoder(), Assembler()
        while True:
            for header, body in decoder.feed(data):
                message = assembler.add(header, body)
                if message:
                    self._dispatch(message)
            data = self._hear()
            if not data:
                return

    def _hear(self) -> bytes:
        data = self._pipe.recv()
        self.heard_at = time.monotonic()
        return data

    def _dispatch(self, message: Message) -> None:
        header = message[0]
        number = header.get("id")
        if header["type"] == "ready":
            self._hello.put(message)
        elif not is_id(number) or not 0 < number <= self._last:
            raise ProtocolError(f"message {header['type'][:40]!r} answers nothing that was asked")
        elif call := self._calls.get(number):  # one look: another thread may forget the call in between
            call.put(message)
