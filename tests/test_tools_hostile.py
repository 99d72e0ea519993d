"""Tools, asked for by an agent's code past what it was given: it can ask nothing else, and answers nothing harmful."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_executor.tools import AT_ONCE
from agent_executor.wire import ProtocolError
from agentbox_magic import PolicyError, Sandbox, TransferError, agent, tool
from agentbox_magic.tools import Desk, named

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
