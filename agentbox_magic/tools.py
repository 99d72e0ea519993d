"""Tools: functions of the host that an agent may call, its only doors to the outside.

The request comes over the box's pipe and is hostile: the name must be one of the list, the arguments are JSON and are
checked against the function's own signature, and calls, bytes and time have a budget. Nothing else of the host can be
named. Keys and clients stay in the host's function.
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agent_executor.tools import AT_ONCE, HostTool
from agent_executor.wire import MAX_PAYLOAD, Header, ProtocolError
from agentbox_magic import arguments, schema
from agentbox_magic.collector import parsed_size
from agentbox_magic.limits import format_size
from agentbox_magic.text import clean

Outcome = Literal["running", "ok", "error", "refused", "timeout", "stopped"]
"""How a call of a tool stands, or ended; a stopped one outlived the agent."""

CALLS = 100
BYTES = 16 * 2**20
TIMEOUT = 60.0
MAX_PARSED = 64 * 2**20
"""Memory that the arguments of all calls of one run may take once parsed."""
ENDING = 8
"""Threads of calls that have ended and may not be gone yet."""
MAX_STEPS = 8
"""Items of one generator that may be asked for before the first has come; a stand-in asks for one."""
MAX_REFUSED = 1000
"""Refusals after which the agent is no honest one."""


@dataclass(frozen=True)
class Tool:
    """A function of the host with what an agent may use of it. Made by :func:`tool`."""

    function: Callable[..., Any]
    name: str
    calls: int
    bytes: int
    timeout: float | None
    parameters: dict[str, Any] = field(repr=False)
    returns: dict[str, Any] = field(repr=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself, here on the host."""
        return self.function(*args, **kwargs)

    @property
    def kind(self) -> str:
        """What calling it gives: see :data:`agent_executor.tools.KINDS`."""
        called = self.function if inspect.isroutine(self.function) else type(self.function).__call__
        if inspect.iscoroutinefunction(called):
            return "coroutine"
        if inspect.isasyncgenfunction(called):
            return "async generator"
        return "generator" if inspect.isgeneratorfunction(called) else "function"

    def stand_in(self) -> HostTool:
        """What the agent has in its place."""
        return HostTool(self.name, self.kind, self.timeout, inspect.getdoc(self.function))


def tool(
    function: Callable[..., Any] | Tool,
    *,
    name: str | None = None,
    calls: int = CALLS,
    bytes: int = BYTES,  # noqa: A002  # as a caller writes it: tool(search, bytes=...)
    timeout: float | None = TIMEOUT,
) -> Tool:
    """Let agents call a function of the host. Functions, methods, coroutine functions and generators will do; in a list
    of tools the bare function is the same with the defaults.

    Args:
        function: its parameters' type hints become the schema that arguments are checked against, and its return hint
            the one for results. It runs in a thread of its own; a coroutine in an event loop of its own.
        name: what agents call it; the function's own name by default.
        calls: how often one agent's run may call it.
        bytes: of arguments and results, all together, in one run.
        timeout: seconds for one call, or for one item of a generator; 0 or None for no limit. A coroutine is cancelled
            then; a plain function cannot be stopped, so nobody waits for it any more.

    Raises:
        TypeError: it has parameters that cannot be given by name, or of types that JSON cannot carry.
        ValueError: the name is no identifier.

    Example:
        >>> def search(query: str, limit: int = 3) -> list[str]:
        ...     return [query] * limit
        >>> tool(search, calls=5).parameters["required"]
        ['query']
    """
    if isinstance(function, Tool):
        return function
    if not callable(function):
        raise TypeError(f"a tool is a function, and {arguments.shown(function)} is none; give a list of functions")
    calls = arguments.whole("calls", calls, 0, 10**9, "a whole number")
    bytes = arguments.whole("bytes", bytes, 0, 2**40, "a number of bytes")  # noqa: A001  # as above
    timeout = arguments.seconds("timeout", timeout)
    called = str(getattr(function, "__name__", "")) if name is None else arguments.text("name", name)
    if not called.isidentifier():
        raise ValueError(f"a tool's name must be an identifier, and {called!r} is not; give tool(..., name='search')")
    signed = function if inspect.isroutine(function) else function.__call__  # type: ignore[operator]  # an object's
    try:
        parameters, returns = schema.of_arguments(signed), schema.of_result(signed)
    except TypeError as error:
        raise TypeError(f"{called} cannot be a tool: {error}") from None
    return Tool(function, called, calls, bytes, timeout, parameters, returns)


def named(functions: Sequence[Callable[..., Any] | Tool]) -> dict[str, Tool]:
    """Tools by name. Raises ValueError where two have the same."""
    given: object = functions
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"tools is {arguments.shown(given)}; give a list of functions, such as tools=[search]")
    found: dict[str, Tool] = {}
    for one in map(tool, functions):
        if one.name in found:
            raise ValueError(f"two tools are called {one.name}; rename one with tool(..., name=...)")
        found[one.name] = one
    return found


