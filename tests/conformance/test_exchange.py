"""Values in and out of a box: plain data, copied, in turn with the runs of a context, whatever the box says."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from canary import CANARY, Canary

from agent_executor import encoder
from agentbox_magic import (
    AsyncSandbox,
    ExecutionError,
    MemoryLimitError,
    Sandbox,
    SandboxClosedError,
    SandboxError,
    TimeLimitError,
    TransferError,
)


def test_values_cross_both_ways(box: Sandbox) -> None:
    there: dict[str, Any] = {
        "n": 2**200, "text": "é" * 5000, "raw": bytes(range(256)), "price": Decimal("1.10"),
        "keys": {1: {"a", None}}, "when": datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")),
        "pair": (1, [2.5, float("inf")]),
    }  # fmt: skip
    size = box.push(there)
    back = box.pull(list(there))
    assert back == there
    assert back.size == size
    assert {name: type(value) for name, value in back.items()} == {name: type(value) for name, value in there.items()}


def test_arrays_and_tables_cross_both_ways(box: Sandbox) -> None:
    table = pd.DataFrame(
        {"n": [1, 2], "t": ["x", None], "when": pd.to_datetime(["2024-01-01", None], utc=True), "c": [1j, 2]},
        index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", None]),
    )
    table["kind"] = table["t"].astype("category")
    array = np.arange(6, dtype=">i2").reshape(2, 3)
    box.push({"table": table, "array": array, "one": table["n"]})
    run = box.run_code("table['twice'] = table['n'] * 2; array = array.T.copy(); type(one).__name__, array.dtype.str")
    assert run.text == "('Series', '>i2')"
    back = box.pull(["table", "array", "one"])
    pd.testing.assert_frame_equal(back["table"], table.assign(twice=[2, 4]))
    np.testing.assert_array_equal(back["array"], array.T)
    pd.testing.assert_series_equal(back["one"], table["n"])


def test_one_name_is_enough(box: Sandbox) -> None:
    box.run_code("alone = 5")
    assert box.pull("alone") == {"alone": 5}


def test_large_values_cross_within_the_boxs_memory() -> None:
    array = np.random.default_rng(0).random(48 * 2**17)
    with Sandbox.create(mem="256m") as box:
        assert box.push({"array": array}) > 48 * 2**20
        assert (box.pull("array")["array"] == array).all()


def test_they_wait_for_what_runs_before_them(box: Sandbox) -> None:
    started = threading.Event()
    thread = threading.Thread(
        target=lambda: box.run_code(
            "print('on'); import time; time.sleep(0.5); order = ['run']", on_stdout=lambda _: started.set()
        )
    )
    thread.start()
    started.wait(10)
    box.push({"later": "x" * 3_000_000})
    assert box.pull("order") == {"order": ["run"]}
    thread.join()


def test_contexts_have_their_own(box: Sandbox) -> None:
    context = box.create_code_context()
    box.push({"mine": 1}, context=context)
    assert box.pull("mine", context=context) == {"mine": 1}
    with pytest.raises(TransferError, match="there is no mine in the box; assign it there, or do not ask for it"):
        box.pull("mine")
    box.remove_code_context(context)
    with pytest.raises(FileNotFoundError):
        box.push({"mine": 1}, context=context)


def test_a_box_of_another_image(base: str) -> None:
    with Sandbox.create(image=base) as box:
        box.push({"a": {"b": (1, 2)}})
        box.run_code("a['c'] = {3}")
        assert box.pull("a") == {"a": {"b": (1, 2), "c": {3}}}
        with pytest.raises(TransferError, match="needs numpy, which is not installed here"):
            box.push({"array": np.zeros(1)})


def test_bash_has_no_values(box: Sandbox) -> None:
    context = box.create_code_context(language="bash")
    for exchange in (lambda: box.push({"a": 1}, context=context), lambda: box.pull("a", context=context)):
        with pytest.raises(TransferError, match="values cross to and from Python only"):
            exchange()


def test_async() -> None:
    async def main() -> Any:
        async with await AsyncSandbox.create() as box:
            await box.push({"n": 1})
            return await box.pull("n")

    assert asyncio.run(main()) == {"n": 1}


# -- what does not cross ----------------------------------------------------------------------------------------------


def test_nothing_is_sent_of_what_cannot_cross(box: Sandbox) -> None:
    with pytest.raises(TransferError, match=r"bad\['f'\]\[0\] is a function; code does not cross"):
        box.push({"good": 1, "bad": {"f": [len]}})
    with pytest.raises(ValueError, match="'a b' is no name of a variable"):
        box.push({"a b": 1})
    with pytest.raises(ValueError, match="'import' is no name of a variable"):
        box.pull("import")
    assert box.run_code("'good' in globals()").text == "False"


def test_the_box_says_what_it_cannot_send(box: Sandbox) -> None:
    box.run_code("import pandas as pd; df = pd.DataFrame({'a': [1, 2, 3, lambda: 0]})")
    with pytest.raises(TransferError, match=r"^df\['a'\]\[3\] is a function; code does not cross"):
        box.pull("df")
    with pytest.raises(TransferError, match="there is no nowhere, neither in the box"):
        box.pull(["df", "nowhere", "neither"])


def test_the_cap_holds_at_both_ends(box: Sandbox) -> None:
    with pytest.raises(TransferError, match="big is too large: more than 1 MiB; raise max_size"):
        box.push({"big": bytes(2**20)}, max_size=2**20)
    box.run_code("big = bytes(2**20)")
    with pytest.raises(TransferError, match="big is too large: more than 1 MiB; raise max_size"):
        box.pull("big", max_size=2**20)
    assert box.pull("big", max_size=2**21)["big"] == bytes(2**20)


def test_a_value_that_does_not_fit_ends_the_contexts_process() -> None:
    with Sandbox.create(mem="96m") as box:
        with pytest.raises(MemoryLimitError):
            box.push({"big": bytes(63 * 2**20)})
        assert box.run_code("1").text == "1"


def test_a_value_that_takes_for_ever() -> None:
    code = "import dataclasses\n@dataclasses.dataclass\nclass D:\n  n: int\n  def __getattribute__(self, name):\n"
    with Sandbox.create(timeout=2) as box:
        box.run_code(code + "    while name == 'n': pass\n    return object.__getattribute__(self, name)\nd = D(1)")
        with pytest.raises(TimeLimitError):
            box.pull("d")
        box.run_code(code + "    raise KeyError(1)\nd = D(1)\nkept = 1")
        with pytest.raises(TransferError, match="KeyError: 1"):
            box.pull("d")
        assert box.pull("kept") == {"kept": 1}


def test_a_dead_box(box: Sandbox) -> None:
    with Sandbox.create() as gone:
        gone.kill()
        with pytest.raises(SandboxClosedError):
            gone.push({"a": 1})


# -- hostile boxes ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile() -> Iterator[Sandbox]:
    with Sandbox.create(timeout=20) as box:
        yield box


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"not a value",
        pickle.dumps({"x": Canary()}),
        encoder.encode([1, 2]),
        encoder.encode({"y": 1}),
        encoder.encode({"x": 1, "__builtins__": {}}),
        encoder.encode({"x": bytes(100)})[:-1],
        b'ABV1\x00\x00\x0f\xa0{"sizes":[],"tree":' + b"[" * 3981,
    ],
    ids=["empty", "junk", "pickle", "no dict", "another name", "more names", "cut", "deep"],
)
def test_a_hostile_reply_is_an_error_and_does_nothing(hostile: Sandbox, reply: bytes) -> None:
    CANARY.clear()
    hostile.run_code(f"from agent_executor import encoder; encoder.encode_namespace = lambda *a, **k: {reply!r}; x = 1")
    with pytest.raises(TransferError, match="what came from the box cannot be taken"):
        hostile.pull("x")
    assert CANARY == []
    assert hostile.is_running()


def test_more_than_was_asked_for_does_not_come(hostile: Sandbox) -> None:
    hostile.run_code(
        "from agent_executor import encoder; encoder.encode_namespace = lambda *a, **k: bytes(200_000_000); x = 1"
    )
    with pytest.raises(TransferError, match="what came from the box cannot be taken"):
        hostile.pull("x", max_size=2**20)
    assert hostile.is_running()


def test_a_hostile_error_is_only_text(hostile: Sandbox) -> None:
    hostile.run_code(
        "from agent_executor import encoder\n"
        "def refuse(*a, **k): raise ValueError('\\x1b]52;c;x\\x07 \\x1b[31m<a href=x>red' * 9)\n"
        "encoder.encode_namespace = refuse; x = 1"
    )
    with pytest.raises(TransferError) as caught:
        hostile.pull("x")
    assert "\x1b" not in str(caught.value)
    assert "<a" not in str(caught.value)


@pytest.mark.parametrize("kind", ["data", "ack"])
def test_data_that_nobody_asked_for_does_not_pass(hostile: Sandbox, kind: str) -> None:
    code = (
        "import gc; control = next(o for o in gc.get_objects() if type(o).__name__ == 'Control')\n"
        f"control._send({{'type': '{kind}'}}, b'x' * 100)\n" + ("control.receive()\n" if kind == "data" else "") + "7"
    )
    assert hostile.run_code(code).text == "7"
    assert hostile.is_running()


def test_a_box_that_does_not_read_what_is_pushed() -> None:
    with Sandbox.create(timeout=1) as box:
        box.run_code(
            "from agent_executor import exchange; import time\nexchange.collect = lambda control: time.sleep(1000)"
        )
        with pytest.raises((TimeLimitError, SandboxError)):
            box.push({"big": bytes(2**25)})
        assert box.run_code("1").text == "1"


def test_a_detached_box_is_left_in_the_middle_of_a_push() -> None:
    box = Sandbox.create(detach=True, lifetime=60)
    try:
        call = box._link.call(
            "push_request", budget=2**20, context="default", timeout=None, max_output=0, max_size=2**20
        )
        box._link.send({"type": "push_input", "id": call.id, "eof": False}, b"a piece")
        box.disconnect()
        with Sandbox.connect(box.sandbox_id) as again:
            assert again.run_code("1").text == "1"
            again.push({"n": 1})
            assert again.pull("n") == {"n": 1}
    finally:
        box.kill()


def test_the_codes_own_threads_may_print_meanwhile(box: Sandbox) -> None:
    box.run_code(
        "import threading, time\nstop = threading.Event()\ndef talk():\n  while not stop.is_set(): print('x' * 100)\n"
        "thread = threading.Thread(target=talk); thread.start()"
    )
    for n in range(20):
        box.push({"n": n, "big": "x" * 600_000})
        assert box.pull("n") == {"n": n}
    run = box.run_code("stop.set(); thread.join(); n")
    assert run.text == "19"
    assert not isinstance(run.error, ExecutionError)
