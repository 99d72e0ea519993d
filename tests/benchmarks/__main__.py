"""Measures, prints the table of the README, and writes ``results.json``. About five minutes."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import docker
from kernel import Kernel

from agentbox_magic import Sandbox, config, hardening, images, pool
from agentbox_magic.engine import Engine
from agentbox_magic.limits import Limits
from benchmarks import memory, raw
from benchmarks.measure import Figure, Row, figure, measure

ROUNDS = int(os.environ.get("ROUNDS", "15"))
OUT = Path(__file__).parent / "results.json"
PEERS = Path(__file__).parent.parent.parent / "build" / "peers.json"
CORES = os.cpu_count() or 1

PANDAS = "import pandas as pd\npd.DataFrame({'n': range(1000)}).describe()"
FIGURE = """
import numpy as np, matplotlib.pyplot as plt
plt.imshow(np.random.default_rng(1).random((560, 560, 3))); plt.axis("off")
plt.gcf().set_size_inches(7.2, 7.2); plt.show()
"""
STDOUT = "import os\nfor _ in range(100): os.write(1, b'x' * 2**20)"


def cold() -> Sandbox:
    config.pool = 0
    box = Sandbox.create()
    assert box.run_code("1 + 1").text == "2"
    return box


def hit(**limits: Any) -> Sandbox:
    box = Sandbox.create(**limits)
    assert box.run_code("1 + 1").text == "2"
    return box


def wait_for_one() -> None:
    """Until a box waits: what is measured is the call that finds one."""
    config.pool = 1
    if not pool.current().waiting():
        pool.start_ahead(1)
    time.sleep(0.2)  # the machine is quiet again


def end(box: object) -> None:
    assert isinstance(box, Sandbox)
    box.kill()


def fresh_interpreter(code: str) -> float:
    """Seconds that a new interpreter says something took it."""
    timed = f"import time\nbefore = time.perf_counter()\n{code}\nprint(time.perf_counter() - before)"
    return float(subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True).stdout)


def latencies() -> dict[str, Figure]:
    config.pool = 0
    image = images.default_image()
    python = ["python", "-c", "print(1 + 1)"]
    box, kernel, echo = Sandbox.create(), Kernel(), raw.Echo()
    busy = Sandbox.create(mem="1g")
    idle = raw.run("docker", "run", "--detach", "--rm", "--entrypoint", "sleep", image, "3600")
    data = os.urandom(100 * 2**20)
    raw.run_cell()
    hardened = raw.flags()

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
        Row("fresh box from the pool, and 1 + 1", hit, wait_for_one, end),
        Row("the same with other limits", lambda: hit(mem="600m", cpus=0.5, pids=40), wait_for_one, end),
        Row("fresh box, cold, and 1 + 1", cold, after=end),
        Row("docker run --rm", lambda: raw.run("docker", "run", "--rm", image, *python)),
        Row(
            "docker run --rm with the walls of a box",
            lambda: raw.run("docker", "run", "--rm", *hardened, image, *python),
        ),
        Row("a pandas cell in a fresh box from the pool", lambda: Sandbox.create().run_code(PANDAS), wait_for_one),
        Row("a figure of 1 MB in a session", picture, every=3),
        Row("100 MB of stdout", output, every=5),
        Row("100 MB into a box", lambda: busy.files.write("data", data), every=5),
        Row("100 MB out of a box", lambda: busy.files.read("data", format="bytes"), every=5),
    ]
    try:
        return measure(rows, ROUNDS)
    finally:
        kernel.close()
        echo.close()
        busy.kill()
        box.kill()
        raw.run("docker", "rm", "--force", idle)
        pool.start_ahead(0)


def rates() -> dict[str, float]:
    """Per second, with as many at a time as there are cores; halves of one and the other take turns."""
    config.pool = 0

    def fresh(count: int) -> None:
        def one(number: int) -> None:
            with Sandbox.create() as box:
                assert box.run_code("1 + 1").text == "2"

        with ThreadPoolExecutor(CORES) as threads:
            list(threads.map(one, range(count)))

    def reused(count: int) -> None:
        def some(box: Sandbox) -> None:
            for _ in range(count // CORES):
                assert box.run_code("1 + 1").text == "2"
                box.reset()

        with ThreadPoolExecutor(CORES) as threads:
            list(threads.map(some, boxes))

    def rate(action: Callable[[], object], count: int) -> float:
        start = time.perf_counter()
        action()
        return count / (time.perf_counter() - start)

    boxes = [Sandbox.create() for _ in range(CORES)]
    engine, ours, again = [], [], []
    for _ in range(4):
        engine.append(rate(lambda: raw.create_start_remove(10, CORES), 10))
        ours.append(rate(lambda: fresh(10), 10))
        again.append(rate(lambda: reused(100), 100))
    for box in boxes:
        box.kill()
    return {
        "create, start, remove by the engine alone": figure(engine).median,
        "fresh sandboxes, each with a run": figure(ours).median,
        "runs in boxes that are reset in between": figure(again).median,
    }


def memories() -> dict[str, Any]:
    config.pool = 0
    client = docker.from_env()
    boxes: list[Sandbox] = []
    growth = {}
    for count in (1, 2, 5, 10, 20):
        while len(boxes) < count:
            boxes.append(Sandbox.create())
            boxes[-1].run_code("1 + 1")
        parts = [memory.of_box(client, box.sandbox_id) for box in boxes]
        growth[count] = sum(sum(one.values()) for one in parts)
        if count == 1:
            alone = parts[0]
    for box in boxes:
        box.kill()
    return {"one box": alone, "all of so many": growth}


def growth() -> dict[str, Any]:
    """Seconds per task of the first so many, one after another in boxes that are reset in between."""
    config.pool = 0
    per_task = {}
    with Sandbox.create() as box:
        box.run_code("1 + 1")
        for count in (10, 50, 100, 500):
            start = time.perf_counter()
            for _ in range(count):
                box.run_code("1 + 1")
                box.reset()
            per_task[count] = (time.perf_counter() - start) / count
    return per_task


def listing() -> dict[str, float]:
    """Sandbox.list() beside a hundred containers of ours. (Created, not started: to the list it is the same.)"""
    engine = Engine.connect()
    box = hardening.Box(image=images.default_image())
    made = [engine.create(hardening.container_config(Limits(), box)) for _ in range(100)]
    try:
        rows = [Row("Sandbox.list() with 100 boxes", Sandbox.list, burst=5)]
        return {name: one.median for name, one in measure(rows, 3).items()}
    finally:
        for container in made:
            assert container is not None
            engine.remove(container)


def main() -> None:
    machine = {"cores": CORES, "system": platform.platform(), "docker": docker.from_env().version()["Version"]}
    results: dict[str, Any] = {
        "machine": {**machine, "load before": round(os.getloadavg()[0], 1)},  # of others: ratios suffer above the cores
        "rounds": ROUNDS,
        "seconds": {name: asdict(one) for name, one in latencies().items()},
        "per second": rates(),
        "bytes": memories(),
        "seconds per task": growth(),
        "listing": listing(),
    }
    start = "from IPython.testing.globalipapp import start_ipython\nshell = start_ipython()\n"
    load = f"{start}before = time.perf_counter()\nshell.run_line_magic('load_ext', 'agentbox_magic')"
    results["loading"] = {
        "import agentbox_magic": figure([fresh_interpreter("import agentbox_magic") for _ in range(5)]).median,
        "%load_ext agentbox_magic": figure([fresh_interpreter(load) for _ in range(5)]).median,
    }
    if PEERS.exists():
        results["peers"] = json.loads(PEERS.read_text("utf-8"))
    OUT.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    from benchmarks import table

    print(table.markdown(results))


if __name__ == "__main__":
    main()
