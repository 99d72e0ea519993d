"""The process that shares a detached box's pipe."""

from __future__ import annotations

import psutil

from agentbox_magic import Sandbox


def relay_of(box: Sandbox) -> psutil.Process:
    """The relay of a box."""
    (found,) = relays(box.sandbox_id)
    return found


def relays(sandbox_id: str) -> list[psutil.Process]:
    """The relays that there are for a box: none, or one."""
    return [
        process for process in psutil.process_iter() if _command(process)[-2:] == ["agentbox_magic.relay", sandbox_id]
    ]


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
