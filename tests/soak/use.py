"""What a notebook does in an afternoon, as turns that are taken in an order given by a seed."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from agentbox_magic import Sandbox, agent

ERROR = "def f(n): return f(n - 1) if n else 1 / 0\nf(20)"
OUTPUT = "for n in range(2000): print(n, 'x' * 100)"
DISPLAY = (
    "from IPython.display import HTML, display\ndisplay(HTML('<b>x</b>' * 1000)); {n: 'x' * 50 for n in range(500)}"
)


def cell() -> None:
    with Sandbox.create(timeout=60) as box:
        assert box.run_code("6 * 7").text == "42"


def cold() -> None:
    """No box that waits has this label."""
    with Sandbox.create(timeout=60, metadata={"soak": "cold"}) as box:
        assert box.run_code("6 * 7").text == "42"


def shows() -> None:
    with Sandbox.create(timeout=60) as box:
        assert len(box.run_code(OUTPUT).stdout) > 200_000
        assert box.run_code(DISPLAY).results
        assert box.run_code(ERROR).status == "error"


def commands() -> None:
    with Sandbox.create(timeout=60) as box:
        assert box.commands.run("seq 20000").exit_code == 0
        handle = box.commands.run("sleep 100", background=True)
        assert handle.kill()
        for text in ("1", "2"):
            context = box.create_code_context()
            assert box.run_code(text, context=context).text == text
            box.remove_code_context(context)


def files() -> None:
    with tempfile.TemporaryDirectory() as name, Sandbox.create(timeout=60) as box:
        source, copy = Path(name, "source"), Path(name, "copy")
        source.mkdir()
        (source / "big").write_bytes(bytes(4 * 2**20))
        (source / "small").write_text("small", "utf-8")
        box.files.upload(source, "there")
        box.files.download("there", copy)
        assert (copy / "small").read_text("utf-8") == "small"
        assert len(box.files.read("there/big", "bytes")) == 4 * 2**20
        with box.files.watch_dir("."):
            box.files.write("seen", "x")


def values() -> None:
    with Sandbox.create(timeout=60) as box:
        box.push({"x": list(range(10_000)), "text": "x" * 2**20})
        assert len(box.pull("text")["text"]) == 2**20
        box.reset()
        assert box.run_code("'x' in globals()").text == "False"


def late() -> None:
    """A run that is ended by its deadline, and a box that is dropped without a word."""
    with Sandbox.create(timeout=60) as box:
        assert box.run_code("while True: pass", timeout=0.3).status == "timeout"
    Sandbox.create(timeout=60).run_code("1")


def agents() -> None:
    """A function that is defined anew each time, as a cell that is run again defines it."""

    @agent(timeout=60, mem="256m")
    def double(n: int) -> int:
        print(n)
        return 2 * n

    batch = double.map(range(4), concurrency=2)
    assert list(batch) == [0, 2, 4, 6]


def detached() -> None:
    box = Sandbox.create(timeout=60, detach=True, lifetime=120)
    assert box.run_code("6 * 7").text == "42"
    box.disconnect()
    again = Sandbox.connect(box.sandbox_id)
    assert again.run_code("6 * 7").text == "42"
    again.kill()


def ports() -> None:
    with Sandbox.create(timeout=60) as box:
        box.get_host(8000)


def listing() -> None:
    Sandbox.list()


TURNS: dict[str, Callable[[], None]] = {
    one.__name__: one for one in (cell, cold, shows, commands, files, values, late, agents, detached, ports, listing)
}


def turns(names: list[str], seed: int) -> Callable[[], str]:
    """A function that takes one turn and gives its name: each of them once in every round, in another order."""
    rng = random.Random(seed)  # noqa: S311  # an order, no secret
    left: list[str] = []

    def take() -> str:
        if not left:
            left.extend(rng.sample(names, len(names)))
        name = left.pop()
        TURNS[name]()
        return name

    return take
