"""What is on its way into a box's pipe: whole messages, in order, and nobody waits for them to go.

A message that was begun is sent to its end, whoever gives up meanwhile: neither a deadline nor a Ctrl-C leaves half a
frame in the pipe. What the pipe takes at once goes at once, in the caller's thread; a thread sends the rest. How much
may wait is bounded by those who send: each has a window of pieces that the box has not answered.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

LOOK_SECONDS = 1.0
"""How often to look whether the pipe still is there, while it takes nothing."""
TLS_SECONDS = 0.2
"""How long one attempt to send over TLS takes at most."""
STALLED_SECONDS = 60.0
"""After so long without a byte taken a box is not slow, but frozen."""


def keep(where: deque[T], function: Callable[..., T], *arguments: object) -> None:
    """Append what a function written in C returns, in one step that no KeyboardInterrupt divides: Python handles
    signals between its own instructions only."""
    where.extend(map(function, *((one,) for one in arguments)))


class _Parcel:
    """A message, and how much of it has gone: the lengths of its parts. It has begun when there is one."""

    __slots__ = ("data", "opens", "request", "sent")

    def __init__(self, request: object, data: bytes | bytearray, opens: bool) -> None:
        self.request = request
        self.data = data
        self.opens = opens
        self.sent: deque[int] = deque()


class Outbox:
    """The way into a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        self._send: Callable[..., int] = sock.send
        self._flags: tuple[int, ...] = (socket.MSG_DONTWAIT,)
        if isinstance(sock, ssl.SSLSocket):  # it has no flags, but a timeout, of reads too
            sock.settimeout(TLS_SECONDS)
            self._send, self._flags = sock._sslobj.write, ()  # type: ignore[attr-defined]  # not in its stubs
        self._lock = threading.Lock()  # held for no longer than a send that does not block
        self._parcels: deque[_Parcel] = deque()
        self._working = False
        self._moved = time.monotonic()

    @property
    def is_empty(self) -> bool:
        """Whether all has gone."""
        return not self._parcels

    @property
    def is_stalled(self) -> bool:
        """Whether something waits, and nothing has been taken for a long time."""
        return bool(self._parcels) and time.monotonic() - self._moved > STALLED_SECONDS

    def put(self, request: object, frames: Iterable[bytes], *, opens: bool = False) -> None:
        """Send a message, which belongs to a request, and perhaps opens it; if the pipe has ended, nothing."""
        first, *others = frames
        parcel = _Parcel(request, bytearray().join([first, *others]) if others else first, opens)
        with self._lock:
            if not self._parcels:
                self._moved = time.monotonic()
            self._parcels.append(parcel)
            self._flush()
        self.push()

    def push(self) -> None:
        """Have sent what waits."""
        if self._parcels and not self._working:
            threading.Thread(target=self._work, name="agentbox-send", daemon=True).start()

    def withdraw(self, request: object) -> bool:
        """Send nothing of a request of which nothing has been sent yet; False if it has begun."""
        with self._lock:
            mine = [parcel for parcel in self._parcels if parcel.request == request]
            if not mine or mine[0].sent or not mine[0].opens:
                return False
            self._parcels = deque(parcel for parcel in self._parcels if parcel.request != request)
            return True

    def _flush(self) -> None:
        """Send what the pipe takes now. With the lock held. May be broken off anywhere and called again."""
        while self._parcels:
            parcel = self._parcels[0]
            start = sum(parcel.sent)
            if start == len(parcel.data):
                self._parcels.popleft()
                continue
            if self._is_tls and not parcel.sent:
                parcel.sent.append(0)  # what TLS was given once must follow
            try:
                keep(parcel.sent, self._send, memoryview(parcel.data)[start:], *self._flags)
            except (BlockingIOError, TimeoutError):
                return
            except OSError:  # the pipe has ended, which whoever waits for an answer hears
                self._parcels.clear()
                return
            self._moved = time.monotonic()

    def _work(self) -> None:
        with self._lock:
            if self._working:
                return
            self._working = True
        try:
            poll = select.poll()
            poll.register(self._socket, select.POLLOUT)
            while True:
                with self._lock:
                    self._flush()
                    if not self._parcels:
                        self._working = False
                        return
                poll.poll(LOOK_SECONDS * 1000)
        except (OSError, ValueError):  # closed
            with self._lock:
                self._parcels.clear()
                self._working = False
