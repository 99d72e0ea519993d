"""Rounds that are interleaved, so that a slow moment of the machine falls on every row; medians and quartiles."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field


def nothing(*_: object) -> None:
    """For a row without a before or an after."""


@dataclass
class Row:
    """Something that is timed.

    Attributes:
        name: what it is.
        action: what is timed.
        prepare: done before each time, and not timed.
        after: likewise, with what the action gave.
        whole: the name of a second row, which is the action and what comes after it.
        burst: how often in one round.
        every: in which rounds: every so many.
        failed: told why the row is left out; without it, a failure is the end of all.
        times: seconds.
        whole_times: likewise, of the second row.
    """

    name: str
    action: Callable[[], object]
    prepare: Callable[[], object] = nothing
    after: Callable[[object], object] = nothing
    whole: str = ""
    burst: int = 1
    every: int = 1
    failed: Callable[[Exception], object] | None = None
    times: list[float] = field(default_factory=list)
    whole_times: list[float] = field(default_factory=list)

    def run(self) -> None:
        for _ in range(self.burst):
            self.prepare()
            start = time.perf_counter()
            result = self.action()
            self.times.append(time.perf_counter() - start)
            self.after(result)
            self.whole_times.append(time.perf_counter() - start)


@dataclass(frozen=True)
class Figure:
    """What a row gave: seconds, or how many a second."""

    median: float
    low: float
    high: float
    count: int


def figure(values: list[float]) -> Figure:
    """Median and quartiles.

    >>> figure([1.0, 2.0, 3.0, 4.0, 5.0])
    Figure(median=3.0, low=2.0, high=4.0, count=5)
    """
    if len(values) < 2:
        return Figure(values[0], values[0], values[0], len(values))
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(middle, low, high, len(values))


def measure(rows: list[Row], rounds: int) -> dict[str, Figure]:
    """Time all rows, taking turns. One round before them is not counted: it fills caches for everybody."""
    rows = list(rows)
    for number in range(-1, rounds):
        for row in list(rows):
            if number % row.every == 0 or number < 0:
                try:
                    row.run()
                except Exception as error:
                    if row.failed is None:
                        raise
                    row.failed(error)
                    rows.remove(row)
        if number < 0:
            for row in rows:
                row.times.clear()
                row.whole_times.clear()
    found = {}
    for row in rows:
        found[row.name] = figure(row.times)
        if row.whole:
            found[row.whole] = figure(row.whole_times)
    return found
