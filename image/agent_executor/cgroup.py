"""What the kernel counts for this container, read from its own cgroup (v1 or v2).

Sources: https://docs.kernel.org/admin-guide/cgroup-v2.html and cgroup-v1/memory.html. The container's cgroup is the
root of what it sees, because its cgroup namespace is private.
"""

from __future__ import annotations

import os

_ROOT = "/sys/fs/cgroup"


def _open(*names: str) -> int | None:
    for name in names:
        try:
            return os.open(f"{_ROOT}/{name}", os.O_RDONLY)
        except OSError:
            continue
    return None


def _read(fd: int | None) -> bytes:
    try:
        return b"" if fd is None else os.pread(fd, 4096, 0)
    except OSError:
        return b""


def _number(fd: int | None) -> int | None:
    try:
        return int(_read(fd))
    except ValueError:  # nothing, or "max"
        return None


def _field(fd: int | None, name: bytes) -> int | None:
    words = _read(fd).split()
    try:
        return int(words[words.index(name) + 1])
    except (ValueError, IndexError):
        return None


class Cgroup:
    """The counters of this container. The files stay open, so that a reading costs microseconds.

    A method returns None where the kernel offers no such counter.
    """

    def __init__(self) -> None:
        self._memory = _open("memory.current", "memory/memory.usage_in_bytes")
        self._peak = _open("memory.peak", "memory/memory.max_usage_in_bytes")
        self._limits = [_open("memory.max"), _open("memory/memory.limit_in_bytes")]
        self._oom = _open("memory.events", "memory/memory.oom_control")
        self._cpu_v2 = _open("cpu.stat")
        self._cpu_v1 = _open("cpuacct/cpuacct.usage", "cpu,cpuacct/cpuacct.usage")
        self._pids = _open("pids.current", "pids/pids.current")

    def memory(self) -> int | None:
        """Memory in use now, in bytes, page cache and tmpfs included."""
        return _number(self._memory)

    def memory_peak(self) -> int | None:
        """Highest memory since the container started, in bytes."""
        return _number(self._peak)

    def memory_limit(self) -> int:
        """The memory this container may have, in bytes: its cgroup's limit, or all that the kernel says there is."""
        limits = [number for number in map(_number, self._limits) if number is not None]
        return min([*limits, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")])

    def oom_kills(self) -> int:
        """How many processes the kernel has killed here for memory."""
        return _field(self._oom, b"oom_kill") or 0

    def cpu_seconds(self) -> float | None:
        """CPU time of all processes since the container started, in seconds."""
        if self._cpu_v1 is not None:
            nanoseconds = _number(self._cpu_v1)
            return None if nanoseconds is None else nanoseconds / 1e9
        microseconds = _field(self._cpu_v2, b"usage_usec")
        return None if microseconds is None else microseconds / 1e6

    def pids(self) -> int | None:
        """Processes and threads now."""
        return _number(self._pids)
