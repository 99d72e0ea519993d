"""Measures all, prints the tables, and writes ``results.json``: ``make bench``. About eight minutes.

With ``ROUNDS=1`` in the environment it is done in two: that shows whether it works, and nothing else.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import docker

from benchmarks import memory, rates, table
from benchmarks.latencies import latencies, loading
from benchmarks.measure import Figure
from benchmarks.peers import Peers

ROUNDS = int(os.environ.get("ROUNDS", "15"))
BEGAN = time.perf_counter()
OUT = Path(__file__).parent / "results.json"


def plain(figures: dict[Any, Figure]) -> dict[Any, dict[str, float]]:
    return {name: asdict(one) for name, one in figures.items()}


def say(what: str) -> None:
    print(f"{time.perf_counter() - BEGAN:4.0f} s  {what}", file=sys.stderr, flush=True)


def main() -> None:
    machine = {"cores": os.cpu_count(), "system": platform.platform(), "docker": docker.from_env().version()["Version"]}
    machine |= {"load before": round(os.getloadavg()[0], 1)}  # of others: ratios suffer above the cores
    say("starting others")
    peers = Peers()
    try:
        say(f"single calls, {ROUNDS} rounds")
        seconds = latencies(ROUNDS, peers.rows)
    finally:
        peers.close()
    turns = max(1, min(4, ROUNDS // 3))
    say("rates")
    per_second = {**rates.sandboxes(turns), **rates.agents(min(3, turns))}
    say("growth")
    per_task = rates.growth(1000 if ROUNDS >= 10 else 500)
    say("memory, lists, loading")
    theirs = {row.name for row in peers.rows} | {row.whole for row in peers.rows}
    results: dict[str, Any] = {
        "machine": machine,
        "rounds": ROUNDS,
        "seconds": plain({name: one for name, one in seconds.items() if name not in theirs}),
        "peers": plain({name: one for name, one in seconds.items() if name in theirs}),
        "peers that do not run": peers.missing,
        "per second": plain(per_second),
        "seconds per task": plain(per_task),
        **memory.memories(),
        "listing": plain(rates.listing()),
        "loading": plain(loading()),
    }
    results = json.loads(json.dumps(results))  # as a reader of the file has it
    OUT.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    print(table.markdown(results))


if __name__ == "__main__":
    main()
