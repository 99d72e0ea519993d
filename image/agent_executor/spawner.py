"""PID 1's end of the zygote: asks it for workers, one at a time, and has another one where it died or is silent.

What it says is checked, as everything is that comes from a process of this uid: the zygote of a new box is what it was,
but one that was executed while code ran may be anything.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from agent_executor import fresh, zygote
from agent_executor.children import Child, Children

LOAD_SECONDS = 60.0
"""How long a zygote that was executed may load."""
FORK_SECONDS = 5.0
"""How long the fork of a worker may take."""
ROOM_ATTEMPTS = 100
ROOM_SECONDS = 0.01
"""From one attempt to the next where there is no room for a process; the dead leave theirs a moment after they died."""


class Spawner:
    """The zygote as the loop sees it. It is started when it is needed, but for that of a new box.

    Args:
        first: pid and socket of the zygote of a new box.
        preload: the modules that it loads.
        path: where code finds its modules.
        cwd: where a zygote loads.
        on_loaded: called when a zygote has loaded.
        on_worker: called with a worker that has its pid now.
        on_failure: called with one that there will never be, and why.

    Attributes:
        pid: the zygote's; 0 if there is none.
        is_loaded: it forks workers.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        children: Children,
        first: tuple[int, socket.socket],
        *,
        preload: list[str],
        path: list[str],
        cwd: str,
        on_loaded: Callable[[], None],
        on_worker: Callable[[Child], None],
        on_failure: Callable[[Child, OSError], None],
    ) -> None:
        self._selector = selector
        self._children = children
        self._preload = preload
        self._path = path
        self._cwd = cwd
        self._on_loaded = on_loaded
        self._on_worker = on_worker
        self._on_failure = on_failure
        self._waiting: deque[tuple[Child, str]] = deque()
        self._asked: tuple[Child, str] | None = None
        self._attempts = 0
        self._kills = 0
        self._until: float | None = None
        self._not_before: float | None = None
        self.is_loaded = self._has_loaded = False
        self._is_clean = True
        self._standing: dict[str, Any] = {}
        self._at_exec: socket.socket | None = None
        self._socket: socket.socket | None
        self.pid, self._socket = first
        self._listen()

    def _listen(self) -> None:
        assert self._socket is not None
        self._socket.setblocking(False)
        self._selector.register(self._socket, selectors.EVENT_READ, self._read)
        self._children.zygote = self.pid

    # -- workers ------------------------------------------------------------------------------------------------------

    def ask(self, child: Child, language: str) -> None:
        """Have a worker forked, when the loop comes to :meth:`advance`."""
        self._waiting.append((child, language))

    def next_event(self) -> float | None:
        """When :meth:`advance` must be called again, on the monotonic clock."""
        times = [moment for moment in (self._until, self._not_before) if moment is not None]
        if self._waiting and not times:
            return time.monotonic()
        return min(times, default=None)

    def advance(self) -> None:
        """Ask for the next worker, if there is one to ask for; give up on a zygote that is silent."""
        now = time.monotonic()
        if self._until is not None and now >= self._until:
            self.lose()
        if self._not_before is not None and now < self._not_before:
            return
        self._not_before = None
        if not self._waiting or self._asked:
            return
        try:
            if not self.pid:
                self.renew()
                self.load(alone=False)
            if self.is_loaded:
                self._send()
        except OSError as error:
            self._answer(error)

    def _send(self) -> None:
        assert self._socket is not None
        self._asked = child, language = self._waiting.popleft()
        self._until = time.monotonic() + FORK_SECONDS
        self._kills = self._children.kills
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)  # code may have stopped it
        try:
            socket.send_fds(self._socket, [json.dumps({"language": language}).encode()], child.ends)
        except OSError:  # it has died
            self.lose()

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(zygote.ANSWER.size)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if len(data) < zygote.ANSWER.size:
            self.lose()
            return
        pid, code = zygote.ANSWER.unpack(data)
        self._until = None
        if not self.is_loaded:
            self.is_loaded = self._has_loaded = True
            self._is_clean &= code == 0
            self._standing = fresh.standing_of(self.pid)
            self._on_loaded()
        elif self._asked is None:
            self.lose()
            return
        elif pid:
            self._arrive(pid)
        elif code in (errno.EAGAIN, errno.ENOMEM) and self._attempts < ROOM_ATTEMPTS:
            # Where orphans of earlier code leave no room for a process, they are killed first.
            self._attempts += 1
            self._waiting.appendleft(self._asked)
            self._asked = None
            self._children.make_room()
            self._not_before = time.monotonic() + ROOM_SECONDS
        else:
            self._answer(OSError(code, os.strerror(code)))

    def _arrive(self, pid: int) -> None:
        """A worker is there, if it lives and is ours, and nothing was killed meanwhile that it may have been among."""
        assert self._asked is not None
        child = self._asked[0]
        try:
            dead = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            dead = True
        if dead or pid in self._children.by_pid or pid == self.pid or self._kills != self._children.kills:
            child.close()  # which ends it
            self._answer(OSError(errno.ECANCELED, "it was killed"))
            return
        self._asked, self._attempts = None, 0
        self._children.adopt(child, pid)
        self._on_worker(child)

    def _answer(self, error: OSError) -> None:
        """There will be no such worker."""
        child = (self._asked or self._waiting.popleft())[0]
        self._asked, self._attempts = None, 0
        child.close()
        self._on_failure(child, error)

    # -- the zygote ---------------------------------------------------------------------------------------------------

    def lose(self, *, is_dead: bool = False) -> None:
        """It has died, or shall: code killed or stopped it, or the kernel had no more memory."""
        if not self._has_loaded:
            os._exit(1)  # it has said on stderr why the box cannot start
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None
        if self.pid and not is_dead:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        was_loaded, self.is_loaded = self.is_loaded, False
        self.pid = self._children.zygote = 0
        self._until = None
        if self._asked or (self._waiting and not was_loaded):  # a worker that nobody knows may have those ends
            self._answer(OSError(errno.ECANCELED, "the process that forks workers was killed"))

    def renew(self) -> None:
        """The socket to another zygote, which :meth:`load` executes."""
        self._socket, self._at_exec = socket.socketpair()

    def load(self, *, alone: bool) -> None:
        """Execute it; ``alone`` as :func:`zygote.execute` has it. Raises OSError."""
        assert self._socket is not None
        assert self._at_exec is not None
        wish = {"preload": self._preload, "path": self._path, "safe_path": sys.path, "cwd": self._cwd}
        try:
            self.pid = zygote.execute(self._at_exec, alone=alone)
        except OSError:
            self._socket.close()
            self._socket = None
            raise
        finally:
            self._at_exec.close()
            self._at_exec = None
        self._is_clean = alone
        self._until = time.monotonic() + LOAD_SECONDS
        self._socket.sendall(json.dumps(wish).encode())
        self._listen()

    def forget_workers(self) -> None:
        """Nobody wants those that were asked for."""
        for child, _ in self._waiting:
            child.close()
        self._waiting.clear()
        if self._asked:
            self._asked[0].close()
            self._asked = None
            self.lose()

    def is_as_new(self) -> bool:
        """Whether the zygote is what it was when it had loaded, in a box where no code had run yet."""
        if not (self.pid and self.is_loaded and self._is_clean) or self._asked:
            return False
        try:
            return fresh.standing_of(self.pid) == self._standing
        except OSError:
            return False
