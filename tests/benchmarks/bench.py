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
from typing import Any

from kernel import Kernel

from agentbox_magic import Sandbox, hardening, images
from agentbox_magic.channel import Channel
from agentbox_magic.engine import Engine
from agentbox_magic.limits import Limits

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


def hardened() -> None:
    living.append(Sandbox.create())


def defaults(config: dict[str, Any]) -> None:
    """The same container, with what Docker does unless told otherwise; without a network, which would cost the most."""
    engine = Engine.connect()
    container = engine.create(config)
    assert container is not None
    channel = Channel(engine.attach(container))
    engine.start(container)
    channel.handshake(60)
    channels.append(channel)


living: list[Sandbox] = []
channels: list[Channel] = []


def main() -> None:
    image = images.default_image()
    box = Sandbox.create()
    box.run_code("1 + 1")
    kernel = Kernel()
    kernel.run("1 + 1")
    idle = run("docker", "run", "--detach", "--rm", "--entrypoint", "sleep", image, "1000")
    config = hardening.container_config(Limits(), hardening.Box(image=image))
    env = ["HOME=/workspace" if word.startswith("HOME=") else word for word in config["Env"]]  # the image's own user's
    host = {"AutoRemove": True, "NetworkMode": "none", "Runtime": "", "SecurityOpt": []}
    config.update(User="10000:10000", Env=env, HostConfig=host)
    one = ["python", "-c", "print(1 + 1)"]
    rows: dict[str, Callable[[], object]] = {
        "round trip in a live sandbox": lambda: box.run_code("1 + 1"),
        "round trip of an ipykernel on the host (jupyter_client)": lambda: kernel.run("1 + 1"),
        "cold: Sandbox.create and first result": cold,
        "kill and remove": lambda: living.pop().kill(),
        "start: Sandbox.create, its walls read back": hardened,
        "start: the same container with Docker's defaults": lambda: defaults(config),
        "docker run --rm IMAGE python -c 'print(1 + 1)'": lambda: run("docker", "run", "--rm", image, *one),
        "docker exec BOX python -c 'print(1 + 1)'": lambda: run("docker", "exec", idle, *one),
    }
    times: dict[str, list[float]] = {name: [] for name in rows}
    try:
        for _ in range(ROUNDS):
            for name, action in rows.items():
                times[name].append(seconds(action))
            living.pop().kill()
            channels.pop().close()
    finally:
        box.kill()
        kernel.close()
        run("docker", "rm", "--force", idle)

    walls = [statistics.median(times[name]) for name in times if name.startswith("start: ")]
    print(f"what the walls cost a start: {walls[0] / walls[1]:.2f} of the same container with Docker's defaults\n")
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
