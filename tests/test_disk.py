"""A disk of this machine that is full or read-only: one line that says which path and what to do, and nothing left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentbox_magic import Sandbox, SandboxError, TransferError, relay

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small file system")

SMALL = "size=256k"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts file systems of their own."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_download_to_a_full_disk(box: Sandbox, small: Callable[[str], Path]) -> None:
    disk = small(SMALL)
    box.files.write("big", bytes(2**20))
    for options in ("", "ro"):
        if options:
            subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)
        with pytest.raises(TransferError) as caught:
            box.files.download("big", disk / "copy")
        why = "the file system on this machine is read-only" if options else "no space left on this machine"
        assert str(caught.value) == f"{disk}/copy cannot be written: {why}; free some, or download to another path"
        assert not list(disk.iterdir())
    assert box.run_code("6 * 7").text == "42"


def test_many_files_to_a_disk_without_inodes(box: Sandbox, small: Callable[[str], Path]) -> None:
    disk = small("size=10m,nr_inodes=20")
    box.run_code("import os\nos.mkdir('many')\nfor n in range(50): open(f'many/{n}', 'w').close()")
    with pytest.raises(TransferError, match="/copy cannot be written: no space left on this machine; free some, or"):
        box.files.download("many", disk / "copy")
    assert not list(disk.iterdir())


def agentbox(*words: str, before: str = "true", **environment: str) -> tuple[int, list[str]]:
    """The exit code and the lines on stderr of a call in a mount namespace of its own."""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{before} && exec "$@"', "sh",
         sys.executable, "-m", "agentbox_magic.cli", *words],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr.splitlines()


def test_packages_with_no_room_for_temporary_files(small: Callable[[str], Path]) -> None:
    disk = small(SMALL)
    code, lines = agentbox("run", "--with", "colorama", "-c", "1", TMPDIR=str(disk))
    assert code == 125
    assert lines[-1].startswith(f"agentbox: {disk} cannot be written: ")
    assert lines[-1].endswith("; free some there, or set TMPDIR to another directory")
    assert not list(disk.iterdir())


@pytest.mark.parametrize(("options", "why"), [("ro", "read-only"), ("nr_inodes=1", "no space left")])
def test_no_room_for_the_sockets_of_relays(
    options: str, why: str, small: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = small(options)
    monkeypatch.setattr(relay, "RUNTIME", str(disk))
    monkeypatch.setattr(relay, "TEMPORARY", str(disk))
    with pytest.raises(SandboxError, match=rf"^{disk}/agentbox-\d+ cannot be written: .*{why}.*; detached boxes need"):
        relay.folder()


def test_a_lock_that_cannot_be_written(small: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    disk = small("nr_inodes=2")
    monkeypatch.setattr(relay, "RUNTIME", str(disk))
    monkeypatch.setattr(relay, "TEMPORARY", str(disk))
    with pytest.raises(SandboxError, match=r"pool\.lock cannot be written: no space left on this machine"):
        relay.only_one("pool").__enter__()


def test_a_detached_box_where_temporary_files_are_read_only() -> None:
    """As the command line says it; and no container is left."""
    if Path(relay.RUNTIME, str(os.getuid())).is_dir():
        pytest.skip("the sockets are in another directory on this machine")
    before = {one.sandbox_id for one in Sandbox.list()}
    code, lines = agentbox("init", before="mount -t tmpfs -o ro tmpfs /tmp")
    assert code == 125
    assert lines == [
        "agentbox: /tmp/agentbox-0 cannot be written: the file system on this machine is read-only; "
        "detached boxes need a few bytes there; free some, or make it writable"
    ]
    assert {one.sandbox_id for one in Sandbox.list()} == before
