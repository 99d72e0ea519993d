"""This machine's own disk, when it takes nothing: which path, why, and what to do, as one of our errors."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from agentbox_magic.errors import SandboxError

_WHY = {
    errno.ENOSPC: "no space left on this machine",
    errno.EDQUOT: "the quota on this machine is used up",
    errno.EROFS: "the file system on this machine is read-only",
    errno.EACCES: "no permission on this machine",
    errno.EIO: "the disk of this machine fails",
}


@contextlib.contextmanager
def written(where: str | os.PathLike[str], then: str, error: type[SandboxError] = SandboxError) -> Iterator[None]:
    """Around what writes at or below a path of this machine, and speaks with no box.

    Args:
        where: the path.
        then: what to do about it.
        error: what to raise.
    """
    try:
        yield
    except OSError as caught:
        if not is_to_blame(caught):
            raise
        raise error(f"{where} cannot be written: {_WHY[caught.errno or 0]}; {then}") from caught


def is_to_blame(error: BaseException) -> bool:
    """Whether an error is about the disk, and not about a name or what is there."""
    return isinstance(error, OSError) and error.errno in _WHY


def said_so(line: str) -> bool:
    """Whether a program's complaint is about the disk."""
    return any(os.strerror(number) in line for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS))
