"""File operations, each in a process of its own that the supervisor forks and the host talks to.

What can be long goes in pieces, and no more than :data:`WINDOW` of them are under way: the reader grants each further
one. Pieces to the host are ``data`` frames and are granted by an ``input`` frame each (its end of file stops the
operation); pieces from the host are ``input`` frames and are granted by an ``ack`` each.
"""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import signal
import socket
import stat
from collections.abc import Iterator
from typing import Any, NoReturn

from agent_executor import wire

PIECE = 512 * 1024
WINDOW = 8
POLL_SECONDS = 0.1
MAX_WATCHED = 10_000


class Link:
    """The operation's end of its socket."""

    def __init__(self, control: socket.socket) -> None:
        self._socket = control
        self._decoder = wire.Decoder()
        self._assembler = wire.Assembler()
        self._inbox: list[tuple[wire.Header, bytes]] = []
        self._credit = WINDOW

    def send(self, header: wire.Header, payload: bytes = b"") -> None:
        for frame in wire.encode_message({**header, "id": 0}, payload):
            self._socket.sendall(frame)

    def receive(self) -> tuple[wire.Header, bytes]:
        """The next message of the host."""
        while not self._inbox:
            data = self._socket.recv(PIECE)
            if not data:
                os._exit(0)
            for frame in self._decoder.feed(data):
                message = self._assembler.add(*frame)
                if message:
                    self._inbox.append(message)
        return self._inbox.pop(0)

    def has_message(self, seconds: float) -> bool:
        """Whether the host says something within so many seconds."""
        return bool(self._inbox) or bool(select.select([self._socket], [], [], seconds)[0])

    def give(self, header: wire.Header, payload: bytes = b"") -> None:
        """Send a piece, when the host grants it."""
        while not self._credit or self.has_message(0):
            grant, _ = self.receive()
            if grant["eof"]:
                os._exit(0)
            self._credit += 1
        self._credit -= 1
        self.send(header, payload)

    def pieces(self) -> Iterator[bytes]:
        """What the host sends, to its end of file."""
        while True:
            header, payload = self.receive()
            if header["abort"]:
                raise OSError(errno.ECANCELED, "its sender gave up")
            if payload:
                yield payload
            if header["eof"]:
                return
            self.send({"type": "ack"})


def _info(path: str) -> dict[str, Any]:
    status = os.lstat(path)
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink"}
    kind = kinds.get(stat.S_IFMT(status.st_mode), "other")
    return {
        "name": os.path.basename(path) or "/",
        "path": path,
        "type": kind,
        "size": status.st_size,
        "mode": stat.S_IMODE(status.st_mode),
        "modified": status.st_mtime,
        "symlink_target": os.readlink(path) if kind == "symlink" else None,
    }


def _walk(path: str, depth: int) -> Iterator[dict[str, Any]]:
    for name in sorted(os.listdir(path)):
        entry = _info(os.path.join(path, name))
        yield entry
        if entry["type"] == "dir" and depth > 1:
            yield from _walk(entry["path"], depth - 1)


