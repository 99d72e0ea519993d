"""Tools: what an agent may ask of the host, and that it can ask nothing else."""

from __future__ import annotations

import json
import pickle
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import seconds_until

from agent_executor.tools import AT_ONCE
from agent_executor.wire import ProtocolError
from agentbox_magic import ExecutionError, PolicyError, Sandbox, TransferError, agent, pickling, schema, tool
from agentbox_magic.tools import Desk, named

KEY = "sk-a-secret-of-the-host"


@pytest.fixture(autouse=True)
def _nothing_left(boxes: Callable[[], set[str]]) -> Any:
    yield
    seconds_until(
        lambda: not boxes() and not [one for one in threading.enumerate() if "-tool-" in one.name],
        within=10,
    )


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


def forger() -> Callable[..., list[Any]]:
    """What an agent's code may send, whatever stand-ins it was given: it has the socket, so it needs none."""

    def forge(name: str, *args: Any) -> list[Any]:
        import json

        from agent_executor import tools

        control: Any = tools._control
        header = {"type": "tool_request", "name": name, "operation": "call", "of": 0}
        _, answer, body = control.ask(header, json.dumps({"args": args, "kwargs": {}}).encode(), 20)
        return [answer["ok"], answer.get("error"), json.loads(body)]

    return forge


forge = forger()


def test_a_tool_that_is_not_listed_does_not_exist(tmp_path: Path) -> None:
    """The forged request reaches a listed tool: so the refusals are the host's doing."""
    canary = tmp_path / "canary"

    def touch(path: str) -> str:
        Path(path).touch()
        return "touched"

    def other() -> str:
        return "fine"

    def run(names: list[str], args: list[str]) -> list[Any]:
        return [forge(name, *args) for name in names]

    path = str(canary)
    assert agent(tools=[touch])(run)(["touch"], [path]) == [[True, None, "touched"]]
    assert canary.exists()
    canary.unlink()
    names = ["touch", "os.system", "__import__", "Path.touch", "builtins.exec", "other.__globals__", ""]
    job = agent(tools=[other])(run).spawn(names, [path])
    assert [answer[:2] for answer in job.result(120)] == [[False, "NameError"]] * len(names)
    assert [one.outcome for one in job.tool_calls] == ["refused"] * len(names)
    assert not canary.exists()
    assert agent()(run)(["touch"], [path])[0][0] is False


def test_forged_requests_cannot_exceed_a_budget() -> None:
    count = []

    def tick() -> int:
        count.append(1)
        return len(count)

    def run() -> int:
        return sum(forge("tick")[0] for _ in range(50))

    assert agent(tools=[tool(tick, calls=5)])(run)() == 5
    assert len(count) == 5
    count.clear()
    assert agent(tools=[tool(tick, calls=50)])(run)() == 50


def test_calls_under_way_are_bounded() -> None:
    """Stand-ins wait for their turn; what goes past them is refused."""
    gate, inside = threading.Event(), set[int]()
    most = [0]

    def hold() -> int:
        inside.add(threading.get_ident())
        most.append(len(inside))
        if len(most) > AT_ONCE:  # all places are taken, and this call is one of them
            gate.set()
        try:
            return 1 if gate.wait(30) else 0
        finally:
            inside.remove(threading.get_ident())

    def crowd(ask: Callable[[], int]) -> int:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(20) as pool:
            return sum(pool.map(lambda _: ask(), range(20)))

    assert agent(tools=[hold], timeout=60)(crowd)(hold) == 20
    assert max(most) == AT_ONCE
    gate.clear()
    most[:] = [0]

    def past() -> int:
        return int(forge("hold")[0])

    job = agent(tools=[hold], timeout=60)(crowd).spawn(past)
    job.result(120)
    assert max(most) <= AT_ONCE
    outcomes = [one.outcome for one in job.tool_calls]
    assert outcomes.count("ok") + outcomes.count("refused") == 20


@pytest.mark.parametrize("message", [{"operation": "eval"}, {"call": -1}, {"call": True}, {"of": "x"}, {"name": 7}])
def test_what_is_no_request_ends_the_box(message: dict[str, Any]) -> None:
    @agent
    def liar() -> None:
        from agent_executor import tools

        control: Any = tools._control
        header = {"type": "tool_request", "name": "x", "operation": "call", "of": 0, "call": 1}
        control.tell({**header, **message}, b"{}")

    with pytest.raises(PolicyError, match="protocol"):
        liar()


def test_a_value_is_never_unpickled_here(tmp_path: Path) -> None:
    """The agent sends a pickle in the place of its value. The control: unpickled, it does do harm."""
    canary = tmp_path / "canary"

    class Harm:
        def __reduce__(self) -> Any:
            return Path.touch, (canary,)

    bad = pickle.dumps(Harm())
    pickle.loads(bad)  # noqa: S301  # the control
    assert canary.exists()
    canary.unlink()

    @agent
    def liar(data: bytes) -> None:
        import os

        from agent_executor import tools

        control: Any = tools._control
        control.tell({"type": "data"}, data)
        control.reply({"type": "execute_reply", "status": "ok", "clean": True})
        os._exit(0)

    for data in (bad, b"", b"{", json.dumps({"__reduce__": ["os.system", "touch x"]}).encode()):
        try:
            assert not isinstance(liar(data), (Harm, Path))
        except TransferError as error:
            assert "cannot be taken" in str(error)  # noqa: PT017  # some of these are values
    assert not canary.exists()


def test_a_value_is_bounded() -> None:
    @agent(mem="1g", timeout=60)
    def large() -> str:
        return "x" * (65 * 2**20)

    @agent(timeout=60)
    def liar() -> int:
        from agent_executor import tools

        control: Any = tools._control
        for _ in range(100):
            control.tell({"type": "data"}, bytes(2**20))
        return 1

    with pytest.raises(TransferError, match="the result"):
        large()
    with pytest.raises((TransferError, PolicyError)):
        liar()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    header=st.fixed_dictionaries(
        {},
        optional={
            "call": st.one_of(st.integers(), st.booleans(), st.text()),
            "of": st.integers(),
            "name": st.one_of(st.sampled_from(["fine", "x"]), st.text(), st.none()),
            "operation": st.sampled_from(["call", "next", "close", "x"]),
        },
    ),
    payload=st.one_of(
        st.binary(max_size=50),
        st.recursive(st.one_of(st.none(), st.floats(), st.text()), lambda inner: st.lists(inner) | st.dictionaries(
            st.sampled_from(["args", "kwargs", "n"]), inner)).map(lambda value: json.dumps(value).encode()),
    ),
)  # fmt: skip
def test_whatever_is_asked_is_answered_or_ends_the_box(header: dict[str, Any], payload: bytes) -> None:
    def fine(n: int = 1) -> int:
        return n

    answers = []
    desk = Desk(named([fine]), lambda header, body: answers.append((header["call"], json.loads(body))))
    try:
        desk.request({"id": 1, **header}, payload)
    except ProtocolError:
        return
    finally:
        desk.close()
    assert [number for number, _ in answers] == [header["call"]]


def test_cells_have_no_tools(box: Sandbox) -> None:
    """A box in which code runs as cells is asked for nothing."""
    run = box.run_code("import agent_executor.tools as t\nt.HostTool('x', 'function', 1.0, None)()")
    assert run.error is not None
    assert "only the agent's own process" in str(run.error)


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
    assert made["properties"]["d"] == {"enum": [1, "x"]}
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
