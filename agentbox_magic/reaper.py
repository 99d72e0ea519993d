"""Sweeps what a crash left on an engine: only what is ours, and only what provably belongs to nobody any more.

Boxes end with their pipe. What is left is what was created and not started yet when its owner was killed, and what the
engine held when it died itself. Run as a program, this module executes a process's :mod:`agentbox_magic.will`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time

from agentbox_magic import hardening, owner
from agentbox_magic.engine import Engine
from agentbox_magic.errors import SandboxError

LATE_SECONDS = 5.0
"""How long an engine may take to create a container for a process that is dead."""
LOOK_SECONDS = 0.25

_swept: set[tuple[int, int]] = set()


def sweep(engine: Engine, dead: str | None = None) -> list[str]:
    """Remove boxes whose owner is dead; their ids.

    Detached boxes belong to nobody once they have been started: their lifetime is theirs, and they stay.

    Args:
        engine: where.
        dead: only those of this owner.
    """
    removed = []
    for box in engine.containers(f"{hardening.LABEL}=sandbox"):
        labels, container = box["Labels"], box["Id"]
        whose = labels.get(hardening.OWNER, "")
        if not whose and box["State"] == "created":
            whose = labels.get(hardening.MAKER, "")
        if dead in (None, whose) and owner.is_gone(whose):
            try:
                engine.remove(container)
                removed.append(container)
            except SandboxError:
                continue  # somebody else sweeps too, or the engine is going away
    return removed


def sweep_once(engine: Engine) -> None:
    """:func:`sweep` at this process's first use of an engine."""
    key = os.getpid(), id(engine)
    if key not in _swept:
        _swept.add(key)
        sweep(engine)


def execute(dead: str) -> None:
    """Sweep for one owner, for as long as something of it may yet appear."""
    until = time.monotonic() + LATE_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(SandboxError):
            sweep(Engine.connect(), dead)
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    execute(sys.argv[1])