def _open_regular(path: str) -> int:
    """Open a file to read; anything but a regular file could block or never end."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        code = errno.EISDIR if os.path.isdir(path) else errno.EINVAL
        raise OSError(code, "it is not a regular file", path)
    return fd


def _send_file(link: Link, path: str) -> int:
    fd = _open_regular(path)
    sent = 0
    while True:
        piece = os.read(fd, PIECE)
        if not piece:
            os.close(fd)
            return sent
        link.give({"type": "data"}, piece)
        sent += len(piece)


def read(link: Link, path: str) -> int:
    return _send_file(link, path)


def write(link: Link, path: str, mode: int | None = None) -> dict[str, Any]:
    """Into a file of the same directory first, so that what was there is whole until the new one is."""
    parent = os.path.dirname(path) or "."
    os.makedirs(parent, exist_ok=True)
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, "it is a directory", path)
    partial = os.path.join(parent, f".{os.path.basename(path)[:200]}.{os.getpid()}.partial")
    try:
        with open(partial, "xb") as file:
            for piece in link.pieces():
                file.write(piece)
        if mode is not None:
            os.chmod(partial, mode)
        os.replace(partial, path)
    except BaseException:
        if os.path.lexists(partial):
            os.unlink(partial)
        raise
    return _info(path)


def list_(link: Link, path: str, depth: int) -> None:
    batch: list[dict[str, Any]] = []
    for entry in _walk(path, depth):
        batch.append(entry)
        if len(batch) == 100:
            link.give({"type": "data"}, json.dumps(batch).encode())
            batch = []
    link.give({"type": "data"}, json.dumps(batch).encode())


def exists(link: Link, path: str) -> bool:
    return os.path.lexists(path)


def get_info(link: Link, path: str) -> dict[str, Any]:
    return _info(path)


def make_dir(link: Link, path: str) -> bool:
    if os.path.isdir(path):
        return False
    os.makedirs(path)
    return True


def rename(link: Link, old: str, new: str) -> dict[str, Any]:
    os.makedirs(os.path.dirname(new) or ".", exist_ok=True)
    os.rename(old, new)
    return _info(new)


def remove(link: Link, path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def download(link: Link, path: str) -> dict[str, Any]:
    """A file or a tree: an ``entry`` frame for each directory and regular file, the data of a file after its own."""
    skipped = 0
    root = _info(path)
    if root["type"] not in ("file", "dir"):
        raise OSError(errno.EINVAL, "it is neither a regular file nor a directory", path)
    entries = [root] if root["type"] != "dir" else _walk(path, 1000)
    for entry in entries:
        relative = os.path.relpath(entry["path"], path) if root["type"] == "dir" else entry["name"]
        if entry["type"] not in ("file", "dir"):
            skipped += 1
            continue
        link.give(
            {"type": "entry"},
            json.dumps(
                {"path": relative, "type": entry["type"], "size": entry["size"], "mode": entry["mode"]}
            ).encode(),
        )
        if entry["type"] == "file":
            _send_file(link, entry["path"])
    return {"skipped": skipped, "type": root["type"]}


def upload(link: Link, path: str) -> dict[str, int]:
    """The other way: each piece is a JSON line for an entry or, after a file's, its data."""
    count = 0
    file = None
    for piece in link.pieces():
        if piece[:1] == b"d":
            assert file is not None
            file.write(memoryview(piece)[1:])
            continue
        if file is not None:
            file.close()
            file = None
        entry = json.loads(piece[1:])
        target = os.path.normpath(os.path.join(path, entry["path"]))
        if entry["type"] == "dir":
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
            file = open(target, "wb")  # noqa: SIM115  # open until the next entry
            os.chmod(target, entry["mode"] & 0o777)
            count += 1
    if file is not None:
        file.close()
    return {"files": count}


def _snapshot(path: str, recursive: bool) -> dict[str, tuple[int, int, int]]:
    found: dict[str, tuple[int, int, int]] = {}
    for entry in _walk(path, 1000 if recursive else 1):
        if len(found) >= MAX_WATCHED:
            raise OSError(errno.E2BIG, f"more than {MAX_WATCHED} entries to watch", path)
        status = os.lstat(entry["path"])
        found[os.path.relpath(entry["path"], path)] = status.st_ino, status.st_mtime_ns, status.st_size
    return found


def watch(link: Link, path: str, recursive: bool) -> None:
    """Look again and again, and tell what changed, until the host says stop. (inotify is one of the quotas that boxes
    would share; a box has none.)"""
    before = _snapshot(path, recursive)
    link.send({"type": "event"}, b"[]")
    pending: list[tuple[str, str]] = []
    granted = False
    while True:
        if link.has_message(POLL_SECONDS):
            header, _ = link.receive()
            if header["eof"]:
                return
            granted = True
        now = _snapshot(path, recursive)
        pending += [("create", name) for name in now.keys() - before.keys()]
        pending += [("remove", name) for name in before.keys() - now.keys()]
        pending += [("write", name) for name in now.keys() & before.keys() if now[name] != before[name]]
        del pending[MAX_WATCHED:]
        before = now
        if granted:
            link.send({"type": "event"}, json.dumps(pending).encode())
            pending, granted = [], False


OPERATIONS = {
    "read": read, "write": write, "list": list_, "exists": exists, "get_info": get_info, "make_dir": make_dir,
    "rename": rename, "remove": remove, "download": download, "upload": upload, "watch": watch,
}  # fmt: skip


def serve(control: socket.socket, operation: str, arguments: dict[str, Any]) -> NoReturn:
    """Do one operation and tell its result: called in the fresh fork."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    keep = control.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
    link = Link(control)
    header: wire.Header = {"type": "reply"}
    result: Any = None
    try:
        result = OPERATIONS[operation](link, **arguments)  # type: ignore[operator]  # each with its own arguments
    except OSError as error:
        header["error"] = errno.errorcode.get(error.errno or 0, "EIO")
        result = error.strerror or str(error)
    except RecursionError:
        header["error"], result = "ELOOP", "the directories are nested too deep"
    except (KeyError, TypeError, ValueError) as error:  # what is asked cannot be made out
        header["error"], result = "EINVAL", f"{operation}: {error}"
    link.send(header, json.dumps(result).encode())
    control.shutdown(socket.SHUT_WR)
    os._exit(0)
