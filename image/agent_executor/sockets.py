"""What the sockets of this box hold in the kernel's memory, which no cgroup counts on most machines.

Version 1 of cgroups charges a box with its sockets, but not with the data in them, and version 2 not with that of
connections that nobody has accepted. So PID 1 looks, and ends the code whose sockets hold more than a part of the box's
memory. The kernel tells how many sockets this network namespace has, and what all those of the machine hold together;
as long as that is little, no more is asked. Otherwise the tables of this namespace tell which of its sockets hold
something, and each of these counts with all that its buffers may take: what they do take is not told here.

Sources: https://man7.org/linux/man-pages/man5/proc_pid_net.5.html and net/ipv4/proc.c, tcp_ipv4.c, udp.c of Linux.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

from agent_executor.cgroup import Cgroup

LOOK_SECONDS = 0.02
"""From one look to the next, once code has run: a processor fills 20 to 40 MiB of buffers in this time. Also while no
run is under way, because what code left may go on."""
NICE = 10
"""How far code steps back behind PID 1, so that a look is not late however many processes fill buffers. It concerns
these two alone: against the rest of the machine a box has its share, whatever goes on in it."""
SHARE = 4
"""The part of a box's memory that its sockets may hold: one by so many."""
_LEAST = 16 * 1024 * 1024
"""That part of the smallest box."""
_SOCKET = 4096
"""What a socket takes that holds nothing, with a margin: one that was never accepted, or is closing, is charged to
nobody."""
_SEGMENT = 65536
"""What the kernel may put into a buffer beyond its size: a last segment."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LISTENS = b"0A"  # include/net/tcp_states.h


def _open(name: str) -> int | None:
    try:
        return os.open(f"/proc/net/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # a kernel without IPv6, or gVisor's, which counts by itself
        return None


class Sockets:
    """The sockets of this network namespace. The counters stay open, so that a look costs microseconds."""

    def __init__(self, cgroup: Cgroup) -> None:
        self._cgroup = cgroup
        self._counters = [fd for fd in map(_open, ("sockstat", "sockstat6")) if fd is not None]
        self._next: float | None = None
        self._most = 0
        self._harmless: list[bytes] = []

    def next_look(self, running: bool) -> float | None:
        """When to look next, on the monotonic clock; None before any code has run."""
        if running and self._next is None:
            self._next = time.monotonic()
        return self._next if self._counters else None

    def forget(self) -> None:
        """No code is left here."""
        self._next = None

    def are_too_full(self, running: bool) -> bool:
        """Look, if it is time to: whether they hold more than they may."""
        due = self.next_look(running)
        if due is None or time.monotonic() < due:
            return False
        began = time.thread_time()
        full = self._look()
        # A long table takes its time: it must not take the processor.
        pause = max(LOOK_SECONDS, 4 * (time.thread_time() - began))
        self._next = time.monotonic() + pause
        return full

    def _look(self) -> bool:
        tables = [os.pread(fd, 4096, 0) for fd in self._counters]
        if tables == self._harmless:  # as a box at rest nearly always finds it
            return False
        counts: dict[bytes, int] = {}
        for table in tables:
            for line in table.splitlines():
                kind, *words = line.split()
                counts.update({kind + name: int(count) for name, count in zip(words[::2], words[1::2])})
        number = sum(
            counts.get(name, 0) for name in (b"TCP:inuse", b"TCP:tw", b"TCP6:inuse", b"UDP:inuse", b"UDP6:inuse")
        )
        own = number * _SOCKET + counts.get(b"FRAG:memory", 0) + counts.get(b"FRAG6:memory", 0)
        everybodys = _PAGE * (counts.get(b"TCP:mem", 0) + counts.get(b"UDP:mem", 0))
        # Each step costs more than the one before, and is taken where that is not enough to tell.
        if own + everybodys <= _LEAST:
            self._harmless = tables
            return False
        left = self._cgroup.memory_limit() // SHARE - own
        self._most = self._most or _most()
        return everybodys > left and number * self._most > left and _buffers(left) > left


def _most() -> int:
    """The most that one socket's buffers take."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        whole = udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) + _SEGMENT
    return max(whole, _largest("tcp_wmem") + 2 * _largest("tcp_rmem"))


def _buffers(enough: int) -> int:
    """What the buffers of this namespace's sockets may hold, of those that hold something; no more is counted than is
    enough."""
    sends, receives = _largest("tcp_wmem"), _largest("tcp_rmem")
    total = 0
    for name in ("udp", "tcp", "udp6", "tcp6"):
        for line in _lines(name):
            words = line.split(None, 5)
            out, _, waiting = words[4].partition(b":")
            if name.startswith("udp"):  # in bytes of the kernel's memory
                total += int(out, 16) + int(waiting, 16)
            elif words[3] != _LISTENS:  # in bytes of data; what was sent may lie out of order at its receiver
                total += (sends + receives) * (int(out, 16) > 0) + receives * (int(waiting, 16) > 0)
            if total > enough:
                return total
    return total


def _lines(name: str) -> Iterator[bytes]:
    """The lines of a table, less its head."""
    try:
        with open(f"/proc/net/{name}", "rb") as file:
            file.readline()
            yield from file
    except OSError:
        return


def _largest(name: str) -> int:
    with open(f"/proc/sys/net/ipv4/{name}", "rb") as file:
        return int(file.read().split()[2]) + _SEGMENT
