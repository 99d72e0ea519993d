"""Values in and out of a box: ``push`` and ``pull``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from agent_executor.values import ERROR
from agent_executor.wire import Header, ProtocolError
from agentbox_magic import values
from agentbox_magic.channel import Call
from agentbox_magic.collector import Collector
from agentbox_magic.errors import ExecutionError, TransferError
from agentbox_magic.link import Link
from agentbox_magic.text import clean_traceback

PIECE = 256 * 1024
WINDOW = 8
"""Pieces on their way that the box has not answered."""


class _Push(Collector):
    """Follows a push, and sends a piece for each one that is answered."""

    def __init__(self, link: Link, data: bytes) -> None:
        super().__init__(link.limits, link.limits.timeout, None, None, None, max_output=0)
        self._link = link
        self._data = memoryview(data)
        self._sent = 0
        self._answered = 0

    def start(self, call: Call) -> None:
        """Send the first pieces."""
        self._call = call
        for _ in range(WINDOW):
            self._send()

    def _send(self) -> None:
        start = self._sent * PIECE
        if start < len(self._data):
            self._sent += 1
            eof = start + PIECE >= len(self._data)
            piece = bytes(self._data[start : start + PIECE])
            self._link.send({"type": "push_input", "id": self._call.id, "eof": eof}, piece)

    def add(self, header: Header, payload: bytes) -> bool:
        if header["type"] != "ack":
            return super().add(header, payload)
        self._answered += 1
        if self._answered > self._sent:
            raise ProtocolError("the box answers what was not sent")
        self._send()
        return False


class _Pull(Collector):
    """Follows a pull, and keeps its data."""

    def __init__(self, link: Link, max_size: int) -> None:
        super().__init__(link.limits, link.limits.timeout, None, None, None, max_output=0)
        self.data = bytearray()
        self._max_size = max_size

    def add(self, header: Header, payload: bytes) -> bool:
        if header["type"] != "data":
            return super().add(header, payload)
        self.data += payload
        if len(self.data) > self._max_size:
            raise ProtocolError("the box sent more than it was asked for")
        return False


def push(link: Link, named: dict[str, Any], context: str, max_size: int) -> int:
    """See :meth:`Sandbox.push <agentbox_magic.sandbox.Sandbox.push>`."""
    data = values.encode_namespace(named, max_size)
    collector = _Push(link, data)
    with _begin(link, "push_request", b"", collector.budget, context, max_size) as call:
        collector.start(call)
        _finish(link, call, collector, context)
    return len(data)


def pull(link: Link, names: Sequence[str], context: str, max_size: int) -> tuple[dict[str, Any], int]:
    """See :meth:`Sandbox.pull <agentbox_magic.sandbox.Sandbox.pull>`: the values, and the bytes that crossed."""
    collector = _Pull(link, max_size)
    payload = json.dumps(list(names)).encode()
    with _begin(link, "pull_request", payload, max_size + collector.budget, context, max_size) as call:
        _finish(link, call, collector, context)
    found = values.decode(collector.data, max_size)
    if not isinstance(found, dict) or list(found) != list(dict.fromkeys(names)):
        raise TransferError("what came from the box cannot be taken: it is not what was asked for")
    return found, len(collector.data)


def _begin(link: Link, kind: str, payload: bytes, budget: int, context: str, max_size: int) -> Call:
    fields = {"context": context, "timeout": link.limits.timeout, "max_output": 0, "max_size": max_size}
    return link.call(kind, payload, budget=budget, **fields)


def _finish(link: Link, call: Call, collector: Collector, context: str) -> None:
    error = link.follow_to_deadline(call, collector, link.deadline(call, link.limits.timeout, context)).error
    if isinstance(error, ExecutionError) and error.name == ERROR:
        raise TransferError(clean_traceback(error.value))
    if error is not None:
        raise error
