"""Ports of a box on this machine's loopback: ``box.get_host``. The bytes travel over the box's pipe.

The box has no say in it: it answers connections that were made here, each within its window, and anything else ends it.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import selectors
import socket
import threading
from collections.abc import Callable

from agent_executor.forward import MAX_CONNECTIONS, PIECE, WINDOW, Connections
from agent_executor.wire import Header
from agentbox_magic import arguments
from agentbox_magic.channel import Call
from agentbox_magic.errors import OutcomeUnknownError, PolicyError, SandboxClosedError
from agentbox_magic.link import Link

PENDING = MAX_CONNECTIONS * 2 * WINDOW * PIECE
"""Bytes from the box on their way to sockets: twice what the windows of all connections let through."""
LOOK_SECONDS = 1.0
"""How often to look whether the box still lives while nothing would tell."""

logger = logging.getLogger(__name__)


class Forward:
    """A listener on 127.0.0.1 and its connections, in one thread, which ends with the box or with :meth:`close`.

    Attributes:
        host: where it listens, ``"127.0.0.1:NNNNN"``.
    """

    def __init__(self, link: Link, port: int, on_note: Callable[[str], object] | None = None) -> None:
        """Not for callers: :meth:`Sandbox.forward <agentbox_magic.sandbox.Sandbox.forward>`."""
        self._link = link
        self._port = port
        self._on_note = on_note or logger.info
        self._stopped = False
        self._call: Call | None = None
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._connections = Connections(self._selector, self._send, on_close=self._note)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=MAX_CONNECTIONS)
        self._listener.setblocking(False)
        self.host = "{}:{}".format(*self._listener.getsockname())
        self._selector.register(self._listener, selectors.EVENT_READ, lambda events: self._accept())
        self._selector.register(self._woken, selectors.EVENT_READ, lambda events: self._hear())
        self._begin()
        self._thread = threading.Thread(target=self._serve, name=f"agentbox-forward-{port}", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether it still listens."""
        return self._thread.is_alive()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end, at most so many seconds; whether it has ended."""
        self._thread.join(arguments.patience("timeout", timeout))
        return not self.is_open

    def close(self) -> None:
        """Stop listening, and reset the connections that are open."""
        self._stopped = True
        self._ring()

    def _begin(self) -> None:
        """Have the box start what serves the port there."""
        self._call = self._link.call("forward_request", budget=PENDING, port=self._port)
        self._call.on_message = self._ring
        self._ring()  # for what came before the line above

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):  # it rings already, or nobody listens any more
            self._wake.send(b"!")

    def _send(self, header: Header, body: bytes) -> None:
        if self._call is not None:
            self._link.send({"type": "forward_input", "id": self._call.id, **header}, body)

    def _serve(self) -> None:
        try:
            while self._link.is_open and not self._stopped:
                # Without a call nothing rings when the box ends.
                for key, events in self._selector.select(None if self._call else LOOK_SECONDS):
                    if key.fd in self._selector.get_map():  # an earlier event may have closed it
                        key.data(events)
        except (PolicyError, SandboxClosedError, OutcomeUnknownError) as error:
            self._on_note(str(error))
        finally:
            self._connections.close()
            if self._call is not None:
                self._send({"eof": True}, b"")
                self._call.__exit__()
            for one in (self._selector, self._listener, self._woken, self._wake):
                one.close()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # it has gone again, or there is no descriptor for it
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            sock.close()
            self._on_note(f"more than {MAX_CONNECTIONS} connections at once to port {self._port}; one was closed")
            return
        if self._call is None:
            self._begin()
        self._connections.accept(sock)

    def _hear(self) -> None:
        self._woken.recv(4096)
        while self._call is not None:
            with self._link.guard():
                try:
                    header, body = self._call.get(0)
                except queue.Empty:
                    return
                if header["type"] == "forward":
                    self._connections.take(header, body)
                    continue
                self._ended(header, body)

    def _ended(self, header: Header, body: bytes) -> None:
        """The process in the box has ended: there was no room for it, or something there killed it."""
        try:
            self._link.answer(header, body)
        except OSError as error:
            self._on_note(f"connections to port {self._port} were closed: {error.strerror}")
        if self._call is not None:
            self._call.__exit__()
            self._call = None
        self._connections.close()

    def _note(self, code: str) -> None:
        why = {"ECONNREFUSED": "nothing listens there", "ECONNRESET": "it was reset there"}
        self._on_note(f"a connection to port {self._port} of the box was closed: {why.get(code, code[:40])}")
