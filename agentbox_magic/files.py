"""Files of a box: ``box.files``. The names are E2B's.

Nothing that a box sends is followed as a path: what is downloaded is written below the path that the caller gave, into
a new directory, name by checked name, and only regular files and directories.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import json
import math
import os
import stat
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import PurePath, PurePosixPath
from typing import IO, Any, Literal, overload

from agent_executor.wire import Header, ProtocolError
from agentbox_magic import arguments, disk, scratch
from agentbox_magic.channel import Call, parse
from agentbox_magic.errors import TransferError
from agentbox_magic.limits import format_size
from agentbox_magic.link import Link
from agentbox_magic.receiver import Receiver

PIECE = 512 * 1024
WINDOW = 8
PENDING = 2**23
"""Bytes of a transfer on their way: several times what the window lets through."""
PATIENCE_SECONDS = 60.0
"""How long the box may take for anything; in a transfer, longer for what has crossed meanwhile: see :class:`_Pace`."""
SLOWEST = 64 * 1024
"""Bytes a second that a transfer must bring."""
FLAT = 512
"""What a message counts beside its bytes."""
MAX_READ = 2**30
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
"""How files of this machine are opened: what is a pipe by then is seen, and not waited for."""

Data = str | bytes | IO[bytes] | IO[str] | Iterable[bytes]


@dataclass(frozen=True)
class EntryInfo:
    """A file, directory or other entry in a box.

    Attributes:
        name: the last part of its path.
        path: where it is.
        type: ``"file"``, ``"dir"``, ``"symlink"`` or ``"other"``.
        size: bytes.
        mode: permission bits.
        modified_time: in UTC.
        symlink_target: where a symlink points.
    """

    name: str
    path: str
    type: str
    size: int
    mode: int
    modified_time: datetime
    symlink_target: str | None = None


@dataclass(frozen=True)
class FilesystemEvent:
    """A change in a watched directory.

    Attributes:
        name: the entry's path below the directory.
        type: ``"create"``, ``"write"`` or ``"remove"``.
    """

    name: str
    type: str


@dataclass(frozen=True)
class Transfer:
    """What a directory's way up or down came to.

    Attributes:
        files: regular files carried.
        size: their bytes.
        skipped: entries that were neither regular files nor directories, and stayed.
    """

    files: int
    size: int
    skipped: int


def _entry(one: Any) -> EntryInfo:
    try:
        when = float(one["modified"])
        if not (math.isfinite(when) and abs(when) < 2**36):
            when = 0.0
        return EntryInfo(
            name=str(one["name"]), path=str(one["path"]), type=str(one["type"]), size=int(one["size"]),
            mode=int(one["mode"]) & 0o7777, modified_time=datetime.fromtimestamp(when, timezone.utc),
            symlink_target=None if one["symlink_target"] is None else str(one["symlink_target"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ProtocolError("a file's description is not one") from None


class WatchHandle:
    """A watch on a directory of a box; a context manager."""

    def __init__(self, link: Link, call: Call) -> None:
        """Not for callers: :meth:`Files.watch_dir`."""
        self._link = link
        self._call = call

    def get_new_events(self) -> list[FilesystemEvent]:
        """What changed since the last time. Raises OSError if the directory is gone."""
        self._link.send({"type": "files_input", "id": self._call.id})
        return [FilesystemEvent(str(name), str(kind)) for kind, name in self.take()]

    def take(self) -> list[tuple[str, str]]:
        """The next events that the box sends, as ``(type, name)``."""
        with self._link.guard():
            header, body = self._call.get(PATIENCE_SECONDS)
            if header["type"] != "event":
                self._link.answer(header, body)
            events = parse(body)
            if not isinstance(events, list) or not all(isinstance(one, list) and len(one) == 2 for one in events):
                raise ProtocolError("events are not a list of pairs")
            return [(one[0], one[1]) for one in events]

    def stop(self) -> None:
        """End the watch."""
        self._link.send({"type": "files_input", "id": self._call.id, "eof": True})
        self._call.__exit__()

    def __enter__(self) -> WatchHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Pace:
    """The deadline of a transfer: a minute, and a second more for each :data:`SLOWEST` bytes that have crossed. Only
    the time in which the box is waited for counts."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._left = PATIENCE_SECONDS

    def get(self) -> tuple[Header, bytes]:
        """The next message. Raises as :meth:`Call.get`."""
        start = time.monotonic()
        header, body = self._call.get(self._left)
        self._left -= time.monotonic() - start
        self.count(len(body) + FLAT if header["type"] != "ack" else 0)
        return header, body

    def count(self, size: int) -> None:
        """So many bytes have crossed."""
        self._left = min(PATIENCE_SECONDS, self._left + size / SLOWEST)


