"""Directories, and programs that work in them, that end with this process, however it ends.

A shell beside this process (a session of its own, no child of ours, 0.2 MiB) is told of each before it is there, and
when it is gone. However this process ends, its end of the pipe between them is closed; then the shell ends what is
left. Directories on other file systems below them are not entered.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_WATCH = """
exec 3<&0 </dev/null
{
  while IFS= read -r line <&3; do
    what=${line#?}
    case $line in
      +*) set -- "$@" "$what" ;;
      -*) for one; do shift; [ "$one" = "$what" ] || set -- "$@" "$one"; done ;;
    esac
  done
  exec 3<&-
  for round in 1 2 3 4 5 6 7 8 9 10; do  # a program may be in the middle of making a file
    [ $# = 0 ] && break
    for one; do
      case $one in
        /*) rm -rf --one-file-system -- "$one" ;;
        *) kill -s KILL -- "-$one" ;;
      esac
    done
    sleep 0.3
  done
} &
"""
"""In the background of a shell that ends at once, so that it is no child of ours: nobody would wait for it."""

_lock = threading.Lock()
_tell: int | None = None


@contextlib.contextmanager
def folder(beside: Path | None = None) -> Iterator[Path]:
    """A new directory, removed at the end with all that is in it.

    Args:
        beside: the directory it is to be in, hidden there; the one for temporary files if None.
    """
    parent = Path(tempfile.gettempdir() if beside is None else beside).absolute()
    path = parent / f"{'' if beside is None else '.'}agentbox-{os.urandom(8).hex()}"
    with _watched(str(path)):
        path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            shutil.rmtree(path, onerror=_allow)


@contextlib.contextmanager
def program(process: subprocess.Popen[str]) -> Iterator[None]:
    """For as long as a program runs that leads a process group; what is left of that group is killed at the end."""
    with _watched(str(process.pid)):
        try:
            yield
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                process.wait()


def _allow(function: Callable[..., object], path: str, _: Any) -> None:
    """Remove what its own mode keeps from being removed."""
    with contextlib.suppress(OSError):
        os.chmod(os.path.dirname(path), 0o700)
        os.chmod(path, 0o700)
        function(path)


@contextlib.contextmanager
def _watched(what: str) -> Iterator[None]:
    if "\n" in what:  # the shell reads lines
        yield
        return
    _say(f"+{what}")
    try:
        yield
    finally:
        _say(f"-{what}")


def _say(line: str) -> None:
    global _tell
    with _lock, contextlib.suppress(OSError):  # it cannot be started, or somebody has killed it
        if _tell is None:
            hear, _tell = os.pipe()
            try:
                subprocess.run(
                    ["/bin/sh", "-c", _WATCH], stdin=hear, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    cwd="/", start_new_session=True, check=False,
                )  # fmt: skip
            finally:
                os.close(hear)
        os.write(_tell, os.fsencode(f"{line}\n"))


def _after_fork() -> None:
    """In a fork: the pipe is the parent's, and would not end while the fork held it."""
    global _tell
    if _tell is not None:
        os.close(_tell)
        _tell = None
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)
