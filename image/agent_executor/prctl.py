"""Who may look into this process, and whose parent it becomes."""

from __future__ import annotations

import ctypes

_PR_SET_DUMPABLE = 4  # /usr/include/linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def set_dumpable(value: bool) -> None:
    """Open or close this process to others of the same uid (ptrace, ``/proc/PID/mem``, ``/proc/PID/fd``). A fork is as
    closed as its parent; a program that is executed begins open."""
    if _libc.prctl(_PR_SET_DUMPABLE, int(value), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE) failed")


def adopt_orphans() -> None:
    """Become the parent of descendants whose own has ended, as PID 1 is: workers are such."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")
