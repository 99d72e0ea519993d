"""Waiting for something to become true, with a bound."""

from __future__ import annotations

import time
from collections.abc import Callable


def seconds_until(condition: Callable[[], bool], within: float) -> float:
    """How long it took; fails when it took longer than ``within`` seconds."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < within, f"still not true after {within} s"
        time.sleep(0.02)  # between two looks; the condition decides, not the clock
    return time.monotonic() - start
