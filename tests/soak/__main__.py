"""Use boxes for SECONDS, and write down what this process and the engine held: ``python -m soak SECONDS FOLDER``."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import time
import tracemalloc
from pathlib import Path

import psutil

from agentbox_magic import config, hardening, owner, pool
from agentbox_magic.engine import Engine
from soak.chart import svg
from soak.use import TURNS, turns

EVERY_SECONDS = 5.0
WARM_ROUNDS = 2
"""Then modules are loaded, and what is kept for the next time is as large as it gets."""


def calm(within: float = 30.0) -> None:
    """Wait until the boxes that should wait do, and what has been let go is gone."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        if len(ours()) == len(pool.current().waiting()) == config.pool_size():
            return
        time.sleep(0.05)  # between two looks


def ours() -> list[str]:
    """The containers of this process."""
    me = owner.current()
    found = Engine.connect().containers(f"{hardening.LABEL}=sandbox")
    return [
        one["Id"] for one in found if me in (one["Labels"].get(hardening.OWNER), one["Labels"].get(hardening.MAKER))
    ]


def sample(start: float, count: int) -> dict[str, float]:
    """What is held now; ``kept`` is the memory without what the C library only keeps for the next time."""
    calm()
    gc.collect()
    me = psutil.Process()
    found = {
        "seconds": round(time.monotonic() - start, 1), "turns": count, "rss": me.memory_info().rss,
        "fds": me.num_fds(), "threads": me.num_threads(), "containers": len(ours()), "objects": len(gc.get_objects()),
    }  # fmt: skip
    ctypes.CDLL(None).malloc_trim(0)
    return {**found, "kept": me.memory_info().rss}


def main() -> None:
    """Warm up, then use and sample."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=float)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(TURNS), choices=list(TURNS))
    parser.add_argument("--trace", action="store_true", help="tell where the memory that grew was asked for")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("AGENTBOX_POOL", "2")
    take, count = turns(options.only, options.seed), 0
    for _ in range(WARM_ROUNDS * len(options.only)):
        take()
    if options.trace:
        tracemalloc.start(15)
        for _ in options.only:
            take()
        gc.collect()
        before = tracemalloc.take_snapshot()
    start = last = time.monotonic()
    samples = [sample(start, count)]

    def keep() -> None:
        samples.append(sample(start, count))
        (options.folder / "samples.json").write_text(json.dumps(samples, indent=0), "utf-8")
        title = f"{count:,} turns of mixed use in one process, {samples[-1]['seconds'] / 60:.0f} minutes"
        (options.folder / "soak.svg").write_text(svg(samples, title), "utf-8")

    while time.monotonic() - start < options.seconds:
        take()
        count += 1
        if time.monotonic() - last > EVERY_SECONDS:
            last = time.monotonic()
            keep()
    keep()
    print(json.dumps({"first": samples[0], "last": samples[-1]}))
    if options.trace:
        gc.collect()
        for one in tracemalloc.take_snapshot().compare_to(before, "traceback")[:12]:
            print(one, *one.traceback.format()[-12:], sep="\n")


if __name__ == "__main__":
    main()
