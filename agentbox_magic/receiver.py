"""What a box sends as a copy of its files, written to this machine: below a new directory of ours, and nowhere else."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath
from typing import IO, Any

from agent_executor.wire import Header, ProtocolError
from agentbox_magic import disk
from agentbox_magic.channel import parse
from agentbox_magic.errors import TransferError
from agentbox_magic.limits import format_size
from agentbox_magic.text import show_bidi

MAX_DEPTH = 64


class Receiver:
    """Writes what a box sends below a new directory of ours, and nothing else."""

    def __init__(self, folder: Path, max_size: int, max_files: int) -> None:
        self._folder = folder
        self._max_size = max_size
        self._max_files = max_files
        self._file: IO[bytes] | None = None
        self._entries = 0
        self.made = folder / "root"
        self.files = 0
        self.size = 0
        self.skipped = 0
        self.made.mkdir()

    def add(self, header: Header, body: bytes) -> None:
        """Take one piece; :attr:`made` is the copy when the last has been taken. Raises OSError where this machine's
        disk takes nothing."""
        if header["type"] == "entry":
            self.close()
            self._begin(parse(body))
        elif header["type"] == "data":
            self.size += len(body)
            if self.size > self._max_size:
                raise TransferError(f"more than {format_size(self._max_size)}; raise max_size, or take less")
            if self._file is None:
                raise ProtocolError("data without a file")
            self._file.write(body)
        else:
            result = parse(body)
            if not isinstance(result, dict) or not isinstance(result.get("skipped"), int):
                raise ProtocolError("a download without its count")
            self.skipped = result["skipped"]
            if result.get("type") != "dir":
                if self.files != 1 or self._entries != 1:
                    raise ProtocolError("a file that is not one file")
                (self.made,) = self.made.iterdir()
                if not self.made.is_file():
                    raise ProtocolError("a file that is not one file")

    def _begin(self, entry: Any) -> None:
        if not isinstance(entry, dict):
            raise ProtocolError("an entry is not one")
        self._entries += 1
        if self._entries > self._max_files:
            raise TransferError(f"more than {self._max_files:,} entries; raise max_files, or take less")
        size, mode = entry.get("size"), entry.get("mode")
        if not isinstance(size, int) or size < 0 or not isinstance(mode, int):
            raise ProtocolError("an entry without size and mode")
        if entry.get("type") not in ("file", "dir"):
            raise ProtocolError("an entry that is neither a file nor a directory")
        if entry.get("type") == "file" and self.size + size > self._max_size:
            raise TransferError(f"more than {format_size(self._max_size)}; raise max_size, or take less")
        target = self._target(entry.get("path"))
        try:
            if entry.get("type") == "dir":
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                # Only the owner's own bits: who may run or read it here is not for the box to say.
                new = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 | (mode & 0o100))
                self._file = os.fdopen(new, "wb")
                self.files += 1
        except (OSError, ValueError) as error:
            if disk.is_to_blame(error):
                raise
            raise TransferError(
                f"the box's file {str(entry.get('path'))[:100]!r} cannot be written here: {error}"
            ) from None

    def _target(self, name: object) -> Path:
        """Where an entry goes: a checked name below the new directory."""
        if not isinstance(name, str):
            raise ProtocolError("an entry without a path")
        parts = PurePosixPath(name).parts
        try:
            name.encode()
        except UnicodeEncodeError:
            raise TransferError(f"the name {ascii(name)[:100]} is not UTF-8; rename it in the box") from None
        outside = name.startswith("/") or ".." in parts or not parts
        if outside or len(parts) > MAX_DEPTH or any(unicodedata.category(character) == "Cc" for character in name):
            raise TransferError(f"the name {name[:100]!r} cannot be one of a copy; rename it in the box")
        # A name must not deceive whoever sees it in a list: what turns the direction of text is written as its code.
        return self._folder / "root" / show_bidi(name)

    def close(self) -> None:
        """Close the file that is being written."""
        if self._file is not None:
            self._file.close()
            self._file = None
