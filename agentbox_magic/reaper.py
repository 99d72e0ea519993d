"""Sweeps what a crash left on an engine: only what is ours, and only what provably belongs to nobody any more.

Boxes end with their pipe. What is left is what was created and not started yet when its owner was killed, and what the
engine held when it died itself. Run as a program, this module executes a process's :mod:`agentbox_magic.will`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time

from agentbox_magic import hardening, owner, relay, will
from agentbox_magic.engine import Engine
from agentbox_magic.errors import SandboxError

_swept: set[tuple[int, int]] = set()


def sweep(engine: Engine, dead: str | None = None) -> list[str]:
    """Remove boxes whose owner is dead; the ids of those that this call has removed, and nobody else meanwhile.

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
            # One that runs has lost its pipe, and is about to end by itself.
            remove = engine.remove if box["State"] == "created" else engine.finish
            with contextlib.suppress(SandboxError):  # the engine is going away
                if remove(container):
                    removed.append(container)
    return removed


def sweep_once(engine: Engine) -> None:
    """:func:`sweep` at this process's first use of an engine."""
    key = os.getpid(), id(engine)
    if key not in _swept:
        _swept.add(key)
        sweep(engine)


def execute(dead: str) -> None:
    """Sweep for one owner: until the engine has answered, and then for as long as something of it may yet appear."""
    until = time.monotonic() + will.GIVE_UP_SECONDS
    found: list[str] | None = None
    while time.monotonic() < until:
        try:
            removed = sweep(Engine.connect(), dead)
        except SandboxError:  # it is frozen, or starts anew
            time.sleep(1)
            continue
        if found is None or removed:  # a hundred that were asked for at once come one after another
            until = time.monotonic() + will.LATE_SECONDS
        found = removed
        time.sleep(will.LOOK_SECONDS)
    with contextlib.suppress(SandboxError, OSError):
        relay.sweep_locks()


if __name__ == "__main__":
    execute(sys.argv[1])
