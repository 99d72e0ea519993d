"""How long several requests to an engine may take together: each has what is left."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator


class _Local(threading.local):
    until = math.inf


_local = _Local()


@contextlib.contextmanager
def within(seconds: float, *, anew: bool = False) -> Iterator[None]:
    """At most so many seconds for all that the block asks of an engine or of a box that starts, in this thread.

    Args:
        seconds: less, where a block around this one has less left.
        anew: whatever the block around this one has left: to tidy up when its time is over.
    """
    before = _local.until
    wanted = time.monotonic() + seconds
    _local.until = wanted if anew else min(before, wanted)
    try:
        yield
    finally:
        _local.until = before


def left(most: float = math.inf) -> float:
    """The seconds that are left, at most so many; 0 when the time is over."""
    return max(0.0, min(most, _local.until - time.monotonic()))