class Files:
    """``box.files``. Relative paths begin at ``/workspace``.

    All methods raise the OSError that the box's kernel gave (``FileNotFoundError``, ``PermissionError``,
    ``IsADirectoryError`` ...), and OutcomeUnknownError where the box takes longer than a minute to answer, or brings
    less than 64 KiB a second for that long.
    """

    def __init__(self, link: Link) -> None:
        """Not for callers."""
        self._link = link

    # -- one file -----------------------------------------------------------------------------------------------------

    @overload
    def read(self, path: str | PurePath, format: Literal["text"] = "text") -> str: ...

    @overload
    def read(self, path: str | PurePath, format: Literal["bytes"]) -> bytes: ...

    @overload
    def read(self, path: str | PurePath, format: Literal["stream"]) -> Iterator[bytes]: ...

    def read(
        self,
        path: str | PurePath,
        format: Literal["text", "bytes", "stream"] = "text",  # noqa: A002  # E2B's name
    ) -> str | bytes | Iterator[bytes]:
        """A file's content: as text (UTF-8, bytes that are not become U+FFFD), as bytes, or piece by piece.

        Raises:
            TransferError: it is larger than 1 GiB and was not asked for as a stream.

        Example:
            >>> from agentbox_magic import Sandbox
            >>> with Sandbox.create() as box:
            ...     _ = box.files.write("hello.txt", "hi")
            ...     box.files.read("hello.txt")
            'hi'
        """
        arguments.choice("format", format, ("text", "bytes", "stream"))
        pieces = self._pieces("read", path=arguments.path("path", path))
        if format == "stream":
            return (body for header, body in pieces if header["type"] == "data")
        content = io.BytesIO()  # unlike a bytearray, it gives its bytes without a copy
        for header, body in pieces:
            if header["type"] == "data":
                content.write(body)
            if content.tell() > MAX_READ:
                pieces.close()
                raise TransferError(f"{path} is larger than {format_size(MAX_READ)}; read it with format='stream'")
        whole = content.getvalue()
        return whole.decode("utf-8", "replace") if format == "text" else whole

    def write(self, path: str | PurePath, data: Data) -> EntryInfo:
        """Write a file, making its directories; what was there stays whole until all has arrived.

        Args:
            path: where.
            data: text, bytes, an open file, or pieces of bytes; the last two in constant memory.
        """
        _check_data("data", data)
        described = self._send("write", _chunks(data), path=arguments.path("path", path))
        with self._link.guard():
            return _entry(described)

    def write_files(self, files: Iterable[tuple[str | PurePath, Data] | Mapping[str, Any]]) -> builtins.list[EntryInfo]:
        """:meth:`write` for several ``(path, data)``, or as E2B has them, ``{"path": ..., "data": ...}``."""
        if isinstance(files, (str, bytes, Mapping)) or not isinstance(files, Iterable):
            raise TypeError(f"files is {arguments.shown(files)}; give {_FILES}")
        pairs = [_pair(one) for one in files]
        for path, data in pairs:  # all are looked at before the first is written
            arguments.path("path", path)
            _check_data("data", data)
        return [self.write(path, data) for path, data in pairs]

    def exists(self, path: str | PurePath) -> bool:
        """Whether there is such an entry."""
        return bool(self._ask("exists", path=arguments.path("path", path)))

    def get_info(self, path: str | PurePath) -> EntryInfo:
        """An entry's description."""
        return self._described("get_info", path=arguments.path("path", path))

    def make_dir(self, path: str | PurePath) -> bool:
        """Make a directory and those above it; False if it was there."""
        return bool(self._ask("make_dir", path=arguments.path("path", path)))

    def rename(self, old_path: str | PurePath, new_path: str | PurePath) -> EntryInfo:
        """Move an entry, replacing a file that is there."""
        old, new = arguments.path("old_path", old_path), arguments.path("new_path", new_path)
        return self._described("rename", old=old, new=new)

    def remove(self, path: str | PurePath) -> None:
        """Remove a file, or a directory with all in it."""
        self._ask("remove", path=arguments.path("path", path))

    def list(self, path: str | PurePath, depth: int = 1) -> builtins.list[EntryInfo]:
        """The entries of a directory, and of those below it down to ``depth``. At most 100,000."""
        path = arguments.path("path", path)
        depth = arguments.whole("depth", depth, 1, 2**31 - 1, "a whole number from 1")
        found: builtins.list[EntryInfo] = []
        with self._link.guard():
            for header, body in self._pieces("list", path=path, depth=depth):
                if header["type"] == "data":
                    batch = parse(body)
                    if not isinstance(batch, list):
                        raise ProtocolError("a listing is not a list")
                    found += [_entry(one) for one in batch]
                if len(found) > 100_000:
                    raise TransferError(f"{path} has more than 100,000 entries; list its directories one by one")
        return found

    def watch_dir(self, path: str | PurePath, *, recursive: bool = False) -> WatchHandle:
        """Watch a directory of at most 10,000 entries for changes."""
        path = arguments.path("path", path)
        call = self._begin("watch", path=path, recursive=arguments.flag("recursive", recursive))
        handle = WatchHandle(self._link, call)
        with _about({"path": path}):
            handle.take()  # it has had its first look
        return handle

    # -- directories --------------------------------------------------------------------------------------------------

    def upload(self, local: str | os.PathLike[str], path: str | PurePath) -> Transfer:
        """Copy a file or a directory of this machine into the box. Symlinks and other odd entries stay.

        Args:
            local: what to copy. If it is a link itself, what it points to.
            path: the copy's own path in the box.

        Raises:
            ValueError: ``local`` is neither a file nor a directory.
        """
        local = arguments.local("local", local)
        path = arguments.path("path", path)
        count = {"files": 0, "size": 0, "skipped": 0}
        try:
            source = os.open(local, _READ)
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no file or directory {os.fspath(local)}") from None
        try:
            mode = os.fstat(source).st_mode
            if stat.S_ISREG(mode):
                with open(source, "rb", closefd=False) as file:
                    entry = self.write(path, file)
                return Transfer(1, entry.size, 0)
            if not stat.S_ISDIR(mode):
                raise ValueError(f"{os.fspath(local)} is neither a file nor a directory; copy its content to a file")
            self._send("upload", _tree(source, count), path=path)
        finally:
            os.close(source)
        return Transfer(**count)

    def download(
        self, path: str | PurePath, local: str | os.PathLike[str], *, max_size: int = 2**30, max_files: int = 10_000
    ) -> Transfer:
        """Copy a file or a directory of the box to this machine. Regular files and directories only.

        Args:
            path: what to copy.
            local: the copy's own path; its directory must exist, and it itself must not.
            max_size: bytes, all together.
            max_files: entries, all together.

        Raises:
            FileExistsError: ``local`` exists.
            TransferError: a cap was passed, a name cannot be one of a copy, or there is no room here; nothing is left
                behind.
        """
        target = arguments.local("local", local)
        path = arguments.path("path", path)
        max_size = arguments.whole("max_size", max_size, 0, 2**62, "a number of bytes")
        max_files = arguments.whole("max_files", max_files, 0, 2**62, "a number of files")
        if os.path.lexists(target):
            raise FileExistsError(f"{target} exists; remove it or download to another path")
        here = "free some, or download to another path"
        with contextlib.ExitStack() as stack:
            with disk.written(target, here, TransferError):
                folder = stack.enter_context(scratch.folder(target.parent))
                receiver = Receiver(folder, max_size, max_files)
            pieces = self._pieces("download", path=path)
            try:
                with self._link.guard():
                    for header, body in pieces:
                        with disk.written(target, here, TransferError):
                            receiver.add(header, body)
            finally:
                pieces.close()
                with disk.written(target, here, TransferError):
                    receiver.close()
            receiver.made.rename(target)
        return Transfer(receiver.files, receiver.size, receiver.skipped)

    # -- the protocol -------------------------------------------------------------------------------------------------

    def _begin(self, operation: str, **arguments: Any) -> Call:
        payload = json.dumps(arguments).encode()
        return self._link.call("files_request", payload, budget=PENDING, operation=operation)

    def _ask(self, operation: str, **arguments: Any) -> Any:
        with _about(arguments):
            return self._link.request("files_request", json.dumps(arguments).encode(), operation=operation)

    def _described(self, operation: str, **arguments: Any) -> EntryInfo:
        described = self._ask(operation, **arguments)
        with self._link.guard():
            return _entry(described)

    def _pieces(self, operation: str, **arguments: Any) -> Any:
        """The pieces of an answer, as a generator; each one taken grants another. The last is the reply."""
        link = self._link

        def generate() -> Iterator[tuple[Header, bytes]]:
            with self._begin(operation, **arguments) as call:
                done = False
                pace = _Pace(call)
                try:
                    while not done:
                        with _about(arguments), link.guard():
                            header, body = pace.get()
                            done = header["type"] not in ("data", "entry")
                            if done:
                                link.answer(header, body)
                        if not done:
                            link.send({"type": "files_input", "id": call.id})
                        yield header, body
                finally:
                    if not done:
                        link.send({"type": "files_input", "id": call.id, "eof": True})

        return generate()

    def _send(self, operation: str, pieces: Iterable[bytes], **arguments: Any) -> Any:
        """Send pieces, at most a window of them unread; the reply's result."""
        link = self._link
        with self._begin(operation, **arguments) as call:
            sizes: deque[int] = deque()
            pace = _Pace(call)
            try:
                for piece in pieces:
                    link.send({"type": "files_input", "id": call.id}, piece)
                    sizes.append(len(piece))
                    if len(sizes) >= WINDOW:
                        with _about(arguments), link.guard():
                            header, body = pace.get()
                            if header["type"] != "ack":  # it failed: nothing else answers before the end
                                link.answer(header, body)
                                raise ProtocolError("an answer before the end of what it answers")
                        pace.count(sizes.popleft())
            except BaseException:
                link.send({"type": "files_input", "id": call.id, "eof": True, "abort": True})
                raise
            link.send({"type": "files_input", "id": call.id, "eof": True})
            with _about(arguments), link.guard():
                while True:
                    header, body = pace.get()
                    if header["type"] != "ack":
                        return link.answer(header, body)
                    if not sizes:
                        raise ProtocolError("the box answers what was not sent")
                    pace.count(sizes.popleft())


