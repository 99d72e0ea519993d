"""The last will of a process: what it had created and not yet started when it was killed is removed all the same.

A box ends with its pipe; a container that has never been started has no pipe to end with. So at the first use of an
engine a shell is started (a megabyte, in a session of its own) that waits for the end of a pipe which nobody but this
process holds. However the process ends, its end of that pipe is closed; then the shell becomes
:mod:`agentbox_magic.reaper`. At a normal end it is told that there is nothing to do.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

from agentbox_magic import owner
from agentbox_magic.endpoint import Endpoint

_WAIT = 'exec 3<&0 </dev/null; { read -r line <&3 || exec "$@" 3<&-; } &'
"""``read`` fails at the end of the pipe. In the background of a shell that ends at once, so that it is no child of
ours: nobody would wait for it."""

_lock = threading.Lock()
_pipes: dict[Endpoint, int] = {}
_under_way = 0


@contextlib.contextmanager
def in_force(where: Endpoint) -> Iterator[None]:
    """For as long as a container may exist that has not been started: if this process dies meanwhile, it is removed."""
    global _under_way
    with _lock:
        hear = None
        if where not in _pipes:
            hear, _pipes[where] = os.pipe()
        _under_way += 1
    try:
        if hear is not None:  # beside the engine's work, which takes longer
            threading.Thread(target=_leave, args=(where, hear), name="agentbox-will", daemon=True).start()
        yield
    finally:
        with _lock:
            _under_way -= 1


def insist() -> None:
    """Have it executed at a normal end too: something may yet appear that nobody waits for."""
    global _under_way
    with _lock:
        _under_way += 1


def _leave(where: Endpoint, hear: int) -> None:
    command = [sys.executable, "-m", "agentbox_magic.reaper", owner.current()]
    with contextlib.suppress(OSError):  # then the next process sweeps
        subprocess.run(
            ["/bin/sh", "-c", _WAIT, "sh", *command],
            stdin=hear, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, **where.environment()},
            start_new_session=True,  # a terminal's Ctrl-C, and its end, are not for it
            check=False,
        )  # fmt: skip
    os.close(hear)


def _revoke() -> None:
    """At a normal end, unless a thread is in the middle of something."""
    with _lock:
        for tell in _pipes.values() if not _under_way else ():
            with contextlib.suppress(OSError):  # somebody has killed it
                os.write(tell, b"\n")


def _after_fork() -> None:
    """In a fork: the pipes are the parent's, and would not end while the fork held them."""
    global _under_way
    for tell in _pipes.values():
        os.close(tell)
    _pipes.clear()
    _under_way = 0
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)
atexit.register(_revoke)
