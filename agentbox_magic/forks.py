"""What a fork of this process must not do: speak into the pipes of its parent's boxes, or end them.

A fork has copies of the parent's descriptors and of its objects, and none of its threads. So it lets go of the copies
at once, and whatever it asks of a box of its parent's is an error, in the fork alone.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from agentbox_magic.errors import SandboxError


class Shared(Protocol):
    """What is one process's alone."""

    def abandon(self) -> None:
        """In a fork: let go of it. No lock may be taken, because another thread of the parent's may have held it."""


_shared: weakref.WeakSet[Shared] = weakref.WeakSet()


def let_go(one: Shared) -> None:
    """Have every fork of this process let go of something."""
    _shared.add(one)


def check(owner: int) -> None:
    """Raises SandboxError in any process but the one with this pid."""
    if os.getpid() != owner:
        raise SandboxError(f"this sandbox belongs to process {owner}, and this is a fork of it; create one here")


def _after_fork() -> None:
    for one in list(_shared):
        one.abandon()
    _shared.clear()


os.register_at_fork(after_in_child=_after_fork)
