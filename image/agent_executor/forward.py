"""Connections to a port of the box, carried over the pipe: what both ends do with them, and the box's end.

All connections to one port share one process in the box and one request of the host; each has a number, which the host
gives. Pieces of a connection are ``data`` frames, in both directions alike: an empty one is the end of that direction.
At most :data:`WINDOW` pieces of a connection are under way in each direction, and its reader grants each further one,
so that a slow reader holds up nobody else and memory is bounded. ``close`` ends both directions at once, and says why
if there is a reason.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import signal
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import NoReturn

from agent_executor import wire
from agent_executor.wire import Header, ProtocolError, is_id

PIECE = 64 * 1024
WINDOW = 8
MAX_CONNECTIONS = 64
"""Open at once, for one port."""

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time: close() then sends a reset (socket(7))."""


class Connection:
    """One connection's socket at this end. ``addresses`` are left to try, if it is still being made."""

    def __init__(self, number: int, sock: socket.socket | None, addresses: list[str]) -> None:
        self.number = number
        self.socket = sock
        self.addresses = addresses
        self.connecting = False
        self.credit = WINDOW
        self.out: deque[memoryview] = deque()  # as many pieces as the other end was granted, at most
        self.in_ended = False  # nothing more comes from our socket
        self.out_ended = False  # nothing more comes from the other end
        self.shut = False  # and our socket's peer has been told so


class Connections:
    """The connections to one port at one end. Nothing here blocks; ``selector`` calls back what it is told to.

    Args:
        selector: whose keys have a function as their data.
        send: speaks to the other end.
        port: where this end connects to; None for the end that accepts.
        on_close: told why the other end closed a connection, if it said.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        send: Callable[[Header, bytes], None],
        *,
        port: int | None = None,
        on_close: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._selector = selector
        self._send = send
        self._port = port
        self._on_close = on_close
        self._open: dict[int, Connection] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._open)

    def accept(self, sock: socket.socket) -> None:
        """A new connection, for the other end to make at its own."""
        self._last += 1
        sock.setblocking(False)
        one = self._open[self._last] = Connection(self._last, sock, [])
        self._send({"kind": "open", "connection": one.number}, b"")
        self._watch(one)

    def take(self, header: Header, body: bytes) -> None:
        """What the other end said. Raises ProtocolError where it may not say that."""
        kind, number = header.get("kind"), header.get("connection")
        if not is_id(number):
            raise ProtocolError("a connection without a number")
        if kind == "open" and self._port is not None:
            one = self._open[number] = Connection(number, None, ["127.0.0.1", "::1"])
            self._connect(one, errno.ECONNREFUSED)
            return
        found = self._open.get(number)
        if found is None:
            if self._port is None and not 0 < number <= self._last:
                raise ProtocolError("a connection that nobody opened")
            return  # it was closed here, which the other end did not know yet
        if kind == "data":
            self._data(found, body)
        elif kind == "grant":
            found.credit += 1
            if found.credit > WINDOW:
                raise ProtocolError("more is granted than was sent")
            self._watch(found)
        elif kind == "close":
            self._drop(found, reset=True)
            if isinstance(header.get("error"), str):
                self._on_close(header["error"])
        else:
            raise ProtocolError("a connection that does something unknown")

    def close(self) -> None:
        """Reset all."""
        for one in list(self._open.values()):
            self._drop(one, reset=True)

    def _connect(self, one: Connection, code: int) -> None:
        """Try the next address; ``code`` says why the one before was not it."""
        if one.socket is not None:
            self._unwatch(one)
            one.socket.close()
            one.socket = None
        if not one.addresses:
            self._fail(one, code)
            return
        address = one.addresses.pop(0)
        try:
            one.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            one.socket.setblocking(False)
            code = one.socket.connect_ex((address, self._port))
        except OSError as error:  # no descriptor, no such family
            code = error.errno or errno.EIO
        one.connecting = True
        if code in (0, errno.EINPROGRESS):
            self._watch(one)
        else:
            self._connect(one, code)

    def _data(self, one: Connection, body: bytes) -> None:
        if one.out_ended or len(one.out) >= WINDOW or len(body) > PIECE:
            raise ProtocolError("a connection sends more than was granted")
        if body:
            one.out.append(memoryview(body))
        else:
            one.out_ended = True
        if not one.connecting:
            self._write(one)

    def _ready(self, one: Connection, events: int) -> None:
        if one.connecting:
            assert one.socket is not None
            code = one.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._connect(one, code)
                return
            one.connecting = False
        if events & selectors.EVENT_READ and one.credit and not one.in_ended:
            self._read(one)
        if one.number in self._open:
            self._write(one)

    def _read(self, one: Connection) -> None:
        assert one.socket is not None
        try:
            data = one.socket.recv(PIECE)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(one, error.errno or errno.EIO)
            return
        one.credit -= 1
        one.in_ended = not data
        self._send({"kind": "data", "connection": one.number}, data)

    def _write(self, one: Connection) -> None:
        assert one.socket is not None
        try:
            while one.out:
                sent = one.socket.send(one.out[0])
                if sent < len(one.out[0]):
                    one.out[0] = one.out[0][sent:]
                else:
                    one.out.popleft()
                    self._send({"kind": "grant", "connection": one.number}, b"")
            if one.out_ended and not one.shut:
                one.shut = True
                one.socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(one, error.errno or errno.EIO)
            return
        if one.in_ended and one.out_ended and not one.out:
            self._drop(one)
        else:
            self._watch(one)

    def _fail(self, one: Connection, code: int) -> None:
        name = errno.errorcode.get(code, "EIO")
        self._send({"kind": "close", "connection": one.number, "error": name}, b"")
        self._drop(one, reset=True)

    def _drop(self, one: Connection, *, reset: bool = False) -> None:
        del self._open[one.number]
        if one.socket is None:
            return
        self._unwatch(one)
        if reset:
            with contextlib.suppress(OSError):
                one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        one.socket.close()

    def _watch(self, one: Connection) -> None:
        """Wait for what can be done now: one that may not send is not read, and that is how its sender is held up."""
        if one.socket is None:
            return
        events = 0
        if one.connecting or one.out:
            events |= selectors.EVENT_WRITE
        if not one.connecting and one.credit and not one.in_ended:
            events |= selectors.EVENT_READ
        self._unwatch(one)
        if events:
            self._selector.register(one.socket, events, lambda events: self._ready(one, events))

    def _unwatch(self, one: Connection) -> None:
        if one.socket is not None and one.socket.fileno() in self._selector.get_map():
            self._selector.unregister(one.socket)


def serve(control: socket.socket, port: int) -> NoReturn:
    """Carry the connections to a port until the host has no more use for it: called in the fresh fork."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    keep = control.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
    selector = selectors.DefaultSelector()
    decoder = wire.Decoder()

    def send(header: Header, body: bytes) -> None:
        # May block while the host is slow; the supervisor goes on taking what the host sends, so this ends.
        for frame in wire.encode_message({"type": "forward", "id": 0, **header}, body):
            control.sendall(frame)

    connections = Connections(selector, send, port=port)

    def hear(events: int) -> None:
        data = control.recv(PIECE)
        if not data:
            os._exit(0)
        for header, body in decoder.feed(data):
            if header.get("eof"):
                os._exit(0)
            connections.take(header, body)

    selector.register(control, selectors.EVENT_READ, hear)
    while True:
        for key, events in selector.select():
            if key.fd in selector.get_map():  # an earlier event may have closed it
                key.data(events)
