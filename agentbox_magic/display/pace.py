"""What a run shows, at the pace that a page can take.

jupyter_server cuts a kernel off that sends more than 1,000 messages a second. Code that shows its progress may clear
and update its displays a hundred times as often: of what the page could not take, only the latest state is shown.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

BURST = 200
"""Messages that are sent at once."""
RATE = 100
"""Messages a second, after that."""
REST_SECONDS = 0.05
"""How long to wait when no more may be sent, at least."""

Act = Callable[[], object]


class Pacer:
    """The displays of a run, in order. What is given is done at once, or later, or never if what came after it has
    taken its place on the page. Everything is done in the thread that calls.

    >>> pacer, seen = Pacer(burst=1), []
    >>> for state in range(5):
    ...     pacer.show("progress", lambda state=state: seen.append(state))
    >>> pacer.finish()
    >>> seen
    [0, 4]
    """

    def __init__(self, burst: int = BURST, rate: float = RATE) -> None:
        self._burst = burst
        self._rate = rate
        self._credit = float(burst)
        self._counted = time.monotonic()
        # Each with the name of the display that it is a state of, and whether it is a clear that waits for the next.
        self._waiting: deque[tuple[str | None, bool, Act]] = deque()

    def show(self, name: str | None, act: Act) -> None:
        """A display, or a later state of the one with that name."""
        self._settle()
        if name is not None:
            for place, (other, _, _) in enumerate(self._waiting):
                if other == name:
                    self._waiting[place] = name, False, act
                    return
        self._waiting.append((name, False, act))
        self.flush()

    def write(self, act: Act) -> None:
        """Text, which costs nothing: the kernel itself gathers it."""
        self._settle()
        if self._waiting:
            self._waiting.append((None, False, act))
        else:
            act()

    def clear(self, wait: bool, act: Act) -> None:
        """Clear what is there, at once or as soon as something follows."""
        if not wait:
            self._waiting.clear()
        elif self._waiting and self._waiting[-1][1]:
            return
        self._waiting.append((None, wait, act))
        self.flush()

    def _settle(self) -> None:
        """Something follows: what waits before a clear is never seen."""
        if self._waiting and self._waiting[-1][1]:
            self._waiting = deque([self._waiting[-1]])

    def flush(self) -> float | None:
        """Do what may be done now; the seconds until more may be, or None if nothing waits."""
        now = time.monotonic()
        self._credit = min(self._burst, self._credit + (now - self._counted) * self._rate)
        self._counted = now
        while self._waiting and self._credit >= 1:
            self._credit -= 1
            self._waiting.popleft()[2]()
        return REST_SECONDS if self._waiting else None

    def finish(self) -> None:
        """Do what is left: the run is over."""
        while self._waiting:
            self._waiting.popleft()[2]()
