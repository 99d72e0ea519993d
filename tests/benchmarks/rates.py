"""How many a second, and whether the thousandth costs what the first did."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from IPython.core.interactiveshell import InteractiveShell

from agentbox_magic import Sandbox, agent, config, hardening, images, uids
from agentbox_magic.engine import Engine
from agentbox_magic.limits import Limits
from benchmarks import raw
from benchmarks.latencies import nobody_waits
from benchmarks.measure import Figure, Row, figure, measure

CORES = os.cpu_count() or 1
TASKS = 100
REUSED = 500
"""More of those that take no box of their own: a hundred would be over before the boxes are."""
COUNTS = (10, 50, 100, 500)


@agent
def add(n: int) -> int:
    return n + n


def in_turn(actions: dict[str, tuple[Callable[[], object], int]], turns: int) -> dict[str, Figure]:
    """Each action, and how many things it does: things per second."""
    found: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(turns):
        for name, (action, count) in actions.items():
            start = time.perf_counter()
            action()
            found[name].append(count / (time.perf_counter() - start))
            nobody_waits()
    return {name: figure(values) for name, values in found.items()}


def sandboxes(turns: int) -> dict[str, Figure]:
    """Boxes made and ended, with as many at a time as there are cores."""
    nobody_waits()

    def one(_: int) -> None:
        with Sandbox.create() as box:
            assert box.run_code("1 + 1").text == "2"

    def some(box: Sandbox) -> None:
        for _ in range(TASKS // CORES):
            assert box.run_code("1 + 1").text == "2"
            box.reset()

    boxes = [Sandbox.create() for _ in range(CORES)]
    with ThreadPoolExecutor(CORES) as threads:
        found = in_turn(
            {
                "create, start, remove by the engine alone": (lambda: raw.create_start_remove(10, CORES), 10),
                "fresh sandboxes, each with a run": (lambda: list(threads.map(one, range(10))), 10),
                "runs in boxes that are reset in between": (lambda: list(threads.map(some, boxes)), TASKS),
            },
            turns,
        )
    for box in boxes:
        box.kill()
    return found


def agents(turns: int) -> dict[str, Figure]:
    """Short tasks of an agent, as a user calls it, beside as many ``docker run`` at the same concurrency."""
    image = images.default_image()
    many = 2 * CORES

    def mapped(tasks: int, concurrency: int, reuse: bool) -> None:
        config.pool = None  # the default
        assert add.map(range(tasks), concurrency=concurrency, reuse=reuse).values == [n + n for n in range(tasks)]

    def engine() -> None:
        def run(n: int) -> int:
            return int(raw.run("docker", "run", "--rm", "--network=none", image, "python", "-c", f"print({n} + {n})"))

        with ThreadPoolExecutor(many) as threads:
            assert list(threads.map(run, range(TASKS))) == [n + n for n in range(TASKS)]

    return in_turn(
        {
            f"map of {TASKS} short tasks": (lambda: mapped(TASKS, many, False), TASKS),
            f"docker run --rm --network=none, {TASKS} times": (engine, TASKS),
            f"map of {REUSED} short tasks with reuse=True": (lambda: mapped(REUSED, CORES, True), REUSED),
        },
        turns,
    )


def growth(tasks: int) -> dict[int, Figure]:
    """Seconds of a task where a box does so many, one after another and reset after each; its start is not counted.

    They take turns task by task, so that a slow moment of the machine is everybody's; and each task is timed alone: a
    mean over a long time has all of its slow moments, and would look like growth.
    """
    nobody_waits()
    found: dict[int, list[float]] = {count: [] for count in COUNTS}
    boxes: dict[int, Sandbox] = {}

    def task(box: Sandbox) -> None:
        box.run_code("1 + 1")
        box.reset()

    for number in range(tasks):
        for count in COUNTS:
            if number % count == 0:
                if count in boxes:
                    boxes[count].kill()
                boxes[count] = Sandbox.create()
                task(boxes[count])
        first = number // min(COUNTS) % len(COUNTS)  # another one each time that boxes have just been started
        for count in (*COUNTS[first:], *COUNTS[:first]):
            start = time.perf_counter()
            task(boxes[count])
            found[count].append(time.perf_counter() - start)
    for box in boxes.values():
        box.kill()
    return {count: figure(values) for count, values in found.items()}


def listing() -> dict[str, Figure]:
    """What is listed beside a hundred containers of ours. (Created, not started: to the list it is the same.)"""
    engine = Engine.connect()
    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "agentbox_magic")
    box = hardening.Box(image=images.default_image())
    made = [engine.create(hardening.container_config(Limits(), box, uids.draw(engine))) for _ in range(100)]

    def magic() -> None:
        with raw.silence():
            shell.run_line_magic("sandbox", "ps")

    try:
        return measure(
            [
                Row("Sandbox.list() with 100 boxes", Sandbox.list, burst=5),
                Row("%sandbox ps with 100 boxes", magic, burst=5),
            ],
            3,
        )
    finally:
        for container in made:
            assert container is not None
            engine.remove(container)
