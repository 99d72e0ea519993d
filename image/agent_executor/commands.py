"""A command's process: from the supervisor's fork to the shell that runs the command."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import sys
import termios
from typing import Any, NoReturn

from agent_executor.sockets import NICE


def window(pty: dict[str, Any] | None) -> bytes | None:
    """The size of a terminal, as the kernel takes it. Raises struct.error for what it does not take."""
    return None if pty is None else struct.pack("HHHH", pty["rows"], pty["cols"], 0, 0)


def execute(
    command: str,
    cwd: str | None,
    environment: dict[str, str],
    stdin: int,
    stdout: int,
    stderr: int,
    size: bytes | None,
    keep: int,
) -> NoReturn:
    """Become ``bash -c command`` (or sh's), perhaps in a terminal of that :func:`window`: called in the fresh fork,
    which stays closed to others until then.

    Args:
        keep: a descriptor whose end tells that it has happened; all others are closed at once.
    """
    os.setsid()  # a session of its own: whatever it starts can be told to be its
    if size is not None:
        fcntl.ioctl(stdout, termios.TIOCSCTTY, 0)
        fcntl.ioctl(stdout, termios.TIOCSWINSZ, size)
    for source, target in ((stdin, 0), (stdout, 1), (stderr, 2)):
        os.dup2(source, target)
    os.closerange(3, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    os.nice(NICE)
    if cwd is not None:
        try:
            os.chdir(cwd)
        except OSError as error:
            print(f"cannot change to {cwd}: {error.strerror}", file=sys.stderr, flush=True)
            os._exit(126)
    shell = bash() or "/bin/sh"
    try:
        os.execve(shell, [shell, "-c", command], environment)  # noqa: S606  # that is what a command is
    except OSError as error:  # the command or its environment is longer than the kernel takes
        print(f"cannot start {shell}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(126)


def bash() -> str | None:
    """Where bash is, in an image that has it. (shutil.which takes 3 ms to load, which every box would wait for.)"""
    paths = (os.path.join(folder, "bash") for folder in os.get_exec_path())
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)
