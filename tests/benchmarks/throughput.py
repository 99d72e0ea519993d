"""How many agents a second, beside the raw engine's ceiling at the same concurrency, in one run: ``make bench``.

The ceiling is ``docker run --rm`` of the same image, by as many threads. Rounds are interleaved; the ratio counts.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from agentbox_magic import agent, images

TASKS = int(os.environ.get("AGENTBOX_BENCH_TASKS", "40"))
ROUNDS = 3
CONCURRENCY = (os.cpu_count() or 1) * 2
OUT = Path(__file__).parent.parent.parent / "build" / "throughput.json"


@agent
def add(n: int) -> int:
    return n + n


def mapped(image: str) -> None:
    assert add.map(range(TASKS), concurrency=CONCURRENCY).values == [n + n for n in range(TASKS)]


def raw(image: str) -> None:
    def run(n: int) -> int:
        command = ["docker", "run", "--rm", "--network", "none", image, "python", "-c", f"print({n} + {n})"]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        assert list(pool.map(run, range(TASKS))) == [n + n for n in range(TASKS)]


def main() -> None:
    image = images.default_image()
    rows: dict[str, Callable[[str], None]] = {
        "agent.map": mapped,
        "docker run --rm --network none IMAGE python -c 'print(n + n)'": raw,
    }
    rates: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(ROUNDS):
        for name, action in rows.items():
            start = time.perf_counter()
            action(image)
            rates[name].append(TASKS / (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ceiling = list(medians.values())[-1]
    print(f"| {TASKS} tasks, {CONCURRENCY} at a time, {ROUNDS} interleaved rounds | a second | of the ceiling |")
    print("| --- | ---: | ---: |")
    for name, median in medians.items():
        print(f"| {name} | {median:.1f} | {median / ceiling:.2f} |")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(rates, indent=1), "utf-8")


if __name__ == "__main__":
    main()
