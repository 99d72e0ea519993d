"""The relay of a detached box: who comes and goes, what a killed one leaves, and the folder of its socket."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import agentbox, detached, start
from relays import relay_of
from waiting import seconds_until

from agentbox_magic import Sandbox, SandboxError, relay


@pytest.fixture(scope="module")
def box() -> Iterator[str]:
    with detached() as box:
        yield box


def test_a_killed_relay_is_replaced(box: str) -> None:
    with start("exec", box, "echo on; sleep 1000") as running:
        assert running.stdout is not None
        running.stdout.readline()
        relay_of(Sandbox.connect(box)).kill()
        assert running.wait(30) == 125
    assert agentbox("exec", box, "echo again") == "again\n"


def test_what_served_a_guest_ends_with_it_and_what_it_started_goes_on(box: str) -> None:
    stays, goes = Sandbox.connect(box), Sandbox.connect(box)
    count = "import os\nsum(name.isdigit() for name in os.listdir('/proc'))"
    before = int(str(stays.run_code(count).text))
    goes.files.watch_dir(".")
    goes.get_host(8002)
    pid = goes.commands.run("sleep 1000", background=True, timeout=None).pid
    assert int(str(stays.run_code(count).text)) == before + 3
    goes.disconnect()
    seconds_until(lambda: stays.run_code(count).text == str(before + 1), within=20)
    assert stays.commands.kill(pid)
    stays.disconnect()


def test_a_relay_without_guests_ends() -> None:
    """And the next guest finds the box as it was."""
    box = Sandbox.create(detach=True, lifetime=100)
    try:
        box.run_code("x = 1")
        mine = relay_of(box)
        box.disconnect()
        mine.kill()
        mine.wait(10)
        code = (
            "import sys; from agentbox_magic import relay; relay.IDLE_SECONDS = 0.2; "
            "sys.argv = ['relay', sys.argv[1]]; relay.main()"
        )
        subprocess.run([sys.executable, "-c", code, box.sandbox_id], check=True, capture_output=True)
        seconds_until(lambda: not list(relay.folder().glob(f"{box.sandbox_id[:32]}*")), within=20)
        with Sandbox.connect(box.sandbox_id) as again:
            assert again.run_code("x").text == "1"
    finally:
        box.kill()
        agentbox("kill", box.sandbox_id, code=125)


def test_a_relay_removes_what_a_killed_one_left() -> None:
    box = Sandbox.create(detach=True, lifetime=100)
    killed = relay_of(box)
    killed.kill()
    killed.wait(10)
    box.kill()
    assert list(relay.folder().glob(f"{box.sandbox_id[:32]}*"))
    with Sandbox.create(detach=True, lifetime=100):
        seconds_until(lambda: not list(relay.folder().glob(f"{box.sandbox_id[:32]}*")), within=20)


@pytest.mark.parametrize("hands", ["open", "link", "file"])
def test_a_folder_that_others_can_reach_is_not_used(
    hands: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "RUNTIME", str(tmp_path))
    monkeypatch.setattr(relay, "TEMPORARY", str(tmp_path))
    path = tmp_path / f"agentbox-{os.getuid()}"
    assert relay.folder() == path
    path.rmdir()
    if hands == "open":
        path.mkdir()
        path.chmod(0o755)
    elif hands == "link":
        path.symlink_to("/")
    else:
        path.write_text("")
    with pytest.raises(SandboxError, match="is not a directory that is this user's alone"):
        relay.folder()


def test_the_lock_of_a_killed_process_is_removed_and_a_held_one_stays() -> None:
    code = (
        "import sys; from agentbox_magic import relay\n"
        "with relay.only_one(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    names = [f"test-{os.getpid()}-{number}" for number in range(2)]
    holders = [
        subprocess.Popen([sys.executable, "-c", code, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for name in names
    ]
    for holder in holders:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
    left, held = (relay.folder() / f"{name}.lock" for name in names)
    holders[0].kill()
    holders[0].wait()
    assert left.exists()
    relay.sweep()
    assert (left.exists(), held.exists()) == (False, True)
    for holder in holders:
        with holder:
            pass
    assert not held.exists()
