"""A box made new again: all that its code could leave is taken away, and then it is looked whether something is left.

PID 1 goes on, and the zygote where it is what it was. What cannot be undone is named, and the host throws such a box
away.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

SKELETON = "/opt/agentbox/skel"
"""Files of the image that a box wants writable; copied to ``$HOME`` at the start."""
ACCOUNTS = "/opt/agentbox/etc"
"""The image's lists of users and groups, from before they became links into ``/tmp``."""
USER = "sandbox"
KERNEL = frozenset({"proc", "sysfs", "cgroup", "cgroup2"})
"""File systems that hold the kernel's own things, all of which a user of number 0 may seem to write."""
LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
SECONDS = 10.0
"""How long emptying may take; the directories can hold tens of thousands of files."""


def furnish(cwd: str) -> None:
    """Put into the empty directories what a new box has there, and go to where code starts."""
    name_user()
    home = os.path.expanduser("~")
    # Not by shutil, which takes 3 ms to load: every box would start later for a few small files.
    things = [(home + path[len(SKELETON) :], mode, content) for path, mode, content in inventory(SKELETON)]
    restore(things, cwd)


def name_user() -> None:
    """Give this user and its group a name, where the image has its lists of them where a box can write."""
    home = os.path.expanduser("~")
    own = {"passwd": f"{USER}:x:{os.getuid()}:{os.getgid()}::{home}:/bin/bash\n", "group": f"{USER}:x:{os.getgid()}:\n"}
    for name, line in own.items():
        with contextlib.suppress(OSError):  # another image, whose lists are as they are
            path = os.readlink(f"/etc/{name}")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(f"{ACCOUNTS}/{name}", "rb") as file:
                known = file.read()
            with open(path, "xb") as file:
                file.write(known + line.encode())


def inventory(*roots: str) -> list[tuple[str, int, bytes | None]]:
    """What is in these directories, with all below them: path, mode, and the content of a file."""
    found: list[tuple[str, int, bytes | None]] = []
    for at, folders, files in (entry for root in dict.fromkeys(roots) for entry in os.walk(root)):
        for name in folders:
            path = os.path.join(at, name)
            found.append((path, os.stat(path).st_mode & 0o7777, None))
        for name in files:
            path = os.path.join(at, name)
            with open(path, "rb") as file:
                found.append((path, os.stat(path).st_mode & 0o7777, file.read()))
    return found


def restore(things: list[tuple[str, int, bytes | None]], cwd: str) -> None:
    """Put back what :func:`inventory` found, and go to where code starts."""
    for path, mode, content in things:
        if content is None:
            os.makedirs(path, exist_ok=True)
        else:
            with open(path, "xb") as file:
                file.write(content)
        os.chmod(path, mode)
    os.makedirs(cwd, exist_ok=True)
    os.chdir(cwd)


def standing(folders: Iterable[str] | None = None) -> dict[str, Any]:
    """What other processes of the same uid can change of this one, and what its children would inherit.

    Args:
        folders: where files can be made, if that is known: nobody in a box can mount or unmount anything.
    """
    return {
        **standing_of(0),
        "mask": _umask(),
        "sockets": _sockets(),
        "modes": {folder: os.stat(folder).st_mode & 0o7777 for folder in folders or writable()},
    }


def standing_of(pid: int) -> dict[str, Any]:
    """What others can change of a process of their uid, and workers would inherit; 0 is this one. Raises OSError."""
    return {
        "limits": [resource.prlimit(pid, limit) for limit in LIMITS],
        "cores": os.sched_getaffinity(pid),
        "priority": os.getpriority(os.PRIO_PROCESS, pid),
        "policy": os.sched_getscheduler(pid),
    }


def _sockets() -> list[str]:
    """How many sockets of each kind the network namespace has: also those that no process has any more, such as closed
    connections in TIME_WAIT. What the kernel counts for the whole machine is left out. Empty if it does not say."""
    found = []
    for name in ("sockstat", "sockstat6"):
        for kind, *fields in map(str.split, _read(f"/proc/net/{name}")):
            counts = dict(zip(fields[::2], fields[1::2]))
            found.append(f"{kind} {counts.get('used')} {counts.get('inuse')} {counts.get('tw')}")
    return found


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def writable() -> list[str]:
    """The mounts whose root this uid may write to, but those where no files can be made."""
    points = []
    with open("/proc/self/mountinfo") as file:
        for fields in map(str.split, file):
            if fields[fields.index("-") + 1] not in KERNEL:
                points.append(fields[4].encode().decode("unicode_escape"))
    return [point for point in dict.fromkeys(points) if os.path.isdir(point) and os.access(point, os.W_OK)]


def out_of_reach(path: list[str]) -> list[str]:
    """The directories of a search path where code cannot put modules."""
    roots = [os.path.realpath(point) + "/" for point in writable()]
    return [one for one in path if not f"{os.path.realpath(one)}/".startswith(tuple(roots))]


def clear(before: dict[str, Any]) -> None:
    """Empty all that can be written to. Raises OSError where that is not possible, or not in time."""
    os.chdir("/")  # a directory somebody is in is not gone when it is removed
    until = time.monotonic() + SECONDS
    for folder, mode in before["modes"].items():
        if os.stat(folder).st_uid == os.getuid():
            os.chmod(folder, 0o700)
        _empty(folder, until)
        with contextlib.suppress(PermissionError):  # root's, whose times change with every file in it
            os.utime(folder)
            os.chmod(folder, mode)


def _empty(folder: str, until: float) -> None:
    """Remove all there is in a directory. Directories come up to the top one by one, so that no depth is too deep."""
    token, count = os.urandom(8).hex(), 0  # loading secrets would take 5 ms of the start of a box
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while names := os.listdir(top):
            for name in names:
                if time.monotonic() > until:
                    raise OSError(errno.ETIMEDOUT, f"{folder} holds too much to be emptied")
                if _unlink(name, top):
                    continue
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
                try:
                    for child in os.listdir(inner):
                        if not _unlink(child, inner):
                            count += 1
                            os.rename(child, f"{token}{count}", src_dir_fd=inner, dst_dir_fd=top)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)


def _unlink(name: str, folder: int) -> bool:
    """Remove a file; False if it is a directory, which can then be entered, and moved."""
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        os.chmod(name, 0o700, dir_fd=folder)
        return False
    return True


def remains(before: dict[str, Any], zygote: int = 0) -> list[str]:
    """What is left of whoever was here, in words; ``before`` is the :func:`standing` of the start. The zygote may stay,
    if it has a pid."""
    found = [name for name, value in standing(before["modes"]).items() if value != before[name]]
    found += [f"process {name}" for name in os.listdir("/proc") if name.isdigit() and int(name) not in (1, zygote)]
    for folder in before["modes"]:
        space = os.statvfs(folder)
        # Counted, not listed: a file that has no name any more but is still held by somebody counts too.
        if os.listdir(folder) or space.f_blocks != space.f_bfree or space.f_files - space.f_ffree > 1:
            found.append(f"files in {folder}")
    for kind in ("shm", "sem", "msg"):
        found += [f"System V {kind}"] if len(_read(f"/proc/sysvipc/{kind}")) > 1 else []  # the first line is a head
    found += [] if before["sockets"] else ["sockets that this kernel does not count"]
    return found


def _read(path: str) -> list[str]:
    """The first lines of a file of the kernel's; none if this kernel is without it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        return os.read(fd, 64 * 1024).decode("ascii", "replace").splitlines()
    finally:
        os.close(fd)
