"""Who may look into this process."""

from __future__ import annotations

import ctypes

_PR_SET_DUMPABLE = 4  # /usr/include/linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


def set_dumpable(value: bool) -> None:
    """Open or close this process to others of the same uid (ptrace, ``/proc/PID/mem``, ``/proc/PID/fd``). A fork is as
    closed as its parent; a program that is executed begins open."""
    if _libc.prctl(_PR_SET_DUMPABLE, int(value), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE) failed")
