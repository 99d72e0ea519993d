"""What the displays of one run may cost, all together: the page that shows them, and this process, which makes them
safe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields


@dataclass
class Cost:
    """What is on the page.

    Attributes:
        elements: of HTML.
        characters: of text and HTML.
        pixels: of pictures.
        frames: documents of their own.
        formulas: characters of formulas.
    """

    elements: int = 0
    characters: int = 0
    pixels: int = 0
    frames: int = 0
    formulas: int = 0

    def plus(self, other: Cost, sign: int = 1) -> Cost:
        """The sum; with ``sign`` -1, the difference."""
        return Cost(*(one + sign * two for one, two in zip(astuple(self), astuple(other), strict=True)))


MOST = Cost(elements=100_000, characters=8 * 2**20, pixels=100_000_000, frames=100, formulas=16 * 1024)
SECONDS = 30.0
"""For making all displays of a run safe."""
_NAMES = {
    "elements": "elements of HTML", "characters": "characters", "pixels": "pixels", "frames": "frames",
    "formulas": "characters of formulas",
}  # fmt: skip


class Budget:
    """Counts the displays of one run. One that takes the place of an earlier one costs what it has more.

    >>> budget = Budget()
    >>> budget.take(None, Cost(frames=60)), budget.take("a", Cost(frames=30)), budget.take("b", Cost(frames=30))
    ('', '', 'the displays of this run have more than 100 frames')
    """

    def __init__(self) -> None:
        self._spent = Cost()
        self._named: dict[str, Cost] = {}
        self.seconds = SECONDS

    def begin(self, name: str | None) -> None:
        """A display of this name, which takes the place of what had it."""
        if name is not None:
            self._spent = self._spent.plus(self._named.pop(name, Cost()), -1)

    def take(self, name: str | None, cost: Cost) -> str:
        """Count a part of a display; why not, where there is no room for it."""
        total = self._spent.plus(cost)
        for one in fields(Cost):
            most = getattr(MOST, one.name)
            if getattr(total, one.name) > most:
                return f"the displays of this run have more than {most:,} {_NAMES[one.name]}"
        self._spent = total
        if name is not None:
            self._named[name] = self._named.get(name, Cost()).plus(cost)
        return ""

    def clear(self) -> None:
        """The output was cleared."""
        self._spent = Cost()
        self._named.clear()

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Count the time that this takes."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds = max(0.0, self.seconds - (time.monotonic() - start))
