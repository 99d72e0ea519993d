"""A function of the host, called in a box."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent_executor.wire import Header, ProtocolError
from agentbox_magic.collector import Collector, OnText
from agentbox_magic.execution import Execution
from agentbox_magic.link import Link
from agentbox_magic.values import MAX_SIZE

OnTool = Callable[[Header, bytes], Any]


class _Call(Collector):
    """Follows a call: what the function prints and shows, what it returns, and what it asks of the host."""

    def __init__(self, link: Link, on_stdout: OnText | None, on_stderr: OnText | None, on_tool: OnTool | None) -> None:
        super().__init__(link.limits, link.limits.timeout, on_stdout, on_stderr, None)
        self.data = bytearray()
        self._on_tool: OnTool | None = on_tool

    def mute(self) -> None:
        super().mute()
        self._on_tool = lambda header, payload: None

    def add(self, header: Header, payload: bytes) -> bool:
        kind = header["type"]
        if kind == "tool_request" and self._on_tool:
            self._on_tool(header, payload)
        elif kind == "data":
            self.data += payload
            if len(self.data) > MAX_SIZE:
                raise ProtocolError("the box sent more than it was asked for")
        else:
            return super().add(header, payload)
        return False


def call(
    link: Link,
    packed: bytes,
    envs: dict[str, str],
    on_stdout: OnText | None,
    on_stderr: OnText | None,
    on_tool: OnTool | None,
) -> tuple[Execution, bytearray]:
    """See :meth:`Sandbox.call_pickled <agentbox_magic.sandbox.Sandbox.call_pickled>`."""
    seconds = link.limits.timeout
    collector = _Call(link, on_stdout, on_stderr, on_tool)
    fields = {"envs": envs, "timeout": seconds, "max_size": MAX_SIZE}
    with link.call("call_request", packed, budget=MAX_SIZE + collector.budget, **fields) as following:
        until = link.deadline(following, seconds, "default")
        return link.follow_to_deadline(following, collector, until), collector.data
