"""What a user may set for the whole process."""

from __future__ import annotations

import os
import re

from agentbox_magic.errors import SandboxError

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


def uid_range() -> range | None:
    """The users that boxes may be, as ``AGENTBOX_UIDS`` says; None where it says nothing.

    Raises:
        SandboxError: it says something else.
    """
    text = os.environ.get("AGENTBOX_UIDS", "").strip()
    if not text:
        return None
    match = re.fullmatch(r"([0-9]{1,10})-([0-9]{1,10})", text)
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 0 < first <= last < 2**32 - 1:
        raise SandboxError(
            f"AGENTBOX_UIDS is {text[:40]!r}; give the first and the last user that boxes may be, such as 65536-99999"
        )
    return range(first, last + 1)
