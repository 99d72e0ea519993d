"""Time what matters, beside the raw engine, in one run: ``make bench``.

Rounds are interleaved, so that a slow moment of the machine falls on every row; the table gives medians and quartiles.
The figures of one machine say little: the ratios are the result.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from kernel import Kernel

from agentbox_magic import Sandbox, images

ROUNDS = 15
OUT = Path(__file__).parent.parent.parent / "build" / "benchmarks.json"


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def cold() -> None:
    box = Sandbox.create()
    assert box.run_code("1 + 1").text == "2"
    # The clean-up is not what a user waits for, so it is timed as a row of its own.
    living.append(box)


living: list[Sandbox] = []


def main() -> None:
    image = images.default_image()
    box = Sandbox.create()
    box.run_code("1 + 1")
    kernel = Kernel()
    kernel.run("1 + 1")
    idle = run("docker", "run", "--detach", "--rm", "--entrypoint", "sleep", image, "1000")
    one = ["python", "-c", "print(1 + 1)"]
    rows: dict[str, Callable[[], object]] = {
        "round trip in a live sandbox": lambda: box.run_code("1 + 1"),
        "round trip of an ipykernel on the host (jupyter_client)": lambda: kernel.run("1 + 1"),
        "cold: Sandbox.create and first result": cold,
        "kill and remove": lambda: living.pop().kill(),
        "docker run --rm IMAGE python -c 'print(1 + 1)'": lambda: run("docker", "run", "--rm", image, *one),
        "docker exec BOX python -c 'print(1 + 1)'": lambda: run("docker", "exec", idle, *one),
    }
    times: dict[str, list[float]] = {name: [] for name in rows}
    try:
        for _ in range(ROUNDS):
            for name, action in rows.items():
                times[name].append(seconds(action))
    finally:
        box.kill()
        kernel.close()
        run("docker", "rm", "--force", idle)

    base = statistics.median(times["docker run --rm IMAGE python -c 'print(1 + 1)'"])
    table = []
    for name, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        table.append({"row": name, "median": middle, "low": low, "high": high, "to docker run": middle / base})
    print(f"| {ROUNDS} interleaved rounds | median | quartiles | of `docker run` |\n| --- | ---: | ---: | ---: |")
    for row in table:
        print(
            f"| {row['row']} | {row['median'] * 1e3:.1f} ms | {row['low'] * 1e3:.1f}-{row['high'] * 1e3:.1f} ms"
            f" | {row['to docker run']:.3f} |"
        )
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(table, indent=1), "utf-8")


if __name__ == "__main__":
    main()
