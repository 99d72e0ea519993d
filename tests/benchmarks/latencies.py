"""What a user waits for: seconds of single calls, beside the raw engine and the peers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

from kernel import Kernel
from waiting import seconds_until

from agentbox_magic import Sandbox, config, images, pool
from benchmarks import raw
from benchmarks.measure import Figure, Row, figure, measure

PANDAS = "import pandas as pd\npd.DataFrame({'n': range(1000)}).describe()"
FIGURE = """
import numpy as np, matplotlib.pyplot as plt
plt.imshow(np.random.default_rng(1).random((560, 560, 3))); plt.axis("off")
plt.gcf().set_size_inches(7.2, 7.2); plt.show()
"""
STDOUT = "import os\nfor _ in range(100): os.write(1, b'x' * 2**20)"
BUSY = "n = 0\nfor i in range(8_000_000): n += i"
SIZE = 100 * 2**20
REST = 0.2
"""Seconds after a start, until the engine has no work with it any more."""


def cold() -> Sandbox:
    config.pool = 0
    return hit()


def hit(**options: Any) -> Sandbox:
    box = Sandbox.create(**options)
    assert box.run_code("1 + 1").text == "2"
    return box


def pandas(**options: Any) -> Sandbox:
    box = Sandbox.create(**options)
    assert box.run_code(PANDAS).results
    return box


def nobody_waits() -> None:
    """Until no box waits or is being made."""
    config.pool = 0
    pool.current().trim()
    seconds_until(lambda: not pool.current()._warm, 60)


def wait_for(count: int) -> None:
    """Until so many boxes with the default limits wait: what is measured is the call that finds one."""
    nobody_waits()
    pool.start_ahead(count)
    time.sleep(REST)


def wait_for_one_with(**options: Any) -> None:
    """Until a box like this one waits."""
    nobody_waits()
    config.pool = 1
    Sandbox.create(**options).kill()
    seconds_until(lambda: len(pool.current().waiting()) == 1, 60)
    time.sleep(REST)


def end(box: object) -> None:
    assert isinstance(box, Sandbox)
    box.kill()


class Beside:
    """A busy cell, in a box that has just been handed out, while so many others are being started for the pool."""

    def __init__(self, others: int) -> None:
        self._others = others
        self._boxes: list[Sandbox] = []

    def prepare(self) -> None:
        nobody_waits()
        if self._others:
            wait_for(self._others)
        # Taken together, so that the pool begins to fill itself again while the cell runs.
        self._boxes = [Sandbox.create() for _ in range(max(1, self._others))]

    def action(self) -> None:
        self._boxes[0].run_code(BUSY).raise_for_status()

    def after(self, _: object) -> None:
        for box in self._boxes:
            box.kill()
        nobody_waits()

    def row(self, name: str) -> Row:
        return Row(name, self.action, self.prepare, self.after, every=2)


def latencies(rounds: int, others: list[Row]) -> dict[str, Figure]:
    """Time our rows and others' together."""
    nobody_waits()
    image = images.default_image()
    python = ["python", "-c", "print(1 + 1)"]
    box, kernel, echo = Sandbox.create(), Kernel(), raw.Echo()
    busy = Sandbox.create(mem="1g")
    idle = raw.run("docker", "run", "--detach", "--rm", "--entrypoint", "sleep", image, "3600")
    data = os.urandom(SIZE)
    raw.run_cell()
    hardened, plain = raw.flags(), raw.Plain()

    def floor() -> None:
        echo()
        raw.run_cell()

    def picture() -> None:
        run = busy.run_code(FIGURE)
        assert len(run.results[0].png or b"") > 0.9 * 2**20, run

    def output() -> None:
        seen = 0

        def count(text: str) -> None:
            nonlocal seen
            seen += len(text)

        busy.run_code(STDOUT, on_stdout=count)
        assert seen > 2**20 - 2**18

    rows = [
        Row("warm: 1 + 1 in a session", lambda: box.run_code("1 + 1"), burst=20),
        Row("the limit: a bare pipe round trip, and run_cell", floor, burst=20),
        Row("ipykernel on the host", lambda: kernel.run("1 + 1"), burst=10),
        Row("docker exec", lambda: raw.run("docker", "exec", idle, *python)),
        Row("fresh box from the pool, and 1 + 1", hit, lambda: wait_for(1), end),
        Row(
            "a fresh box with other limits, and 1 + 1",
            lambda: hit(mem="600m", cpus=0.5, pids=40), lambda: wait_for(1), end,
        ),
        Row("fresh box, cold, and 1 + 1", cold, nobody_waits, end, whole="fresh box, cold, to its removal"),
        Row("docker run --rm", lambda: raw.run("docker", "run", "--rm", image, *python)),
        Row(
            "docker run --rm with the walls of a box",
            lambda: raw.run("docker", "run", "--rm", *hardened, image, *python),
        ),
        Row(
            "start of a box, its walls read back",
            Sandbox.create, nobody_waits, end, whole="start and removal of a box",
        ),
        Row(
            "start of the same container with Docker's defaults and no network",
            plain.start, after=plain.end, whole="start and removal of the same with Docker's defaults",
        ),
        Row("a pandas cell in a fresh box from the pool", pandas, lambda: wait_for(1), end),
        Row(
            "the pandas cell with preload=['pandas']",
            lambda: pandas(preload=["pandas"]), lambda: wait_for_one_with(preload=["pandas"]), end,
        ),
        Beside(2).row("a busy cell while the pool starts two boxes"),
        Beside(0).row("the same busy cell without a pool"),
        Row("a figure of 1 MB in a session", picture, every=3),
        Row("100 MB of stdout", output, every=5),
        Row("100 MB into a box", lambda: busy.files.write("data", data), every=5),
        Row("100 MB out of a box", lambda: busy.files.read("data", format="bytes"), every=5),
    ]  # fmt: skip
    try:
        return measure(rows + others, rounds)
    finally:
        kernel.close()
        echo.close()
        busy.kill()
        box.kill()
        raw.run("docker", "rm", "--force", idle)
        nobody_waits()


def loading() -> dict[str, Figure]:
    """Seconds that a new interpreter says something took it."""
    start = "from IPython.testing.globalipapp import start_ipython\nshell = start_ipython()\n"
    steps = {
        "import agentbox_magic": ("", "import agentbox_magic"),
        "%load_ext agentbox_magic": (start, "shell.run_line_magic('load_ext', 'agentbox_magic')"),
    }

    def one(before: str, step: str) -> float:
        code = f"{before}import time\nbegan = time.perf_counter()\n{step}\nprint(time.perf_counter() - began)"
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        return float(said.split()[-1])

    return {name: figure([one(*step) for _ in range(5)]) for name, step in steps.items()}
