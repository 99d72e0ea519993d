"""Tools: what an agent may ask of the host."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, TypedDict

import pytest

from agentbox_magic import ExecutionError, agent, pickling, schema, tool
from agentbox_magic.tools import named

pytestmark = pytest.mark.usefixtures("no_tools_left")

KEY = "sk-a-secret-of-the-host"


def test_a_tool_runs_on_the_host_with_what_is_there() -> None:
    seen = []

    def search(query: str, limit: int = 2) -> list[str]:
        """Find things."""
        seen.append((query, KEY, threading.current_thread().name))
        return [f"{query} {n}" for n in range(limit)]

    @agent(tools=[search])
    def scout(task: str) -> tuple[list[str], list[str], str]:
        return search(task), search(limit=1, query="by name"), str(search.__doc__)

    job = scout.spawn("fox")
    assert job.result(120) == (["fox 0", "fox 1"], ["by name 0"], "Find things.")
    assert seen[0] == ("fox", KEY, "agentbox-tool-search")
    assert [(one.name, one.outcome, one.arguments, one.value) for one in job.tool_calls] == [
        ("search", "ok", {"query": "fox"}, ["fox 0", "fox 1"]),
        ("search", "ok", {"query": "by name", "limit": 1}, ["by name 0"]),
    ]
    assert job.tool_calls[0].bytes > 20


def test_wherever_a_function_refers_to_a_tool_nothing_of_it_is_packed() -> None:
    """In a closure, a default, an argument, a container: and the same function without the list shows that it would
    be."""
    client = {"key": KEY}

    def search(query: str) -> str:
        return client["key"] + query

    def work(ask: Any = search, more: Any = (search,)) -> None:
        search("closure")

    tools = [(one, tool(search).stand_in()) for one in (search, tool(search))]
    packed = pickling.dumps(work, [search, {"a": search}], {"b": [search]}, tools=tools)
    assert KEY.encode() not in packed
    assert KEY.encode() in pickling.dumps(work, [], {})


def test_methods_and_objects_are_tools_too() -> None:
    class Library:
        def __init__(self) -> None:
            self.lent: list[str] = []

        def lend(self, title: str) -> int:
            self.lent.append(title)
            return len(self.lent)

    library = Library()
    lend = library.lend

    @agent(tools=[lend])
    def reader() -> list[int]:
        return [lend("a"), lend("b")]

    assert reader() == [1, 2]
    assert library.lent == ["a", "b"]


def test_exceptions_of_a_tool_are_the_agents_to_catch() -> None:
    class OwnError(Exception): ...

    def look(where: str) -> str:
        if where == "own":
            raise OwnError("of my own")
        raise KeyError(where)

    @agent(tools=[look])
    def scout() -> list[str]:
        caught = []
        for where in ("nowhere", "own"):
            try:
                look(where)
            except KeyError as error:
                caught.append(f"KeyError {error}")
            except RuntimeError as error:
                caught.append(f"{type(error).__name__} {error}")
        look("at last")
        return caught

    job = scout.spawn()
    with pytest.raises(ExecutionError) as caught:
        job.result(120)
    assert (caught.value.name, caught.value.value) == ("KeyError", "'at last'")
    assert [one.outcome for one in job.tool_calls] == ["error"] * 3

    @agent(tools=[look])
    def calm() -> str:
        try:
            return look("own")
        except RuntimeError as error:
            return f"{type(error).__name__} {error}"

    assert calm() == "ToolError OwnError: of my own"


def test_coroutines_and_generators() -> None:
    events = []

    async def fetch(n: int) -> int:
        import asyncio

        await asyncio.sleep(0.3)
        return n * 10

    def words(text: str) -> Iterator[str]:
        try:
            yield from text.split()
        finally:
            events.append("closed")

    async def tokens(count: int) -> AsyncIterator[int]:
        for n in range(count):
            yield n

    def forever() -> Iterator[int]:
        n = 0
        try:
            while True:
                n += 1
                yield n
        finally:
            events.append(n)

    @agent(tools=[fetch, words, tokens, forever])
    async def scout() -> list[Any]:
        import asyncio
        import time

        started = time.monotonic()
        fetched = await asyncio.gather(fetch(1), fetch(2), fetch(3))
        together = time.monotonic() - started < 0.85
        streamed = [token async for token in tokens(3)]
        first = []
        for number in forever():
            first.append(number)
            if number == 3:
                break
        return [fetched, together, streamed, list(words("a b")), first]

    job = scout.spawn()
    assert job.result(120) == [[10, 20, 30], True, [0, 1, 2], ["a", "b"], [1, 2, 3]]
    assert events == ["closed", 3] or events == [3, "closed"]
    assert job.tool_calls[3].value == [0, 1, 2]


def test_arguments_are_checked_against_the_signature() -> None:
    called = []

    def order(what: Literal["tea", "coffee"], cups: int = 1) -> str:
        called.append(what)
        return what

    @agent(tools=[order])
    def guest(*args: Any, **kwargs: Any) -> str:
        try:
            return order(*args, **kwargs)
        except TypeError as error:
            return f"no: {error}"

    assert guest("tea", 2) == "tea"
    assert "'beer' is not one of" in guest("beer")
    assert "'two' is not of type 'integer'" in guest("tea", "two")
    assert "missing a required argument" in guest()
    assert "unexpected keyword argument" in guest("tea", sugar=True)
    assert called == ["tea"]


def test_results_are_checked_too() -> None:
    def count() -> int:
        return "many"  # type: ignore[return-value]

    def thing() -> Any:
        return object()

    @agent(tools=[count, thing])
    def ask(which: str) -> Any:
        return count() if which == "count" else thing()

    with pytest.raises(ExecutionError, match="what count returned is not what it should be: 'many' is not of type"):
        ask("count")
    with pytest.raises(ExecutionError, match="what thing returned is not what it should be"):
        ask("thing")


def test_budgets_and_timeouts() -> None:
    def echo(text: str) -> str:
        return text

    def sleep(seconds: float) -> str:
        time.sleep(seconds)
        return "slept"

    async def doze(seconds: float) -> str:
        import asyncio

        await asyncio.sleep(seconds)
        return "dozed"

    short = [tool(echo, calls=3, bytes=5000), tool(sleep, timeout=0.5), tool(doze, timeout=0.5)]

    @agent(tools=short)
    async def greedy(how: str) -> list[str]:
        done = []
        try:
            if how == "calls":
                for _ in range(10):
                    done.append(echo("a"))
            elif how == "bytes":
                done.append(str(len(echo("x" * 2000))))
                echo("x" * 2000)
            elif how == "sleep":
                sleep(1.5)
            else:
                await doze(600)
        except Exception as error:
            done.append(f"{type(error).__name__}: {error}")
        return done

    assert greedy("calls") == ["a", "a", "a", "ToolError: echo may be called 3 times in a run, and has been"]
    assert greedy("bytes") == ["2000", "ToolError: echo may move 4.88 KiB in a run, and this would be more"]
    assert greedy("sleep") == ["TimeoutError: no answer within 0.5 s"]
    assert greedy("doze") == ["TimeoutError: no answer within 0.5 s"]


class Place(TypedDict):
    name: str
    at: tuple[float, ...]


def test_what_can_be_a_tool() -> None:
    def fine(a: str, b: int | None, c: list[dict[str, float]], d: Literal[1, "x"], e: Any, f=0, **rest: bool) -> Place:  # type: ignore[no-untyped-def]
        raise NotImplementedError

    made = schema.of_arguments(fine)
    assert made["required"] == ["a", "b", "c", "d", "e"]
    assert made["properties"]["b"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert made["properties"]["c"]["items"] == {"type": "object", "additionalProperties": {"type": "number"}}
    assert made["properties"]["d"] == {"enum": [1, "x"], "type": ["integer", "string"]}
    assert made["properties"]["f"] == {"default": 0}
    assert made["additionalProperties"] is True
    assert schema.of_result(fine)["properties"]["at"] == {"type": "array", "items": {"type": "number"}}


def test_what_cannot_be_a_tool() -> None:
    def odd(when: complex) -> None: ...
    def starred(*args: int) -> None: ...

    with pytest.raises(TypeError, match="odd cannot be a tool: parameter when: JSON cannot carry"):
        tool(odd)
    with pytest.raises(TypeError, match="parameter args has no name"):
        tool(starred)
    with pytest.raises(ValueError, match="must be an identifier"):
        tool(lambda: None)
    with pytest.raises(ValueError, match="two tools are called x"):
        named([tool(lambda: None, name="x"), tool(lambda: 1, name="x")])
