"""The last will of a process: what it had created and not yet started when it was killed is removed all the same.

A box ends with its pipe; a container that has never been started has no pipe to end with. So at the first use of an
engine a shell is started (a megabyte, in a session of its own) that waits for the end of a pipe which nobody but this
process holds. However the process ends, its end of that pipe is closed; then the shell becomes
:mod:`agentbox_magic.reaper`. At a normal end it is told that there is nothing to do.

While the process lives it removes by itself what it asked for and was never told of (:func:`create`): the engine was
frozen, or the user did not wait, and the container may appear at any time.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from agentbox_magic import owner
from agentbox_magic.endpoint import Endpoint
from agentbox_magic.engine import Engine
from agentbox_magic.errors import EngineUnavailableError, SandboxError

_WAIT = 'exec 3<&0 </dev/null; { read -r line <&3 || exec "$@" 3<&-; } &'
"""``read`` fails at the end of the pipe. In the background of a shell that ends at once, so that it is no child of
ours: nobody would wait for it."""

LATE_SECONDS = 5.0
"""After its first answer, how long an engine may take to create a container that nobody waits for any more."""
GIVE_UP_SECONDS = 600.0
"""For how long an engine that does not answer is asked. What it makes later than that, the next process sweeps."""
PROMPT_SECONDS = 2.0
"""How long a caller that fails waits for the removal: with an engine that answers, nothing is left when it hears."""
LOOK_SECONDS = 0.25

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


def create(engine: Engine, config: dict[str, Any], name: str) -> str | None:
    """:meth:`Engine.create <agentbox_magic.engine.Engine.create>`. Where its answer never comes, because the engine is
    frozen or gone or the user does not wait, the container is removed when it appears."""
    try:
        return engine.create(config, name)
    except SandboxError as error:
        if isinstance(error, EngineUnavailableError):  # anything else is an answer: there is none
            remove_late(engine, name)
        raise
    except BaseException:
        remove_late(engine, name)
        raise


def remove(engine: Engine, container: str) -> None:
    """:meth:`Engine.remove <agentbox_magic.engine.Engine.remove>`, now or as soon as the engine answers: for what
    nobody will ever use."""
    try:
        engine.remove(container)
    except BaseException as error:
        remove_late(engine, container)
        if not isinstance(error, SandboxError):
            raise


def remove_late(engine: Engine, name: str) -> None:
    """Remove a container whose creation or removal was asked for and never answered, in the background. If this process
    ends meanwhile, with whatever word, its will is executed."""
    global _under_way
    with _lock:
        _under_way += 1
    late = threading.Thread(target=_remove_late, args=(engine, name), name="agentbox-late", daemon=True)
    late.start()
    late.join(PROMPT_SECONDS)


def _remove_late(engine: Engine, name: str) -> None:
    global _under_way
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while time.monotonic() < give_up:
        try:
            if engine.inspect(name):
                engine.remove(name)
                break
        except SandboxError:  # it does not answer
            time.sleep(1)
        else:  # it has not come to it yet
            give_up = min(give_up, time.monotonic() + LATE_SECONDS)
            time.sleep(LOOK_SECONDS)
    with _lock:
        _under_way -= 1


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
