"""What a user may set for the whole process."""

from __future__ import annotations

import os

pool: int | None = None
"""How many boxes wait, started, for the next call; None for what ``AGENTBOX_POOL`` says, or 2."""


def pool_size() -> int:
    """The number in force.

    >>> pool_size() >= 0
    True
    """
    if pool is not None:
        return max(0, pool)
    text = os.environ.get("AGENTBOX_POOL", "").strip()
    return int(text) if text.isascii() and text.isdigit() else 2
