"""Files go in and out whole, or not at all.

Promised: what is written is what is read, of any size and name; what is replaced stays until its successor is there;
the box's own errors are the caller's; what is no regular file neither blocks nor ends the box. A copy to this machine
holds regular files and directories below the path that was given, or nothing.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from health import assert_usable, look
from waiting import seconds_until

from agentbox_magic import Sandbox, TransferError
from agentbox_magic.files import Data


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left(box: Sandbox) -> Iterator[None]:
    """The box after all tests is the box before them."""
    started = look(box)[0]
    yield
    assert_usable(box, started)


def shell(box: Sandbox, cmd: str) -> str:
    """What a command in the box says."""
    return box.commands.run(cmd).stdout


# -- one file ---------------------------------------------------------------------------------------------------------

CONTENTS: list[Any] = [
    pytest.param("text é\n", "text é\n".encode(), id="text"),
    pytest.param("", b"", id="empty text"),
    pytest.param(b"", b"", id="empty bytes"),
    pytest.param(bytes(range(256)), bytes(range(256)), id="bytes"),
    pytest.param("a\r\nb\n", b"a\r\nb\n", id="line ends are left alone"),
    pytest.param([b"a", b"", b"b"], b"ab", id="pieces"),
    pytest.param([], b"", id="no pieces"),
    pytest.param([b"x" * 600_000, b"y"], b"x" * 600_000 + b"y", id="a piece that is large"),
    pytest.param(b"x" * 262_144, b"x" * 262_144, id="exactly a piece"),
    pytest.param(b"x" * 262_145, b"x" * 262_145, id="one byte more"),
]


@pytest.mark.parametrize(("data", "content"), CONTENTS)
def test_what_is_written_is_read(box: Sandbox, data: Data, content: bytes) -> None:
    entry = box.files.write("one.bin", data)
    assert (entry.name, entry.type, entry.size) == ("one.bin", "file", len(content))
    assert box.files.read("one.bin", "bytes") == content
    assert b"".join(box.files.read("one.bin", "stream")) == content
    assert box.files.read("/workspace/one.bin") == content.decode("utf-8", "replace")


@pytest.mark.parametrize(
    "data", [io.BytesIO(b"open"), io.StringIO("open")], ids=["an open binary file", "an open text file"]
)
def test_open_files_are_written(box: Sandbox, data: Data) -> None:
    box.files.write("open.txt", data)
    assert box.files.read("open.txt") == "open"


def test_a_generator_is_written(box: Sandbox) -> None:
    box.files.write("pieces.txt", (b"%d," % n for n in range(5000)))
    assert box.files.read("pieces.txt") == "".join(f"{n}," for n in range(5000))


def test_a_large_file(box: Sandbox) -> None:
    content = os.urandom(2**20) * 20
    box.files.write("large.bin", io.BytesIO(content))
    assert shell(box, "sha256sum < large.bin").split()[0] == hashlib.sha256(content).hexdigest()
    seen = hashlib.sha256()
    for piece in box.files.read("large.bin", "stream"):
        seen.update(piece)
    assert seen.hexdigest() == hashlib.sha256(content).hexdigest()
    box.files.remove("large.bin")


def test_a_stream_that_is_not_read_to_its_end(box: Sandbox) -> None:
    box.files.write("long.bin", b"x" * 8_000_000)
    stream = box.files.read("long.bin", "stream")
    assert next(stream)[:1] == b"x"
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert box.files.read("long.bin", "bytes") == b"x" * 8_000_000
    box.files.remove("long.bin")


NAMES = [
    "é ü 日本.txt", "with space", "-rf", "--help", "new\nline", "quote'\"$x`", "*", "trailing ", ".hidden",
    "a" * 200, "a:b\\c", "tab\t",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names(box: Sandbox, name: str) -> None:
    path = f"names/{name}"
    assert box.files.write(path, name).name == name
    assert box.files.read(path) == name
    assert [entry.name for entry in box.files.list("names")] == [name]
    assert box.files.rename(path, f"names/x{name}").name == f"x{name}"
    box.files.remove(f"names/x{name}")
    assert box.files.list("names") == []


def test_a_name_that_is_not_utf8(box: Sandbox) -> None:
    shell(box, "mkdir odd && printf content > odd/$'\\377name'")
    (entry,) = box.files.list("odd")
    assert entry.name == "\udcffname"
    assert box.files.read(entry.path) == "content"
    box.files.remove(entry.path)
    assert box.files.list("odd") == []


@pytest.mark.parametrize("before", [b"old content", None], ids=["a file", "nothing"])
def test_a_write_that_fails_changes_nothing(box: Sandbox, before: bytes | None) -> None:
    folder = "whole" if before else "empty"
    box.files.make_dir(folder)
    if before:
        box.files.write(f"{folder}/kept", before)

    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b"new" * 1000
        raise RuntimeError("the source failed")

    with pytest.raises(RuntimeError, match="the source failed"):
        box.files.write(f"{folder}/kept", pieces())
    expected = ["kept"] if before else []
    seconds_until(lambda: [entry.name for entry in box.files.list(folder)] == expected, within=10)
    if before:
        assert box.files.read(f"{folder}/kept", "bytes") == before


def test_a_write_replaces(box: Sandbox) -> None:
    box.files.write("twice", "long content of the first")
    shell(box, "chmod 600 twice; ln -s twice link")
    box.files.write("twice", "short")
    assert box.files.read("twice") == "short"
    assert box.files.read("link") == "short"
    assert [entry.name for entry in box.files.list(".") if "partial" in entry.name] == []


def test_write_files(box: Sandbox) -> None:
    entries = box.files.write_files([("many/a", "1"), ("many/deep/b", b"22")])
    assert [(entry.name, entry.size) for entry in entries] == [("a", 1), ("b", 2)]
    assert box.files.read("many/deep/b") == "22"


# -- entries ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(box: Sandbox) -> str:
    """A directory with one of everything."""
    shell(
        box,
        "mkdir -p tree/sub/deeper tree/void && printf 12345 > tree/file && chmod 640 tree/file && printf x > "
        "tree/sub/deeper/leaf && ln -s file tree/link && ln -s /no/such tree/broken && ln -s . tree/sub/loop && mkfifo "
        "tree/fifo && touch -d '2001-02-03 04:05:06 UTC' tree/file && chmod 750 tree/sub && printf '#!' > tree/run && "
        "chmod 755 tree/run",
    )
    return "tree"


@pytest.mark.parametrize(
    ("path", "kind", "target"),
    [
        ("file", "file", None), ("sub", "dir", None), ("link", "symlink", "file"), ("broken", "symlink", "/no/such"),
        ("fifo", "other", None),
    ],
)  # fmt: skip
def test_kinds(box: Sandbox, tree: str, path: str, kind: str, target: str | None) -> None:
    entry = box.files.get_info(f"{tree}/{path}")
    assert (entry.name, entry.type, entry.symlink_target) == (path, kind, target)
    assert box.files.exists(f"{tree}/{path}")
    assert entry in [one if one.path == entry.path else None for one in box.files.list(tree)]


def test_what_is_known_of_a_file(box: Sandbox, tree: str) -> None:
    entry = box.files.get_info(f"{tree}/file")
    assert (entry.size, entry.mode, entry.path) == (5, 0o640, "tree/file")
    assert entry.modified_time == datetime(2001, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
    assert (box.files.get_info("/dev/null").type, box.files.get_info("/").name) == ("other", "/")


@pytest.mark.parametrize(
    ("depth", "count"),
    [pytest.param(1, 7, id="its own"), pytest.param(2, 9, id="and theirs"), pytest.param(9, 10, id="all")],
)
def test_list(box: Sandbox, tree: str, depth: int, count: int) -> None:
    paths = [entry.path for entry in box.files.list(tree, depth)]
    assert len(paths) == len(set(paths)) == count
    assert all(path.startswith("tree/") and path.count("/") <= depth for path in paths)


def test_a_long_listing(box: Sandbox) -> None:
    shell(box, "mkdir crowd && cd crowd && seq 1500 | xargs touch")
    assert sorted(int(entry.name) for entry in box.files.list("crowd")) == list(range(1, 1501))
    box.files.remove("crowd")
    assert not box.files.exists("crowd")


def test_directories(box: Sandbox) -> None:
    assert box.files.make_dir("made/one/two")
    assert not box.files.make_dir("made/one/two")
    box.files.write("made/one/two/file", "x")
    assert box.files.rename("made/one", "made/other/place").type == "dir"
    assert box.files.read("made/other/place/two/file") == "x"
    assert not box.files.exists("made/one")
    box.files.remove("made")
    assert not box.files.exists("made")


def test_a_symlink_is_removed_not_what_it_shows(box: Sandbox) -> None:
    shell(box, "mkdir target && touch target/kept && ln -s target shown")
    box.files.remove("shown")
    assert not box.files.exists("shown")
    assert box.files.exists("target/kept")


@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [
        pytest.param("read", ["no/such"], FileNotFoundError, id="read nothing"),
        pytest.param("read", ["tree"], IsADirectoryError, id="read a directory"),
        pytest.param("read", ["tree/broken"], FileNotFoundError, id="read a broken link"),
        pytest.param("read", ["tree/fifo"], OSError, id="read a FIFO"),
        pytest.param("read", ["/dev/zero"], OSError, id="read a device"),
        pytest.param("read", ["tree/file/x"], NotADirectoryError, id="read below a file"),
        pytest.param("read", ["/proc/1/environ"], PermissionError, id="read PID 1's environment"),
        pytest.param("read", ["a\0b"], (OSError, ValueError), id="read a name with NUL"),
        pytest.param("read", ["a" * 300], OSError, id="read a name too long"),
        pytest.param("read", [""], FileNotFoundError, id="read no name"),
        pytest.param("write", ["tree", "x"], IsADirectoryError, id="write a directory"),
        pytest.param("write", ["/etc/passwd", "x"], OSError, id="write to the image"),
        pytest.param("write", ["/new", "x"], OSError, id="write to the root"),
        pytest.param("write", ["tree/file/x", "x"], OSError, id="write below a file"),
        pytest.param("write", ["/proc/1/mem", "x"], OSError, id="write to PID 1"),
        pytest.param("get_info", ["no/such"], FileNotFoundError, id="describe nothing"),
        pytest.param("list", ["no/such"], FileNotFoundError, id="list nothing"),
        pytest.param("list", ["tree/file"], NotADirectoryError, id="list a file"),
        pytest.param("make_dir", ["tree/file"], FileExistsError, id="make a directory of a file"),
        pytest.param("make_dir", ["/opt/new"], OSError, id="make a directory in the image"),
        pytest.param("rename", ["no/such", "x"], FileNotFoundError, id="rename nothing"),
        pytest.param("rename", ["tree/file", "/opt/file"], OSError, id="rename into the image"),
        pytest.param("remove", ["no/such"], FileNotFoundError, id="remove nothing"),
        pytest.param("remove", ["/etc/passwd"], OSError, id="remove what is the image's"),
        pytest.param("watch_dir", ["no/such"], FileNotFoundError, id="watch nothing"),
        pytest.param("watch_dir", ["tree/file"], NotADirectoryError, id="watch a file"),
    ],
)
def test_the_boxs_errors_are_the_callers(
    box: Sandbox, tree: str, method: str, arguments: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        getattr(box.files, method)(*arguments)
    assert box.files.read(f"{tree}/file") == "12345"


def test_listing_at_no_depth(box: Sandbox) -> None:
    with pytest.raises(ValueError, match="depth 0 is out of range"):
        box.files.list("/", 0)


def test_a_full_disk() -> None:
    with Sandbox.create(mem="128m") as box:
        box.files.write("small", "kept")
        with pytest.raises(OSError, match="files count against mem: raise it, or remove some"):
            box.files.write("small", (bytes(2**20) for _ in range(100)))
        assert box.files.read("small") == "kept"
        assert [entry.name for entry in box.files.list(".")] == ["small"]


# -- watching ---------------------------------------------------------------------------------------------------------


def watched(box: Sandbox, cmd: str, count: int, *, recursive: bool) -> set[tuple[str, str]]:
    """So many events of a directory in which a command is run."""
    shell(box, "rm -rf watched; mkdir -p watched/sub; touch watched/old watched/sub/old")
    events: set[tuple[str, str]] = set()
    with box.files.watch_dir("watched", recursive=recursive) as watch:
        assert watch.get_new_events() == []
        shell(box, "cd watched; " + cmd)

        def has_come() -> bool:
            events.update((event.type, event.name) for event in watch.get_new_events())
            return len(events) >= count

        seconds_until(has_come, within=10)
    return events


@pytest.mark.parametrize(
    ("cmd", "recursive", "events"),
    [
        pytest.param("touch new", False, {("create", "new")}, id="create"),
        pytest.param("echo more >> old", False, {("write", "old")}, id="write"),
        pytest.param("rm old", False, {("remove", "old")}, id="remove"),
        pytest.param("mv old other", False, {("remove", "old"), ("create", "other")}, id="rename"),
        pytest.param("echo x > sub/old; touch new", True, {("write", "sub/old"), ("create", "new")}, id="below"),
        pytest.param("mkdir -p a/b", True, {("create", "a"), ("create", "a/b")}, id="directories"),
    ],
)
def test_events(box: Sandbox, cmd: str, recursive: bool, events: set[tuple[str, str]]) -> None:
    found = watched(box, cmd, len(events), recursive=recursive)
    assert {event for event in found if event[1] != "sub"} == events  # the directory's own time changes, too


def test_a_watched_directory_that_is_removed(box: Sandbox) -> None:
    box.files.make_dir("gone")
    watch = box.files.watch_dir("gone")
    box.files.remove("gone")

    def ask() -> None:
        for _ in range(100):
            watch.get_new_events()

    with pytest.raises(FileNotFoundError):
        ask()
    watch.stop()


# -- trees ------------------------------------------------------------------------------------------------------------


def contents(root: Path) -> dict[str, bytes | None]:
    """All that is in a directory: the bytes of files; None for directories."""
    return {path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes() for path in root.rglob("*")}


def test_upload_and_download(box: Sandbox, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a" / "empty").mkdir(parents=True)
    (source / "a" / "é b").write_bytes(bytes(range(256)) * 3000)
    (source / "nothing").write_bytes(b"")
    (source / "run").write_text("#!/bin/sh\necho ran\n")
    (source / "run").chmod(0o755)
    expected = contents(source)
    (source / "link").symlink_to("/etc/passwd")
    (source / "a" / "loop").symlink_to("..")
    os.mkfifo(source / "fifo")
    up = box.files.upload(source, "up/place")
    assert (up.files, up.size, up.skipped) == (3, 768_000 + 19, 2 + 1)
    assert shell(box, "stat -c %a up/place/run; sh up/place/run") == "755\nran\n"
    assert "passwd" not in shell(box, "find up")
    down = box.files.download("up/place", tmp_path / "back")
    assert (down.files, down.size, down.skipped) == (3, 768_019, 0)
    assert contents(tmp_path / "back") == expected
    assert os.access(tmp_path / "back" / "run", os.X_OK)


def test_one_file_up_and_down(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"single")
    assert box.files.upload(tmp_path / "one", "deep/er/two").files == 1
    assert box.files.download("deep/er/two", tmp_path / "three").size == 6
    assert (tmp_path / "three").read_bytes() == b"single"


def test_only_regular_files_come_down(box: Sandbox, tree: str, tmp_path: Path) -> None:
    done = box.files.download(tree, tmp_path / "copy")
    assert contents(tmp_path / "copy") == {
        "file": b"12345", "run": b"#!", "sub": None, "sub/deeper": None, "sub/deeper/leaf": b"x", "void": None,
    }  # fmt: skip
    assert done.skipped == 4
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "copy").iterdir() if path.is_file()}
    assert modes == {"file": 0o600, "run": 0o700}


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        pytest.param("mkfifo bad", {}, OSError, "neither a regular", id="a FIFO"),
        pytest.param("ln -s /etc/passwd bad", {}, OSError, "neither a regular", id="a symlink"),
        pytest.param("true", {}, FileNotFoundError, "No such file", id="nothing"),
        pytest.param("mkdir bad; touch bad/$'new\\nline'", {}, TransferError, "rename it in the box", id="a newline"),
        pytest.param("mkdir bad; touch bad/$'\\377'", {}, TransferError, "is not UTF-8", id="no UTF-8"),
        pytest.param("mkdir bad; touch bad/$'\\033[2J'", {}, TransferError, "rename it in the box", id="an escape"),
        pytest.param("mkdir -p bad/$(printf 'd/%.0s' $(seq 100))", {}, TransferError, "cannot be one", id="too deep"),
        pytest.param("mkdir bad; touch bad/{1..20}", {"max_files": 10}, TransferError, "more than 10 entries",
                     id="too many"),
        pytest.param("head -c 2000 /dev/zero > bad", {"max_size": 1000}, TransferError, "raise max_size",
                     id="too large"),
        pytest.param("truncate -s 400M bad", {"max_size": 2**28}, TransferError, "raise max_size",
                     id="larger than its disk"),
    ],
)  # fmt: skip
def test_a_download_that_cannot_be_leaves_nothing(
    box: Sandbox, tmp_path: Path, make: str, options: dict[str, int], error: type[Exception], message: str
) -> None:
    shell(box, "rm -rf bad; " + make)
    with pytest.raises(error, match=message):
        box.files.download("bad", tmp_path / "copy", **options)
    assert list(tmp_path.iterdir()) == []
    shell(box, "rm -rf bad")


@pytest.mark.parametrize("kind", ["file", "dir", "link"])
def test_a_download_replaces_nothing(box: Sandbox, tree: str, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "there"
    if kind == "dir":
        target.mkdir()
    elif kind == "link":
        target.symlink_to("/no/such")
    else:
        target.write_text("mine")
    before = target.lstat()
    with pytest.raises(FileExistsError, match="remove it or download to another path"):
        box.files.download(tree, target)
    assert target.lstat() == before
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_an_upload_of_nothing(box: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file or directory"):
        box.files.upload(tmp_path / "none", "x")
