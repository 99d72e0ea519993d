"""A function of the host, called in the worker: unpickled, called, its value sent back."""

from __future__ import annotations

import inspect
import linecache
import pickle
import sys
import types
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from agent_executor import encoder, tools
from agent_executor.wire import MAX_BODY

if TYPE_CHECKING:
    from agent_executor.worker import Control


def same(value: Any) -> Any:
    """The value itself: what an agent that an agent refers to is in a box."""
    return value


class TransferError(ValueError):
    """The value cannot cross."""


class Call:
    """One call, made by calling this."""

    def __init__(self, control: Control, payload: bytes, max_size: int) -> None:
        self._control = control
        self._payload = payload
        self._max_size = max_size

    def __call__(self) -> None:
        value = self._load()()
        if inspect.isawaitable(value):
            import asyncio  # here: it takes longer than most calls

            value = asyncio.run(_await(value))
        self._send(value)

    def _load(self) -> Any:
        tools.connect(self._control)
        try:
            wish = pickle.loads(self._payload)  # noqa: S301  # from the host to the box, never the other way
        except ImportError as error:
            name = error.name or str(error)
            raise ModuleNotFoundError(
                f"the image has no module {name}, which the function needs; "
                f"if it is yours, @agent(include=[{name}]) sends it along; if pip has it: @agent(packages=[{name!r}])"
            ) from None
        sys.modules.update(wish["modules"])
        function = wish["function"]
        _show_source(function, wish["source"])
        for tool in wish["tools"]:
            getattr(function, "__globals__", {})[tool.__name__] = tool
        return lambda: function(*wish["args"], **wish["kwargs"])

    def _send(self, value: Any) -> None:
        try:
            raw = encoder.encode(value, name="the result", max_size=self._max_size)
        except ValueError as error:
            raise TransferError(str(error)) from None
        for start in range(0, len(raw), MAX_BODY):
            self._control.tell({"type": "data"}, raw[start : start + MAX_BODY])


def _show_source(function: Any, lines: list[str]) -> None:
    """Let a traceback show the function's lines: under a file name of its own, because what cloudpickle has packed is
    all of one name."""
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if lines and code is not None:
        name = f"<{function.__name__}>"
        linecache.cache[name] = sum(map(len, lines)), None, lines, name
        function.__code__ = _renamed(code, name)


def _renamed(code: types.CodeType, name: str) -> types.CodeType:
    inner = tuple(_renamed(one, name) if isinstance(one, types.CodeType) else one for one in code.co_consts)
    return code.replace(co_filename=name, co_consts=inner)


async def _await(value: Awaitable[Any]) -> Any:
    return await value
