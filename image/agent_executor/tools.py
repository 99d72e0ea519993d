"""The tools of an agent as its code sees them: stand-ins for functions of the host, which is asked over the pipe."""

from __future__ import annotations

import builtins
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_executor.worker import Control

KINDS = ("function", "coroutine", "generator", "async generator")
"""What a tool is on the host, and so what calling its stand-in gives."""

AT_ONCE = 8
"""Calls of one agent that may be under way together: the host refuses more, so here they wait."""

_control: Control | None = None
_slots = threading.BoundedSemaphore(AT_ONCE)


def connect(control: Control) -> None:
    """Ask over this socket from now on."""
    global _control  # a stand-in is unpickled by name, so what it needs is the module's
    _control = control


class ToolError(RuntimeError):
    """The host refused a call of a tool, or the tool raised an exception of a class that is not built in."""


class HostTool:
    """Stands for a function of the host: a call is made there, with JSON both ways.

    Raises:
        Exception: what the tool raised, if its class is built in; otherwise :class:`ToolError`.
        TimeoutError: no answer came in time.
    """

    def __init__(self, name: str, kind: str, timeout: float | None, doc: str | None) -> None:
        self.__name__ = self.__qualname__ = name
        self.__doc__ = doc
        self._kind = kind
        self._timeout = timeout

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._kind == "coroutine":
            return self._call_async(args, kwargs)
        if self._kind == "generator":
            return self._iterate(args, kwargs)
        if self._kind == "async generator":
            return self._iterate_async(args, kwargs)
        return self._call(args, kwargs)

    def _call(self, args: Any, kwargs: Any) -> Any:
        __tracebackhide__ = True
        payload = json.dumps({"args": args, "kwargs": kwargs}, allow_nan=False).encode()
        with _slots:
            return self._ask("call", payload)[1]

    async def _call_async(self, args: Any, kwargs: Any) -> Any:
        import asyncio  # here: what calls this has it loaded

        return await asyncio.to_thread(self._call, args, kwargs)

    def _iterate(self, args: Any, kwargs: Any) -> Iterator[Any]:
        __tracebackhide__ = True
        payload = json.dumps({"args": args, "kwargs": kwargs}, allow_nan=False).encode()
        number, _ = self._ask("call", payload)
        ended = False
        try:
            while True:
                _, answer = self._ask("next", b"", of=number)
                if answer is None:
                    ended = True
                    return
                yield answer[0]
        finally:
            if not ended:
                self._ask("close", b"", of=number)

    async def _iterate_async(self, args: Any, kwargs: Any) -> AsyncIterator[Any]:
        import asyncio

        items = self._iterate(args, kwargs)
        end = object()
        try:
            while True:
                item = await asyncio.to_thread(next, items, end)
                if item is end:
                    return
                yield item
        finally:
            await asyncio.to_thread(items.close)  # type: ignore[attr-defined]  # it is a generator

    def _ask(self, operation: str, payload: bytes, of: int = 0) -> tuple[int, Any]:
        __tracebackhide__ = True
        if _control is None or not _control.is_ours:
            raise RuntimeError(f"{self.__name__} is a tool of the host: only the agent's own process can call it")
        header = {"type": "tool_request", "name": self.__name__, "operation": operation, "of": of}
        number, answer, body = _control.ask(header, payload, self._timeout)
        result = json.loads(body)
        if answer["ok"]:
            return number, result
        kind = getattr(builtins, str(answer["error"]), None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                raised = kind(result)
            except TypeError:  # UnicodeDecodeError and its like take more than a text
                raised = ToolError(f"{answer['error']}: {result}")
            raise raised
        raise ToolError(f"{answer['error']}: {result}" if answer["error"] else result)
