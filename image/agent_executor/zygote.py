"""The zygote: the process that workers are forks of. It loads the interpreter once, and never hears what a host says.

All that passes through a box passes through PID 1, so PID 1's memory holds what every context was given, and a fork of
it would too. The zygote splits off before PID 1 reads its first byte. PID 1 hands it the ends of a worker's socket and
pipes, and nothing else; what a worker shall know PID 1 tells it through that socket.

A worker is forked twice: when the process in between has ended, the worker is PID 1's child, for PID 1 to reap.

Code of the same uid cannot look into the zygote, and can kill it. Then PID 1 executes another (:func:`main`): a fork of
PID 1 would know too much.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import struct
import sys
from typing import Any, NoReturn

from agent_executor.prctl import set_dumpable

ANSWER = struct.Struct("!ii")
"""What it says: a pid and an errno, one of which is 0. The first time, when all is loaded, both or ``SHARES``."""
SHARES = 1
"""The errno of a zygote that has memory which the forks of it would share with each other."""
REQUEST_BYTES = 4096
ENDS = 3
"""A worker's socket, stdout and stderr."""
CUT_OFF = 117
"""The exit code of a worker that could not go on: its code closed what it needs."""
OOM_SCORE = b"600"
"""When memory runs out the kernel takes the worker (1000) first and PID 1 (500) last."""


def split(preload: list[str]) -> tuple[int, socket.socket]:
    """Fork the zygote of a new box: its pid, and PID 1's end of the socket between them."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _serve(theirs, preload, sys.path)
    theirs.close()
    return pid, ours


def execute(sock: socket.socket, *, alone: bool) -> int:
    """Execute a zygote anew, which shares nothing with this process; its pid.

    Args:
        sock: its end of the socket to this process.
        alone: nothing else runs in the box, and it is as empty as a new one. Otherwise whatever files code may have
            left are kept away from the new interpreter.
    """
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")
    flags = [] if alone else ["-I", "-B", "-u"]
    null = os.open(os.devnull, os.O_RDWR)
    at = os.open(".", os.O_PATH | os.O_DIRECTORY)  # which may have been removed
    os.set_inheritable(sock.fileno(), True)
    try:
        os.chdir("/")  # where an interpreter looks for modules first
        # By a vfork: at no time does it run anything in a copy of this process.
        return os.posix_spawn(
            sys.executable,
            [sys.executable, *flags, program, "zygote", str(sock.fileno())],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)],
        )
    finally:
        os.set_inheritable(sock.fileno(), False)
        os.fchdir(at)
        os.close(at)
        os.close(null)


def main(fd: int) -> NoReturn:
    """What :func:`execute` executes. The first message says what to load, and from where."""
    control = socket.socket(fileno=fd)
    wish: dict[str, Any] = json.loads(control.recv(64 * 1024))
    sys.path[:] = wish["safe_path"]
    with contextlib.suppress(OSError):  # which code may have removed
        os.chdir(wish["cwd"])
    _serve(control, wish["preload"], wish["path"])


def _serve(control: socket.socket, preload: list[str], path: list[str]) -> NoReturn:
    """Load, say so, and fork a worker for each request until PID 1 has gone."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
        file.write(OOM_SCORE)
    set_dumpable(False)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):  # a host's pipe, before the split
        os.dup2(null, fd)
    os.close(null)
    sys.argv[1:] = []  # what is asked of PID 1 is not the code's
    from agent_executor import worker

    worker.preload(preload)
    sys.path[:] = path
    os.chdir("/")
    # A process in between tells the worker's pid here; it has ended before anybody listens.
    hear, tell = os.pipe()
    os.set_blocking(hear, False)
    control.sendall(ANSWER.pack(0, SHARES if _shares() else 0))
    while True:
        request, ends, _, _ = socket.recv_fds(control, REQUEST_BYTES, ENDS)
        if not request:
            os._exit(0)
        try:
            answer = _fork(json.loads(request)["language"], ends, hear, tell)
        except OSError as error:
            answer = ANSWER.pack(0, error.errno or errno.EAGAIN)
        for fd in ends:
            os.close(fd)
        control.sendall(answer)


def _shares() -> bool:
    """Whether something that was loaded has memory that stays shared after a fork: through that a worker could change
    what later ones begin with."""
    with open("/proc/self/maps") as file:
        return any(line.split()[1][1::2] == "ws" for line in file)


def _fork(language: str, ends: list[int], hear: int, tell: int) -> bytes:
    """Fork a worker that is nobody's child here; the answer to whoever asked. Raises OSError if there is no room for
    another process."""
    between = os.fork()
    if between == 0:
        try:
            pid = os.fork()
            if pid == 0:
                _become(language, ends)
            answer = ANSWER.pack(pid, 0)
        except OSError as error:
            answer = ANSWER.pack(0, error.errno or errno.EAGAIN)
        os.write(tell, answer)
        os._exit(0)
    os.waitpid(between, 0)
    try:
        return os.read(hear, ANSWER.size)
    except BlockingIOError:  # it was killed, and there may be a worker that nobody knows
        return ANSWER.pack(0, errno.ECANCELED)


def _become(language: str, ends: list[int]) -> NoReturn:
    try:
        from agent_executor import worker

        control, stdout, stderr = ends
        worker.serve(socket.socket(fileno=control), stdout, stderr, language=language)
    finally:
        os._exit(CUT_OFF)  # it never returns