@contextlib.contextmanager
def _about(arguments: dict[str, Any]) -> Iterator[None]:
    """Name the path in the OSErrors of an operation."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = arguments.get("path", arguments.get("old"))
        raise


_DATA = "text, bytes, an open file, or pieces of bytes"
_FILES = 'a list of (path, data), or of {"path": ..., "data": ...}'


def _pair(one: Any) -> tuple[Any, Any]:
    """
    >>> _pair(("a", "1")), _pair({"path": "a", "data": "1"})
    (('a', '1'), ('a', '1'))
    >>> _pair("ab")
    Traceback (most recent call last):
        ...
    TypeError: files has 'ab'; give a list of (path, data), or of {"path": ..., "data": ...}
    """
    if isinstance(one, Mapping) and {*one} == {"path", "data"}:
        return one["path"], one["data"]
    if isinstance(one, (tuple, list)) and len(one) == 2:
        return one[0], one[1]
    if hasattr(one, "path") and hasattr(one, "data"):  # E2B's WriteEntry
        return one.path, one.data
    raise TypeError(f"files has {arguments.shown(one)}; give {_FILES}")


def _check_data(name: str, data: object) -> None:
    """Raise TypeError or ValueError for what cannot be a file's content. Pieces are looked at as they come."""
    if isinstance(data, str):
        arguments.text(name, data)
    elif isinstance(data, Mapping) or not (isinstance(data, Iterable) or hasattr(data, "read")):
        raise TypeError(f"{name} is {arguments.shown(data)}, of type {type(data).__name__}; give {_DATA}")


