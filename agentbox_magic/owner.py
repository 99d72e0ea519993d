"""Who owns a box: a process, named so that it can be told later, and by others, whether it still lives."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path


def _read(path: str) -> str:
    try:
        return Path(path).read_text("ascii", "replace").strip()
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """When a process started, in clock ticks since the boot (proc(5), field 22 of stat); empty if there is none, or if
    it has ended and only its parent has not heard of it."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else ""


@functools.cache
def _place() -> tuple[str, str]:
    """Where pids mean what ours does (host and pid namespace), and since when (the boot)."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{socket.gethostname()}/{namespace}", _read("/proc/sys/kernel/random/boot_id")


def current() -> str:
    """This process, as the label of what it owns: place, boot, pid and start time."""
    place, boot = _place()
    return f"{place} {boot} {os.getpid()} {_start_time(os.getpid())}"


def is_gone(owner: str) -> bool:
    """Whether an owner is provably dead: on this host, and either of an earlier boot, or without its process.

    >>> is_gone(current())
    False

    False if that cannot be known from here.
    """
    parts = owner.split(" ")
    if len(parts) != 4:
        return False
    place, boot, pid, start = parts
    if not boot or not start or not pid.isdigit() or place.split("/")[0] != _place()[0].split("/")[0]:
        return False
    if boot != _place()[1]:
        return True
    return place == _place()[0] and _start_time(int(pid)) != start
