"""Rounds that are interleaved, so that a slow moment of the machine falls on every row; medians and quartiles."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Row:
    """Something that is timed.

    Attributes:
        name: what it is.
        action: what is timed.
        prepare: done before each time, and not timed.
        after: likewise, with what the action gave.
        burst: how often in one round.
        every: in which rounds: every so many.
        times: seconds.
    """

    name: str
    action: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    after: Callable[[object], object] = lambda result: None
    burst: int = 1
    every: int = 1
    times: list[float] = field(default_factory=list)

    def run(self) -> None:
        for _ in range(self.burst):
            self.prepare()
            start = time.perf_counter()
            result = self.action()
            self.times.append(time.perf_counter() - start)
            self.after(result)


@dataclass(frozen=True)
class Figure:
    """What a row gave: seconds."""

    median: float
    low: float
    high: float
    count: int


def figure(times: list[float]) -> Figure:
    """Median and quartiles."""
    if len(times) < 2:
        return Figure(times[0], times[0], times[0], len(times))
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
    return Figure(middle, low, high, len(times))


def measure(rows: list[Row], rounds: int) -> dict[str, Figure]:
    """Time all rows, taking turns. One round before them is not counted: it fills caches for everybody."""
    for row in rows:
        row.run()
        row.times.clear()
    for number in range(rounds):
        for row in rows:
            if number % row.every == 0:
                row.run()
    return {row.name: figure(row.times) for row in rows}
