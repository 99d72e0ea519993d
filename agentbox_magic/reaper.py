"""Sweeps what a crash left on an engine: only what is ours, and only what provably belongs to nobody any more.

Boxes end with their pipe, so there is nothing to sweep unless the engine itself died while it held them.
"""

from __future__ import annotations

import os

from agentbox_magic import hardening, owner
from agentbox_magic.engine import Engine
from agentbox_magic.errors import SandboxError

_swept: set[tuple[int, int]] = set()


def sweep(engine: Engine) -> list[str]:
    """Remove boxes whose owner is dead; their ids.

    Detached boxes belong to nobody from the start: their lifetime is theirs, and they stay.
    """
    removed = []
    for box in engine.containers(f"{hardening.LABEL}=sandbox"):
        labels, container = box["Labels"], box["Id"]
        whose = labels.get(hardening.OWNER, "")
        if owner.is_gone(whose):
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