def _chunks(data: Data) -> Iterator[bytes]:
    if isinstance(data, str):
        data = arguments.text("data", data).encode()
    if isinstance(data, (bytes, bytearray, memoryview)):
        view = memoryview(data)
        if view.format != "B" or view.ndim != 1:
            view = memoryview(bytes(view))
        for start in range(0, len(view), PIECE):
            yield bytes(view[start : start + PIECE])
    elif isinstance(data, (io.IOBase, tempfile.SpooledTemporaryFile)) or hasattr(data, "read"):
        while piece := data.read(PIECE):
            yield from _chunks(_piece(piece))
    else:
        for piece in data:
            yield from _chunks(_piece(piece))


def _piece(one: Any) -> str | bytes:
    if not isinstance(one, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"data has the piece {arguments.shown(one)}, of type {type(one).__name__}; give {_DATA}")
    return one  # type: ignore[return-value]  # all of them are bytes to what takes them


def _tree(root: int, count: dict[str, int]) -> Iterator[bytes]:
    """An open directory as the pieces of an upload: ``j`` and an entry's JSON, or ``d`` and data. Others may change it
    meanwhile: no link is followed, whenever it came, and nothing waits for a pipe."""
    yield b"j" + json.dumps({"path": ".", "type": "dir"}).encode()
    for folder, directories, names, inside in os.fwalk(".", dir_fd=root):
        for name in [*directories, *names]:
            status = os.stat(name, dir_fd=inside, follow_symlinks=False)
            path = PurePosixPath(folder, name).as_posix()
            if stat.S_ISDIR(status.st_mode):
                entry = {"path": path, "mode": stat.S_IMODE(status.st_mode), "type": "dir"}
                yield b"j" + json.dumps(entry).encode()
            elif not stat.S_ISREG(status.st_mode):
                count["skipped"] += 1
            else:
                yield from _regular(inside, name, path, count)


def _regular(inside: int, name: str, path: str, count: dict[str, int]) -> Iterator[bytes]:
    """A file of a directory, if it still is one when it is open."""
    try:
        file = os.open(name, _READ | os.O_NOFOLLOW, dir_fd=inside)
    except OSError as error:
        if error.errno != errno.ELOOP:
            error.filename = path
            raise
        count["skipped"] += 1
        return
    with open(file, "rb") as opened:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            count["skipped"] += 1
            return
        yield b"j" + json.dumps({"path": path, "mode": stat.S_IMODE(status.st_mode), "type": "file"}).encode()
        while piece := opened.read(PIECE - 1):
            count["size"] += len(piece)
            yield b"d" + piece
        count["files"] += 1
