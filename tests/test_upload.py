"""A directory that others change while it is uploaded: no link is followed, and nothing waits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agentbox_magic.files import _tree

SECRET = b"of another directory"


def uploaded(root: Path, name: str, swap: Callable[[Path], None]) -> tuple[list[str], bytes, int]:
    """Names and data sent, and how many entries were skipped, when an entry is swapped as soon as it is announced."""
    count = {"files": 0, "size": 0, "skipped": 0}
    names, sent = list[str](), b""
    source = os.open(root, os.O_RDONLY)
    try:
        for piece in _tree(source, count):
            if piece[:1] == b"d":
                sent += piece[1:]
                continue
            names.append(json.loads(piece[1:])["path"])
            if names[-1] == name:
                swap(root / name)
    finally:
        os.close(source)
    return names, sent, count["skipped"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_bytes(SECRET)
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (root / "inner" / "key").write_bytes(b"mine")
    (root / "file").write_bytes(b"mine too")
    return root


def test_a_link_swapped_in_for_a_file_is_not_followed(root: Path) -> None:
    def swap(path: Path) -> None:
        path.unlink()
        path.symlink_to(root.parent / "secret" / "key")

    names, sent, _ = uploaded(root, "file", swap)
    assert set(names) == {".", "inner", "inner/key", "file"}
    assert SECRET not in sent
    assert b"mine too" in sent


def test_a_pipe_swapped_in_for_a_file_is_not_waited_for(root: Path) -> None:
    def swap(path: Path) -> None:
        path.unlink()
        os.mkfifo(path)

    assert b"mine too" in uploaded(root, "file", swap)[1]


def test_a_link_swapped_in_for_a_directory_is_not_followed(root: Path) -> None:
    def swap(path: Path) -> None:
        path.rename(root.parent / "moved")
        path.symlink_to(root.parent / "secret")

    names, sent, _ = uploaded(root, "inner", swap)
    assert "inner/key" not in names
    assert SECRET not in sent


def test_odd_entries_are_counted(root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "link").symlink_to("/etc/passwd")
    (root / "inner" / "there").symlink_to("/etc")
    names, sent, skipped = uploaded(root, "", lambda path: None)
    assert set(names) == {".", "inner", "inner/key", "file"}
    assert skipped == 3
    assert len(sent) == 12
