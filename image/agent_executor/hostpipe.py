"""The supervisor's end of the pipe to the host."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
from collections.abc import Callable
from typing import Any

from agent_executor import wire
from agent_executor.children import READ_SIZE, Outbox, read
from agent_executor.wire import Header

F_SETPIPE_SZ = 1031
"""/usr/include/linux/fcntl.h; Python has the name from 3.10 on."""


class RefusedError(Exception):
    """A request that cannot be done: told to the host, with the name of an error it knows."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error


class HostPipe:
    """Messages of the host in, frames out. The box ends with it.

    Args:
        selector: the supervisor's.
        stdin: where the host speaks.
        stdout: where it listens.
        many: whether hosts take the pipe one after the other, and so escape what they say (:class:`wire.Unescaper`).
        on_message: called with each message.
        on_new_host: called when a new host comes, before its first message.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        stdin: int,
        stdout: int,
        *,
        many: bool,
        on_message: Callable[[Header, bytes], None],
        on_new_host: Callable[[], None],
    ) -> None:
        for pipe in (stdin, stdout):
            with contextlib.suppress(OSError):  # no pipe, or no more room for pipes; it is only faster with it
                fcntl.fcntl(pipe, F_SETPIPE_SZ, READ_SIZE)
        os.set_blocking(stdin, False)
        self._stdin = stdin
        self._unescaper = wire.Unescaper() if many else None
        self._on_message = on_message
        self._on_new_host = on_new_host
        self._decoder = wire.Decoder()
        self._assembler = wire.Assembler()
        self.out = Outbox(selector, stdout)
        selector.register(stdin, selectors.EVENT_READ, self._read)

    def _read(self) -> None:
        try:
            data = read(self._stdin)
        except BlockingIOError:
            return
        if not data:
            os._exit(0)
        first, *rest = [data] if self._unescaper is None else self._unescaper.feed(data)
        self._take(first)
        for data in rest:  # a new host may come in the middle of what an earlier one was saying
            self._decoder, self._assembler = wire.Decoder(), wire.Assembler()
            self._on_new_host()
            self._take(data)

    def _take(self, data: bytes) -> None:
        for header, body in self._decoder.feed(data):
            message = self._assembler.add(header, body)
            if message:
                self._on_message(*message)

    def greet(self, nonce: str, header: Header) -> None:
        """Answer a host's greeting: the nonce tells it where what is meant for it begins."""
        self.out.put(nonce.encode("ascii"))
        self.send(header)

    def send(self, header: Header, payload: bytes = b"") -> None:
        """Send a message."""
        for frame in wire.encode_message(header, payload):
            self.out.put(frame)

    def pass_on(self, header: Header, body: bytes, number: int) -> None:
        """Send a child's frame as part of the answer to a request."""
        self.out.put(wire.encode({**header, "id": number}, body))

    def reply(self, request: int, result: Any = None, error: str = "") -> None:
        """Answer a request: with a result, or with an errno's name and a message."""
        header: Header = {"type": "reply", "id": request}
        if error:
            header["error"] = error
        self.send(header, json.dumps(result).encode())
