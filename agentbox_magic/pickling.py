"""A function and its arguments, packed for a box: host to box only, nothing is ever unpickled here.

What the notebook defines travels with what it needs, by cloudpickle. A tool of the host is found wherever the function
refers to it (a global, a closure, a default, an argument), by identity, and a stand-in goes in its place: neither the
tool's code nor what that refers to leaves the host.
"""

from __future__ import annotations

import functools
import inspect
import io
import os
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cloudpickle

from agent_executor.tools import HostTool
from agentbox_magic.errors import TransferError
from agentbox_magic.limits import format_size

MAX_CALL = 32 * 2**20
"""Bytes of one call, which is one message."""

_lock = threading.Lock()  # what is registered with cloudpickle is the whole process's
# In a fork: another thread of the parent's may have held it.
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]  # not in its stubs


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    def __init__(self, file: io.BytesIO, tools: Mapping[int, HostTool]) -> None:
        super().__init__(file)
        self._tools = tools

    def reducer_override(self, obj: Any) -> Any:
        """A stand-in for a tool; otherwise as cloudpickle does it."""
        tool = self._tools.get(id(obj))
        if tool is not None:
            return _reduced(tool)
        return super().reducer_override(obj)


def _reduced(tool: HostTool) -> Any:
    return HostTool, (tool.__name__, tool._kind, tool._timeout, tool.__doc__)


def dumps(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    tools: Sequence[tuple[Any, HostTool]] = (),
    include: Sequence[types.ModuleType] = (),
) -> bytes:
    """Pack a call.

    Args:
        function: of the notebook, or of a module that the image has or ``include`` names.
        args: its arguments; likewise ``kwargs``.
        tools: objects of the host, and what stands for each in the box.
        include: modules that the image lacks; they go along, as they are now.

    Raises:
        TransferError: something in it cannot be sent; the message names it.
    """
    stand_ins = {id(original): tool for original, tool in tools}
    wish = {
        "function": function,
        "args": tuple(args),
        "kwargs": dict(kwargs),
        "tools": list({tool.__name__: tool for _, tool in tools}.values()),
        "modules": {module.__name__: module for module in include},
        "source": _source(function),
    }
    with _lock:
        for module in include:
            cloudpickle.register_pickle_by_value(module)
        try:
            packed = _dump(wish, stand_ins)
        except Exception as error:  # whatever an object's own __reduce__ raises
            raise TransferError(_why(function, args, kwargs, stand_ins, error)) from error
        finally:
            for module in include:
                cloudpickle.unregister_pickle_by_value(module)
    if len(packed) > MAX_CALL:
        raise TransferError(
            f"{name_of(function)} cannot be sent: with its arguments and what it refers to it is "
            f"{format_size(len(packed))}, more than {format_size(MAX_CALL)}; leave large data out, or send it as files"
        )
    return packed


def _dump(value: object, stand_ins: Mapping[int, HostTool]) -> bytes:
    file = io.BytesIO()
    _Pickler(file, stand_ins).dump(value)
    return file.getvalue()


def name_of(function: Any) -> str:
    """What to call a function in a message."""
    return str(getattr(function, "__name__", None) or type(function).__name__)


def _why(
    function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], stand_ins: Mapping[int, HostTool], error: Exception
) -> str:
    """Which part of a call cannot be pickled, found by trying each."""
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    for what, value in (*_references(function), *_arguments(args, kwargs)):
        try:
            _dump(value, stand_ins)
        except Exception as its_own:
            reason = str(its_own).splitlines()[0][:200] if str(its_own) else type(its_own).__name__
            return f"{name_of(function)} cannot be sent: {what}, a {type(value).__name__}, stays on the host: {reason}"
    return f"{name_of(function)} cannot be sent: {reason}"


def _references(function: Any) -> Iterator[tuple[str, Any]]:
    plain = inspect.unwrap(function)
    plain = plain.func if isinstance(plain, functools.partial) else getattr(plain, "__func__", plain)
    if isinstance(plain, types.FunctionType):
        found = inspect.getclosurevars(plain)
        for name, value in {**found.globals, **found.nonlocals}.items():
            yield f"it refers to {name}, and that", value


def _arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for number, value in enumerate(args, 1):
        yield f"argument {number}", value
    for name, value in kwargs.items():
        yield f"argument {name}", value


def _source(function: Any) -> list[str]:
    """The function's own lines, where its file has them, so that a traceback in the box shows them. No more of the file
    or of the cell than that goes along."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None or not (function.__module__ == "__main__" or "<locals>" in function.__qualname__):
        return []
    return _lines(code)


@functools.lru_cache(maxsize=100)  # finding them takes longer than all else that is done for a call
def _lines(code: types.CodeType) -> list[str]:
    try:
        lines, first = inspect.getsourcelines(code)
    except (OSError, TypeError, SyntaxError):
        return []
    return ["\n"] * (first - 1) + lines
