"""Tools, asked for by an agent's code past what it was given: it can ask nothing else, and answers nothing harmful."""

from __future__ import annotations

import json
import pickle
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_executor.tools import AT_ONCE
from agent_executor.wire import ProtocolError
from agentbox_magic import PolicyError, Sandbox, TransferError, agent, tool
from agentbox_magic.tools import ENDING, Desk, named

pytestmark = pytest.mark.usefixtures("no_tools_left")


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


def test_a_number_that_is_in_use_ends_the_box() -> None:
    """It would take the place of the call under way, which nobody could count or stop any more: a box had a hundred at
    once."""
    gate, inside = threading.Event(), []

    def hold() -> None:
        inside.append(threading.get_ident())
        gate.wait(30)

    def flood() -> None:
        import time

        from agent_executor import tools

        control: Any = tools._control
        header = {"type": "tool_request", "name": "hold", "operation": "call", "of": 0, "call": 7}
        for _ in range(100):
            control.tell(header, b'{"args": [], "kwargs": {}}')
        time.sleep(30)

    before = threading.active_count()
    try:
        with pytest.raises(PolicyError, match="number of one that is under way"):
            agent(tools=[hold], timeout=60)(flood)()
        assert len(inside) == 1
        assert threading.active_count() <= before + 1
    finally:
        gate.set()


def test_threads_that_cannot_answer_are_counted() -> None:
    """A box that reads nothing keeps the threads of calls that have ended; they are as many as the bound says."""
    unread = threading.Event()
    desk = Desk(named([tool(lambda: None, name="quick", calls=1000)]), lambda header, body: unread.wait(30) and None)
    refused: list[Any] = []
    desk.refuse = lambda *what: refused.append(what)  # type: ignore[method-assign]  # a refusal would wait as well
    try:
        for number in range(1, 60):
            desk.request(
                {"id": 1, "call": number, "of": 0, "name": "quick", "operation": "call"}, b'{"args":[],"kwargs":{}}'
            )
        assert sum(thread.name == "agentbox-tool-quick" for thread in threading.enumerate()) <= AT_ONCE + ENDING
        assert len(refused) >= 59 - AT_ONCE - ENDING
    finally:
        unread.set()
        desk.close()


def test_items_asked_for_ahead_are_bounded() -> None:
    def slow() -> Any:
        gate.wait(30)
        yield 1

    gate = threading.Event()
    desk = Desk(named([slow]), lambda header, body: None)
    desk.request({"id": 1, "call": 1, "of": 0, "name": "slow", "operation": "call"}, b'{"args":[],"kwargs":{}}')

    def flood() -> None:
        for number in range(2, 1000):
            desk.request({"id": 1, "call": number, "of": 1, "name": "slow", "operation": "next"}, b"")

    with pytest.raises(ProtocolError, match="items of one generator"):
        flood()
    gate.set()
    desk.close()


def asked(hint: Any, argument: str | bytes) -> tuple[list[Any], str]:
    """What a function with one parameter was called with, and what the agent was told."""
    got: list[Any] = []

    def take(n: Any) -> None:
        got.append(n)

    take.__annotations__["n"] = hint
    answers: list[Any] = []
    desk = Desk(named([take]), lambda header, body: answers.append((header["ok"], json.loads(body))))
    raw = argument if isinstance(argument, bytes) else argument.encode()
    desk.request({"id": 1, "call": 1, "of": 0, "name": "take", "operation": "call"},
                 b'{"args": [' + raw + b'], "kwargs": {}}')  # fmt: skip
    desk.close()
    ((ok, said),) = answers
    assert ok == bool(got)
    return got, said or ""


@pytest.mark.parametrize(
    ("hint", "argument", "why"),
    [
        (float, "NaN", "NaN is not JSON"),
        (float, "-Infinity", "-Infinity is not JSON"),
        (float, "1e400", "1e400 is more than a number can be"),
        (Any, "[1e999999999]", "is more than a number can be"),
        (int, "1.0", "1.0 is not of type 'integer'"),
        (int, "1e2", "100.0 is not of type 'integer'"),
        (int, "true", "True is not of type 'integer'"),
        (list[int], "[1, 2.0]", "n.1: 2.0 is not of type 'integer'"),
        (Literal[1, "x"], "1.0", "1.0 is not of type"),
        (Literal[1, "x"], "true", "True is not one of"),
        (int, "9" * 4000, "a number has 4,000 digits"),
        (Any, "9" * 10_000, "a number has 10,000 digits"),
        (dict, '{"a": 1, "a": 2}', "has a key twice"),
        (str, r'"\ud800"', "half of a surrogate pair"),
        (dict, r'{"\uDFFF": 1}', "half of a surrogate pair"),
        (str, b'"\xff"', "not UTF-8"),
        (str, '"x"'.encode("utf-16-le"), "TypeError|property|Expecting|delimiter|control"),
        (Any, "[" * 100_000 + "]" * 100_000, "nested too deeply"),
        (list[int], "[" + "1.0," * 200_000 + "1]", "n.0: 1.0 is not of type"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_arguments_are_what_they_should_be(hint: Any, argument: str | bytes, why: str) -> None:
    got, said = asked(hint, argument)
    assert got == []
    assert re.search(why, said), said
    assert len(said) < 1000


@pytest.mark.parametrize(
    ("hint", "argument", "value"),
    [(int, "-7", -7), (int, "9" * 100, int("9" * 100)), (float, "3", 3), (float, "1e308", 1e308),
     (Literal[1, "x"], "1", 1), (str, r'"\ud83d\ude00"', "😀"), (Any, r'"\\ud800"', "\\ud800"), (list[int], "[]", [])],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_arguments_that_are_right_arrive(hint: Any, argument: str, value: Any) -> None:
    got, _ = asked(hint, argument)
    assert got == [value]
    assert type(got[0]) is type(value)


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
