"""The supervisor's side of the processes it forks: their pipes and sockets, their birth and their end."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from agent_executor import wire
from agent_executor.runs import Run
from agent_executor.wire import Header
from agent_executor.zygote import CUT_OFF

PIPE_SIZE = 64 * 1024
"""What a pipe holds, unless somebody changes that (pipe(7))."""
READ_SIZE = 256 * 1024
"""How much is read at once of what carries files."""
DEAF = 64 * 1024 * 1024
"""Bytes waiting for a child above which it is killed, because it does not read its socket."""
CHUNKS = 64
"""How many pieces one system call writes, at most."""
REST_SECONDS = 0.002
FORK_ATTEMPTS = 100
KILL_SECONDS = 5.0
SPARE_SECONDS = 1.0
"""How long processes are killed one by one, to spare the zygote."""
PASSES = 100
"""How often processes are looked for that are to be killed, before those go with them that should stay."""

_buffer = memoryview(bytearray(READ_SIZE))


def read(fd: int) -> bytes:
    """What there is to read, at most :data:`READ_SIZE`; nothing at the end of file. Raises BlockingIOError where there
    is nothing yet: the descriptor must be one that does not block, as that of an :class:`Outbox` is.

    It goes through one buffer, which stays: memory of this size would be mapped anew for every read.
    """
    return bytes(_buffer[: os.readv(fd, [_buffer])])


class Outbox:
    """Bytes on their way to a file descriptor that must never block the loop. It owns the descriptor."""

    def __init__(self, selector: selectors.BaseSelector, fd: int) -> None:
        os.set_blocking(fd, False)
        self._selector = selector
        self._fd = fd
        self._chunks: deque[memoryview] = deque()
        self._watched = False
        self.size = 0

    def put(self, data: bytes) -> None:
        """Take ``data``, for :meth:`flush` to send after what is still waiting."""
        if data:
            self._chunks.append(memoryview(data))
            self.size += len(data)

    def flush(self) -> None:
        """Write what the descriptor takes now. The loop calls again when it takes more."""
        try:
            while self._chunks:
                written = os.writev(self._fd, list(itertools.islice(self._chunks, CHUNKS)))
                self.size -= written
                while self._chunks and written >= len(self._chunks[0]):
                    written -= len(self._chunks.popleft())
                if written:
                    self._chunks[0] = self._chunks[0][written:]
        except BlockingIOError:
            pass
        except OSError:  # nobody reads any more, which is found out by end of file, not here
            self._chunks.clear()
            self.size = 0
        self._watch(bool(self._chunks))

    def _watch(self, watch: bool) -> None:
        if watch and not self._watched:
            self._selector.register(self._fd, selectors.EVENT_WRITE, self.flush)
        elif self._watched and not watch:
            self._selector.unregister(self._fd)
        self._watched = watch

    def close(self) -> None:
        """Close the descriptor; what is waiting is lost."""
        self._chunks.clear()
        self.size = 0
        self._watch(False)
        os.close(self._fd)


class Child:
    """A process of the supervisor's: a context's worker, a command, a file operation, or the connections to a port.

    Attributes:
        kind: ``"worker"``, ``"command"``, ``"files"`` or ``"forward"``.
        pid: 0 for a worker that has been asked for and is not there yet.
        ends: what such a worker is handed: its socket, stdout, stderr.
        unwanted: nobody needs it any more, when it comes.
        context: whose worker it is.
        control: its socket, if it speaks the wire.
        pipes: what it writes to, by name, still open.
        stdin: what it reads, if the host may write to it.
        run: what goes on in it.
        request: what the host asked of it, if it is a file operation or a port, until it is answered.
        input_replies: requests to write to its stdin that have not been answered yet.
        stdin_ends: end of file comes after what is waiting.
        rest_until: when its pipes are looked at again, on the monotonic clock; see :meth:`Children.rest`.
    """

    def __init__(
        self,
        kind: str,
        pid: int,
        selector: selectors.BaseSelector,
        *,
        context: str = "",
        control: socket.socket | None = None,
        pipes: dict[str, int] | None = None,
        stdin: int | None = None,
    ) -> None:
        self.kind = kind
        self.pid = pid
        self.context = context
        self.control = control
        self.pipes = pipes or {}
        self.stdin = None if stdin is None else Outbox(selector, stdin)
        self.decoder = wire.Decoder()
        self.run: Run | None = None
        self.request: int | None = None
        self.input_replies: list[int] = []
        self.stdin_ends = False
        self.ends: list[int] = []
        self.unwanted = False
        self.rest_until: float | None = None
        self._outbox = None if control is None else Outbox(selector, os.dup(control.fileno()))

    @property
    def fds(self) -> list[int]:
        """What the loop reads of it."""
        return [*([] if self.control is None else [self.control.fileno()]), *self.pipes.values()]

    @property
    def waiting(self) -> int:
        """Bytes that it has been sent and has not read."""
        return 0 if self._outbox is None else self._outbox.size

    def send(self, header: Header, payload: bytes = b"") -> None:
        """Send it a message."""
        if self._outbox is not None:
            for frame in wire.encode_message(header, payload):
                self._outbox.put(frame)
            self._outbox.flush()

    def close_stdin(self) -> None:
        """End of file for what it reads."""
        if self.stdin is not None:
            self.stdin.close()
            self.stdin = None

    def close(self) -> None:
        """Close all that is still open to it."""
        self.close_stdin()
        self.close_ends()
        if self._outbox is not None and self.control is not None:
            self._outbox.close()
            self.control.close()
            self._outbox = self.control = None
        for fd in self.pipes.values():
            os.close(fd)
        self.pipes = {}

    def close_ends(self) -> None:
        """It has its own ends now, or will never have them."""
        for fd in self.ends:
            os.close(fd)
        self.ends = []


class Children:
    """All children of the supervisor, in its selector.

    ``on_message`` and ``on_output`` are called when a child's socket, or one of its pipes (by name), can be read.

    Attributes:
        by_pid: those that live, but for the zygote.
        zygote: its pid, which is spared with the children that are; 0 if there is none.
        kills: how often processes have been killed that are no child's.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        on_message: Callable[[Child], None],
        on_output: Callable[[Child, str], None],
    ) -> None:
        self._selector = selector
        self._on_message = on_message
        self._on_output = on_output
        self._reading = True
        self._wake, wake = os.pipe()
        for fd in (self._wake, wake):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler is needed for the wake-up; the loop reaps
        selector.register(self._wake, selectors.EVENT_READ, self.reap)
        self.by_pid: dict[int, Child] = {}
        self.zygote = 0
        self.kills = 0
        self.dead: deque[tuple[int, int]] = deque()

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self.by_pid.values()))

    def prepare(self) -> Child:
        """A worker that is yet to be forked: messages for it may be sent already."""
        ours, theirs = socket.socketpair()
        ends, mine = [theirs.detach()], {}
        try:
            for name in ("stdout", "stderr"):
                mine[name], end = os.pipe()
                ends.append(end)
        except OSError:
            for fd in [*ends, *mine.values()]:
                os.close(fd)
            ours.close()
            raise
        for fd in mine.values():
            os.set_blocking(fd, False)
        child = Child("worker", 0, self._selector, control=ours, pipes=mine)
        child.ends = ends
        return child

    def adopt(self, child: Child, pid: int) -> None:
        """A worker is there."""
        child.pid = pid
        child.close_ends()
        self._add(child)
        if child.unwanted:
            self.kill(child)

    def _add(self, child: Child) -> None:
        self.by_pid[child.pid] = child
        if self._reading:
            self._watch(child)

    def spawn(
        self,
        kind: str,
        become: Callable[[Any, int, int, int], None],
        *,
        executes: bool = False,
        control: bool = False,
        pipes: bool = False,
        stdin: bool = False,
        pty: bool = False,
    ) -> Child:
        """Fork a child with the ends of what it needs; ``become`` runs in it and does not return.

        It is a copy of this process, which holds what others were given: so it is as closed to them, until it
        ``executes`` a program (``become`` is given a descriptor, in the place of a socket, that is to be closed by
        that). Only then can the kernel be told to take it first when memory runs out.
        """
        ours, theirs = socket.socketpair() if control else (None, None)
        hears, tells = os.pipe() if executes else (-1, -1)
        null = os.open(os.devnull, os.O_RDWR)
        ends = {"stdout": null, "stderr": null, "stdin": null}
        mine: dict[str, int] = {}
        try:
            if pty:
                mine["stdout"], slave = os.openpty()
                ends = dict.fromkeys(ends, slave)
                mine["stdin"] = os.dup(mine["stdout"])
            else:
                for name in ("stdout", "stderr") if pipes else ():
                    mine[name], ends[name] = os.pipe()
                if stdin:
                    ends["stdin"], mine["stdin"] = os.pipe()
            pid = self._fork()
        except OSError:
            for fd in {null, *ends.values(), *mine.values(), hears, tells} - {-1}:
                os.close(fd)
            if ours is not None and theirs is not None:
                ours.close()
                theirs.close()
            raise
        if pid == 0:
            try:
                become(tells if executes else theirs, ends["stdout"], ends["stderr"], ends["stdin"])
            finally:
                os._exit(CUT_OFF)  # it never returns
        for fd in {null, *ends.values()}:
            os.close(fd)
        if theirs is not None:
            theirs.close()
        if executes:
            os.close(tells)
            self._selector.register(hears, selectors.EVENT_READ, lambda: self._executed(pid, hears))
        writes = mine.pop("stdin", None)
        for fd in mine.values():
            os.set_blocking(fd, False)
        child = Child(kind, pid, self._selector, control=ours, pipes=mine, stdin=writes)
        self._add(child)
        return child

    def _executed(self, pid: int, hears: int) -> None:
        self._selector.unregister(hears)
        os.close(hears)
        with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w") as file:  # it may have died
            file.write("1000")

    def _fork(self) -> int:
        for _ in range(FORK_ATTEMPTS):
            try:
                return os.fork()
            except BlockingIOError:
                self.make_room()
                time.sleep(0.01)  # the kernel frees their places a moment after they are reaped
        return os.fork()

    def make_room(self) -> None:
        """Kill orphans of earlier code, which leave no room for a process."""
        self._kill_tree(0, set(self.by_pid))
        self.reap()

    def read(self, reading: bool) -> None:
        """Read the children, or leave them be."""
        if reading == self._reading:
            return
        self._reading = reading
        for child in self.by_pid.values():
            self._watch(child) if reading else self.unwatch(child)

    def _watch(self, child: Child) -> None:
        if child.control is not None:
            self._selector.register(child.control, selectors.EVENT_READ, lambda: self._on_message(child))
        for name, fd in child.pipes.items():
            self._watch_pipe(child, name, fd)

    def _watch_pipe(self, child: Child, name: str, fd: int) -> None:
        self._selector.register(fd, selectors.EVENT_READ, lambda: self._on_output(child, name))

    def rest(self, child: Child, name: str) -> None:
        """Look at a pipe no more for a moment: what is being written in small pieces is then read at once."""
        fd = child.pipes.get(name)
        if fd is not None and fd in self._selector.get_map():
            self._selector.unregister(fd)
            child.rest_until = child.rest_until or time.monotonic() + REST_SECONDS

    def wake(self, child: Child) -> None:
        """Look at all its pipes again."""
        child.rest_until = None
        if self._reading:
            for name, fd in child.pipes.items():
                if fd not in self._selector.get_map():
                    self._watch_pipe(child, name, fd)

    def unwatch(self, child: Child) -> None:
        """Do not read a child any more."""
        for fd in child.fds:
            if fd in self._selector.get_map():
                self._selector.unregister(fd)

    def close_pipe(self, child: Child, name: str) -> None:
        """Close a pipe that every writer has closed."""
        fd = child.pipes.pop(name)
        if fd in self._selector.get_map():
            self._selector.unregister(fd)
        os.close(fd)

    def interrupt(self, child: Child) -> None:
        """Signal a child and the processes in its group, as a terminal's Ctrl-C does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGINT)

    def kill(self, child: Child) -> None:
        """Kill a child and all that it started. The loop hears of it by SIGCHLD."""
        if child.pid:
            self._kill_tree(child.pid, set(self.by_pid) - {child.pid})
        else:
            child.unwanted = True

    def kill_rest(self, child: Child) -> None:
        """Kill all that a child started."""
        self._kill_tree(child.pid, set(self.by_pid) - {child.pid}, spare_root=True)

    def kill_all(self, *, spare_zygote: bool) -> None:
        """Kill every process but this one, and the zygote if that is possible in time, and wait until all are dead.
        Raises TimeoutError where one does not die."""
        spared = {self.zygote} if spare_zygote else set()
        now = time.monotonic()
        spare_until, until = now + SPARE_SECONDS, now + KILL_SECONDS
        self.kills += 1
        while True:
            if spared and time.monotonic() > spare_until:  # a fork bomb that is faster
                spared = set()
            if spared:
                kill_each(set(processes()) - spared)
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)  # atomic in the kernel
            self.reap()
            if existing() <= spared:
                return
            if time.monotonic() > until:
                raise TimeoutError(errno.ETIMEDOUT, "a process does not die")
            self._wait_for_death(0.005)

    def _kill_tree(self, root: int, others: set[int], *, spare_root: bool = False) -> None:
        """Kill a child and what it started, and orphans that cannot be told to be another child's.

        A process is a child's if it descends from it or is in its session. One that left both (a daemon) is an orphan
        of nobody: it dies with the first run that must not leave anything behind.
        """
        self.kills += 1
        spared = {*others, self.zygote} - {0}
        for _ in range(PASSES if spared or spare_root else 0):
            found = processes()
            victims = {pid for pid in found if _owner(pid, found, {root, *spared}) not in spared}
            if spare_root:
                victims.discard(root)
            if not victims:
                return
            kill_each(victims)
        if not others and not spare_root:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)  # atomic in the kernel, so no fork bomb outruns it; spares PID 1

    def _wait_for_death(self, seconds: float) -> None:
        select.select([self._wake], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)

    def reap(self) -> None:
        """Note who has died, and with what."""
        self._wait_for_death(0)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self.dead.append((pid, os.waitstatus_to_exitcode(status)))

    def let_go(self, child: Child) -> None:
        """Close what is open to a dead child. What a command started may still write: that is read and dropped until
        it is done, because it would die of a closed pipe."""
        if child.kind == "command":
            pipes, child.pipes = child.pipes, {}
            for fd in pipes.values():
                self._selector.register(fd, selectors.EVENT_READ, lambda fd=fd: self._discard(fd))
        child.close()

    def _discard(self, fd: int) -> None:
        try:
            data = os.read(fd, PIPE_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(fd)
            os.close(fd)


def processes() -> dict[int, tuple[int, int]]:
    """Live processes but PID 1: pid to parent's pid and session."""
    found: dict[int, tuple[int, int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or name == "1":
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            state, parent, _, session = file.read().rpartition(b")")[2].split()[:4]
            if state not in (b"Z", b"X"):
                found[int(name)] = int(parent), int(session)
    return found


def existing() -> set[int]:
    """All processes but PID 1, dead ones too that nobody has reaped."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()} - {1}


def kill_each(pids: set[int]) -> None:
    """Kill processes; stopped first, so that none forks while others die."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _owner(pid: int, found: dict[int, tuple[int, int]], roots: set[int]) -> int:
    """The child that a process belongs to; 0 if it is nobody's."""
    ancestor = pid
    while ancestor in found:
        parent, session = found[ancestor]
        if ancestor in roots:
            return ancestor
        if session in roots:
            return session
        ancestor = parent
    return ancestor if ancestor in roots else 0