@dataclass
class ToolCall:
    """One call of a tool, as it was seen by the host.

    Attributes:
        name: the tool's, or what the agent said.
        arguments: what it was called with, by name; None if they were never right.
        outcome: see :data:`Outcome`; ``"refused"`` calls never reached the function.
        value: what it returned, or the list of what it yielded.
        error: why there is no value.
        seconds: how long it took.
        bytes: of arguments and results.
    """

    name: str
    arguments: dict[str, Any] | None = None
    outcome: Outcome = "running"
    value: Any = None
    error: str | None = None
    seconds: float = 0.0
    bytes: int = 0

    def __repr__(self) -> str:  # no times: it must be the same from run to run
        return f"ToolCall({self.name}, {self.outcome})"


class _RefusedError(Exception):
    """Told to the agent as an exception of a built-in class, or as a ToolError if ``kind`` is empty."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Desk:
    """Answers the requests of one run: every one is checked, counted and recorded.

    Args:
        tools: what there is.
        answer: sends an answer: its header and its body.
    """

    def __init__(self, tools: dict[str, Tool], answer: Callable[[Header, bytes], None]) -> None:
        self.calls: list[ToolCall] = []
        self._tools = tools
        self._answer = answer
        self._spent = {name: [0, 0] for name in tools}
        self._serving: dict[int, _Serving] = {}
        self._refused = 0
        self._run = 0
        self._parsed = 0
        self._lock = threading.Lock()

    def request(self, header: Header, payload: bytes) -> None:
        """Take a request, in the thread that follows the run. Raises ProtocolError for one no honest agent makes."""
        self._run = header["id"]  # which the channel has checked
        number, of = header.get("call"), header.get("of")
        name, operation = header.get("name"), header.get("operation")
        if not (type(number) is int and 0 < number < 2**63 and type(of) is int and isinstance(name, str)):
            raise ProtocolError("a request for a tool without a number or a name")
        self._serving = {key: one for key, one in self._serving.items() if one.thread.is_alive()}
        if operation in ("next", "close"):
            if of in self._serving:
                self._serving[of].ask(number, operation == "next")
            else:
                self.reply(number, None)  # it has ended
            return
        if number in self._serving:  # it would take the place of that one, which nobody could count or stop any more
            raise ProtocolError("a request for a tool with the number of one that is under way")
        if operation != "call":
            raise ProtocolError("a request for a tool that asks for nothing known")
        record = ToolCall(clean(name[:100], colour=False))
        try:
            one = self._admit(record, name, payload)
            arguments = self._arguments(one, payload)
            record.arguments = arguments
            if len(self._serving) >= AT_ONCE + ENDING or self._running() >= AT_ONCE:
                raise _RefusedError("", f"{AT_ONCE} calls are under way already; wait for one to end")
        except _RefusedError as refusal:
            record.outcome, record.error = "refused", str(refusal)
            self._refused += 1
            if self._refused > MAX_REFUSED:
                raise ProtocolError(f"more than {MAX_REFUSED} requests for tools had to be refused") from None
            self.calls.append(record)
            self.refuse(number, refusal.kind, str(refusal))
            return
        self.calls.append(record)
        self._serving[number] = _Serving(self, one, record, number, arguments)

    def _running(self) -> int:
        return sum(one.record.outcome == "running" for one in self._serving.values())

    def close(self) -> None:
        """The run has ended: nobody waits for what is under way."""
        for one in self._serving.values():
            one.stop()
        until = time.monotonic() + 1
        for one in self._serving.values():
            one.thread.join(max(0.0, until - time.monotonic()))

    def _admit(self, record: ToolCall, name: str, payload: bytes) -> Tool:
        one = self._tools.get(name)
        if one is None:
            known = ", ".join(self._tools) or "none"
            raise _RefusedError("NameError", f"there is no tool {record.name!r}; there are: {known}")
        spent = self._spent[name]
        if spent[0] >= one.calls:
            raise _RefusedError("", f"{name} may be called {one.calls} times in a run, and has been")
        spent[0] += 1
        self.spend(one, record, len(payload))
        return one

    def spend(self, one: Tool, record: ToolCall, size: int) -> None:
        """Count bytes of arguments or results. Raises :class:`_RefusedError` when there are too many."""
        with self._lock:
            spent = self._spent[one.name]
            spent[1] += size
            record.bytes += size
            if spent[1] > one.bytes:
                limit = format_size(one.bytes)
                raise _RefusedError("", f"{one.name} may move {limit} in a run, and this would be more")

    def _arguments(self, one: Tool, payload: bytes) -> dict[str, Any]:
        self._parsed += parsed_size(payload)
        if self._parsed > MAX_PARSED:
            raise _RefusedError("", "the arguments of all calls together are too large")
        try:
            wish = schema.load(payload)
            args, kwargs = wish["args"], wish["kwargs"]
            if not isinstance(args, list) or not isinstance(kwargs, dict):
                raise TypeError("the arguments are not a list and an object")
            bound = inspect.signature(one.function).bind(*args, **kwargs).arguments
        except (ValueError, KeyError, TypeError) as error:
            why = clean(str(error)[:200], colour=False)
            raise _RefusedError("TypeError", f"{one.name}: {why}") from None
        for name, parameter in inspect.signature(one.function).parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                bound.update(bound.pop(name, {}))
        if why := schema.fault(one.parameters, bound):
            raise _RefusedError("TypeError", f"{one.name}: {clean(why, colour=False)}")
        return bound

    def reply(self, number: int, value: Any) -> int:
        """Send a value; its bytes."""
        body = json.dumps(value, allow_nan=False).encode()
        self._answer({"id": self._run, "call": number, "ok": True}, body)
        return len(body)

    def refuse(self, number: int, kind: str, message: str) -> None:
        """Send an exception."""
        header = {"id": self._run, "call": number, "ok": False, "error": kind}
        self._answer(header, json.dumps(message[:10_000]).encode())


class _Serving:
    """One call under way, in a thread that ends with it."""

    def __init__(self, desk: Desk, one: Tool, record: ToolCall, number: int, arguments: dict[str, Any]) -> None:
        self._desk = desk
        self._tool = one
        self.record = record
        self._number = number
        self._arguments = arguments
        self._started = time.monotonic()
        self._stopped = False
        self._loop = asyncio.new_event_loop() if one.kind in ("coroutine", "async generator") else None
        self.steps: queue.SimpleQueue[tuple[int, bool] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._serve, name=f"agentbox-tool-{one.name}", daemon=True)
        self.thread.start()

    def ask(self, number: int, wants_more: bool) -> None:
        """Another item of a generator, or none. Raises ProtocolError when more wait than an honest agent asks for."""
        if self.steps.qsize() >= MAX_STEPS:
            raise ProtocolError("too many items of one generator asked for at once")
        self.steps.put((number, wants_more))

    def stop(self) -> None:
        """The agent has ended."""
        self._stopped = True
        self.steps.put(None)
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
            except RuntimeError:  # it has just ended
                return

    def _serve(self) -> None:
        try:
            if self._tool.kind in ("generator", "async generator"):
                self._desk.reply(self._number, None)
                self._step_through()
            else:
                value = self._wait(self._tool.function(**self._arguments))
                self._check(value)
                self.record.value = value
                self._end("ok")
                self._desk.reply(self._number, value)
        except _RefusedError as refusal:
            self._fail("error", refusal.kind, str(refusal))
        except (TimeoutError, asyncio.TimeoutError) as error:
            self._fail("timeout", "TimeoutError", str(error) or f"no answer within {self._tool.timeout:g} s")
        except BaseException as error:  # a CancelledError, or a SystemExit of the tool, ends no more than the call
            name = type(error).__name__
            text = str(error.args[0]) if error.args else ""  # not str(error): a KeyError's is quoted
            if getattr(builtins, name, None) is type(error):
                self._fail("error", name, text)
            else:
                self._fail("error", "", f"{name}: {text}")
        finally:
            if self._loop is not None:
                self._loop.run_until_complete(self._loop.shutdown_asyncgens())
                self._loop.close()

    def _end(self, outcome: Outcome, error: str | None = None) -> None:
        """Complete the record, before anybody hears of it."""
        self.record.seconds = time.monotonic() - self._started
        self.record.outcome, self.record.error = "stopped" if self._stopped else outcome, error

    def _fail(self, outcome: Outcome, kind: str, message: str) -> None:
        self._end(outcome, f"{kind}: {message}" if kind else message)
        self._desk.refuse(self._number, kind, message)

    def _wait(self, value: Any) -> Any:
        """The value of a coroutine, within the timeout. A plain function has taken its time already: when it is late
        the agent has stopped waiting."""
        if self._loop is None:
            if self._tool.timeout is not None and time.monotonic() - self._started > self._tool.timeout:
                raise TimeoutError
            return value
        return self._loop.run_until_complete(asyncio.wait_for(value, self._tool.timeout))

    def _check(self, value: Any) -> None:
        """Raises :class:`_RefusedError` for a result that the schema, JSON or the budget has no room for."""
        try:
            body = json.dumps(value, allow_nan=False)
            why = schema.fault(self._tool.returns, json.loads(body))
        except (TypeError, ValueError, RecursionError) as error:
            why = str(error)[:200]
        if why:
            message = f"what {self._tool.name} returned is not what it should be: {why}"
            raise _RefusedError("TypeError", message)
        if len(body) > MAX_PAYLOAD:
            raise _RefusedError("", f"what {self._tool.name} returned is more than {format_size(MAX_PAYLOAD)}")
        self._desk.spend(self._tool, self.record, len(body))

    def _step_through(self) -> None:
        """A generator is asked for the next item when the agent wants one."""
        items = self._tool.function(**self._arguments)
        self.record.value = []
        try:
            while (step := self.steps.get()) is not None:
                self._number, wants_more = step
                try:
                    if not wants_more:
                        break
                    item = self._wait(items.__anext__()) if self._loop else next(items)
                except (StopIteration, StopAsyncIteration):
                    break
                self._check(item)
                self.record.value.append(item)
                self._desk.reply(self._number, [item])
        finally:
            if self._loop is None:
                items.close()
            else:
                self._loop.run_until_complete(items.aclose())
        self._end("ok")
        self._desk.reply(self._number, None)
