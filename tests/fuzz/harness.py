"""The host's whole reader, from the bytes of an attach stream to an Execution, with nothing real around it.

Both the hypothesis properties and the coverage-guided fuzzer drive :func:`read`; some properties want a real socket,
which is :func:`peer`.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from agent_executor.wire import Header, ProtocolError
from agentbox_magic.channel import Call, Channel, ChannelClosedError
from agentbox_magic.collector import Collector
from agentbox_magic.display import footer, safe_bundle
from agentbox_magic.engine import Pipe
from agentbox_magic.execution import Execution
from agentbox_magic.limits import Limits

Message = tuple[Header, bytes]

PATIENCE = 20.0
"""Seconds after which something that answers in milliseconds has hung."""


def mux(data: bytes, stream: int = 1) -> bytes:
    """Bytes as Docker sends them on an attached stream."""
    return struct.pack(">BxxxL", stream, len(data)) + data


def cut(data: bytes, places: Iterable[int]) -> Iterator[bytes]:
    """The data in pieces, cut at the places (modulo its length)."""
    start = 0
    for place in sorted({place % (len(data) + 1) for place in places}):
        yield data[start:place]
        start = place
    yield data[start:]


class Wire:
    """A socket to a box that waits for our greeting, answers with its nonce and ``pieces``, and ends."""

    def __init__(self, pieces: Iterable[bytes], nonce: bool = True) -> None:
        self._pieces = iter(pieces)
        self._nonce = nonce
        self._greeting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._greeted = False
        self.closed = False

    def settimeout(self, seconds: float | None) -> None:
        pass

    def send(self, data: memoryview, flags: int) -> int:
        if b'"hello"' in bytes(data):
            self._greeting.put(bytes(data))
        return len(data)

    def recv_into(self, buffer: memoryview) -> int:
        piece = self._next()
        buffer[: len(piece)] = piece
        return len(piece)

    def _next(self) -> bytes:
        if not self._greeted:
            data = self._greeting.get(timeout=PATIENCE)
            self._greeted = True
            if self._nonce:
                return mux(data.rpartition(b'"nonce":"')[2].partition(b'"')[0])
        # An empty piece would be the end.
        return next((piece for piece in self._pieces if piece), b"")

    def shutdown(self, how: int) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True


@contextlib.contextmanager
def peer(pieces: Iterable[bytes], greet: bool = False) -> Iterator[socket.socket]:
    """The host's end of a socket on whose other end a box sends ``pieces`` and closes; ``greet``: first its nonce."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)

    def send() -> None:
        with contextlib.suppress(OSError), theirs:
            if greet:
                seen = b""
                while b'"hello"' not in seen:
                    seen += theirs.recv(4096)
                theirs.sendall(mux(seen.rpartition(b'"nonce":"')[2].partition(b'"')[0]))
            for piece in pieces:
                theirs.sendall(piece)
            theirs.shutdown(socket.SHUT_WR)
            while theirs.recv(65536):  # as a box does until its host goes: closing now could reset what is on its way
                pass

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield ours
    finally:
        ours.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()


@dataclass
class Reading:
    """What became of a stream."""

    greeting: Header | None = None
    messages: list[Message] = field(default_factory=list)
    refused: str = ""
    """Why the reader ended the channel; empty if the stream just ended."""
    broken: str = ""
    """What the collector refused."""
    execution: Execution | None = None


def collect(call: Call, reading: Reading) -> None:
    """All of a call's messages into one Execution, as ``Sandbox.run_code`` does."""
    collector = Collector(Limits(), 30.0, len, len, lambda result: safe_bundle(result))
    over = False
    while True:
        try:
            message = call.get(PATIENCE)
        except ChannelClosedError:
            break
        reading.messages.append(message)
        if over or reading.broken:
            continue
        try:
            over = collector.add(*message)
        except ProtocolError as error:
            reading.broken = str(error)
    if not over:
        collector.end(None)
    reading.execution = collector.execution
    footer(collector.execution, Limits())
    repr(collector.execution)


def read(pieces: Iterable[bytes], *, nonce: bool = True) -> Reading:
    """Read a stream with requests 1 (waited for), 2 (forgotten) and 3 (waited for) asked.

    Raises whatever the reader lets escape, in any thread; and an AssertionError when it does not end.
    """
    escaped: list[Any] = []
    before, threading.excepthook = threading.excepthook, escaped.append
    try:
        wire = Wire(pieces, nonce)
        channel = Channel(Pipe(wire))
        calls = [channel.call("execute_request", budget=2**20) for _ in range(3)]
        channel.forget(calls[1])
        reading = Reading()
        try:
            reading.greeting = channel.handshake(PATIENCE)
        except (ChannelClosedError, ProtocolError) as error:
            reading.refused = str(error)
        for call in (calls[0], calls[2]):
            collect(call, reading)
        channel.close()
    finally:
        threading.excepthook = before
    for args in escaped:
        raise args.exc_value
    assert channel.closed
    assert wire.closed, "the pipe was left open"
    assert not any(thread.name == "agentbox-channel" for thread in threading.enumerate()), "the reader goes on"
    reading.refused = channel.reason or reading.refused
    return reading
