"""A forged download is refused: nothing that a box says is followed as a path."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from agent_executor.wire import Header, ProtocolError
from agentbox_magic import TransferError
from agentbox_magic.receiver import Receiver


def entry(path: object, kind: object = "file", size: object = 0, mode: object = 0o644) -> tuple[Header, bytes]:
    """An entry as a box sends it."""
    return {"type": "entry"}, json.dumps({"path": path, "type": kind, "size": size, "mode": mode}).encode()


def data(content: bytes) -> tuple[Header, bytes]:
    """A piece of a file."""
    return {"type": "data"}, content


def end(kind: str = "dir", skipped: object = 0) -> tuple[Header, bytes]:
    """The last message."""
    return {"type": "reply"}, json.dumps({"type": kind, "skipped": skipped}).encode()


REFUSED = (TransferError, ProtocolError)


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([entry("/etc/cron.d/x")], id="an absolute path"),
        pytest.param([entry("../x")], id="a path above"),
        pytest.param([entry("a/../../x")], id="a path above, further in"),
        pytest.param([entry("a/..")], id="a path that ends above"),
        pytest.param([entry("..", "dir")], id="the directory above"),
        pytest.param([entry("")], id="no name"),
        pytest.param([entry(".")], id="the directory itself"),
        pytest.param([entry("a\0b")], id="NUL"),
        pytest.param([entry("a\nb")], id="a newline"),
        pytest.param([entry("\x1b]0;x\x07")], id="an escape"),
        pytest.param([entry("\x7f")], id="delete"),
        pytest.param([entry("\x9b2J")], id="a control character of eight bits"),
        pytest.param([entry("\ud800")], id="a surrogate"),
        pytest.param([entry("a" * 300)], id="a name too long"),
        pytest.param([entry("/".join("d" * 70))], id="too deep"),
        pytest.param([entry("a"), entry("a")], id="twice"),
        pytest.param([entry("a"), entry("a/b")], id="below a file"),
        pytest.param([entry("a", "dir"), entry("a")], id="a file where a directory is"),
        pytest.param([entry("a"), entry("a", "dir")], id="a directory where a file is"),
        pytest.param([entry("a"), entry("./a")], id="twice, written differently"),
        pytest.param([entry("a", "symlink")], id="a symlink"),
        pytest.param([entry("a", "other")], id="a device"),
        pytest.param([entry("a", None)], id="no type"),
        pytest.param([entry(None)], id="no path"),
        pytest.param([entry(["a"])], id="a path that is none"),
        pytest.param([entry("a", size="1")], id="a size that is none"),
        pytest.param([entry("a", size=None)], id="no size"),
        pytest.param([entry("a", mode="x")], id="a mode that is none"),
        pytest.param([entry("a", size=2**40)], id="1 TiB announced"),
        pytest.param([entry("a", size=-1)], id="a negative size"),
        pytest.param([entry("a", size=1), data(b"x" * 2000)], id="more than the cap, with less announced"),
        pytest.param([entry(f"f{n}") for n in range(11)], id="too many"),
        pytest.param([entry("a", size=600), data(b"x" * 600), entry("b", size=600)], id="too large together"),
        pytest.param([data(b"x")], id="data before a file"),
        pytest.param([entry("a", "dir"), data(b"x")], id="data after a directory"),
        pytest.param([({"type": "entry"}, b"{")], id="no JSON"),
        pytest.param([({"type": "entry"}, b"[" * 100_000)], id="JSON that is too deep"),
        pytest.param([({"type": "entry"}, b"[]")], id="an entry that is none"),
        pytest.param([({"type": "reply"}, b"null")], id="an end that is none"),
        pytest.param([end(skipped="x")], id="a count that is none"),
        pytest.param([end("file")], id="a file that is none"),
        pytest.param([entry("a"), entry("b"), end("file")], id="a file that is two"),
        pytest.param([entry("d/a"), end("file")], id="a file in a directory"),
        pytest.param([entry("a", "dir"), end("file")], id="a file that is a directory"),
    ],
)
def test_a_forged_download_is_refused(tmp_path: Path, messages: list[tuple[Header, bytes]]) -> None:
    """Refused where it is forged, at the latest; and nothing is written but below the receiver's own directory."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "x").write_text("mine")
    receiver = Receiver(folder, max_size=1000, max_files=10)

    def add() -> None:
        for message in messages:
            receiver.add(*message)

    with pytest.raises(REFUSED):
        add()
    receiver.close()
    assert {path.name: path.is_dir() for path in tmp_path.iterdir()} == {"folder": True, "x": False}
    assert (tmp_path / "x").read_text() == "mine"
    assert [path.name for path in folder.iterdir()] == ["root"]
    assert not any(path.is_symlink() or path.stat().st_size > 1000 for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("mode", [0o777, 0o4755, 0o2777, 0o7777, -1])
def test_modes_of_a_box_are_the_owners_only(tmp_path: Path, mode: int) -> None:
    receiver = Receiver(tmp_path, max_size=1000, max_files=10)
    receiver.add(*entry("a", mode=mode))
    receiver.close()
    assert stat.S_IMODE((tmp_path / "root" / "a").stat().st_mode) == 0o700


def test_names_that_deceive_are_written_with_their_codes(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path, 100, 10)
    for message in (entry("invoice\u202efdp.exe"), entry("a\u2066b", "dir"), entry("a\u2066b/c\u200f")):
        receiver.add(*message)
    receiver.close()
    made = sorted(path.relative_to(receiver.made).as_posix() for path in receiver.made.rglob("*"))
    assert made == ["a<U+2066>b", "a<U+2066>b/c<U+200F>", "invoice<U+202E>fdp.exe"]


def test_two_names_that_become_one_are_refused(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path, 100, 10)
    receiver.add(*entry("a<U+202E>"))
    with pytest.raises(TransferError, match="cannot be written here") as caught:
        receiver.add(*entry("a\u202e"))
    assert "\u202e" not in str(caught.value)
    receiver.close()
