"""Gives memory back to the machine that the C library keeps for itself.

What boxes send goes through buffers of up to some MiB, in the thread of each box. glibc keeps what they were made of
for the next time: in an area for each thread that ever ran beside others, and the more, the larger a piece of memory
this process ever gave back. Tens of MiB stay that way in a notebook's kernel that uses boxes for some minutes.
"""

from __future__ import annotations

import contextlib
import threading
import time

EVERY_SECONDS = 15.0
"""How often at most: it takes a few milliseconds, and what was given back is mapped anew when it is needed."""

_lock = threading.Lock()
_last = 0.0


def give_back() -> None:
    """Give back what is free, unless that was done lately. With another C library than glibc, nothing."""
    global _last
    if not _lock.acquire(blocking=False):
        return
    try:
        if time.monotonic() - _last < EVERY_SECONDS:
            return
        _last = time.monotonic()
        with contextlib.suppress(OSError, AttributeError, ImportError):  # another C library
            import ctypes

            ctypes.CDLL(None).malloc_trim(0)
    finally:
        _lock.release()
