"""Directories that end with their process, and what works in them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from waiting import seconds_until

from agentbox_magic import scratch

MAKES = """
import os, subprocess, sys
from pathlib import Path
from agentbox_magic import scratch
{before}
with scratch.folder(Path(sys.argv[1])) as folder:
    (folder / "a").mkdir()
    (folder / "a/b").write_text("x")
    (folder / "a").chmod(0o500)
    program = subprocess.Popen(["sleep", "1000"], start_new_session=True, text=True)
    with scratch.program(program):
        print(program.pid, flush=True)
        {then}
"""
NO_WATCH = "scratch._say = lambda line: None"


def begin(folder: Path, before: str = "", then: str = "sys.stdin.readline()") -> tuple[subprocess.Popen[str], int]:
    """The process, and the pid of the program that it runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", MAKES.format(before=before, then=then), str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_a_killed_process_leaves_neither_directory_nor_program(tmp_path: Path) -> None:
    odd = tmp_path / "with 'odd' $names; * -rf"
    odd.mkdir()
    (odd / "kept").write_text("x", "utf-8")
    process, program = begin(odd)
    with process:
        assert len(list(odd.iterdir())) == 2
        process.kill()
        seconds_until(lambda: [one.name for one in odd.iterdir()] == ["kept"], within=30)
        seconds_until(lambda: not psutil.pid_exists(program), within=30)


def test_what_would_be_left_without_a_watch(tmp_path: Path) -> None:
    process, program = begin(tmp_path, NO_WATCH)
    with process:
        process.kill()
        process.wait()
        assert len(list(tmp_path.iterdir())) == 1
        os.kill(program, signal.SIGKILL)


@pytest.mark.parametrize("then", ["pass", "raise SystemExit", "os.kill(os.getpid(), 2)"])
def test_a_normal_end_and_an_interrupt_leave_nothing_at_once(tmp_path: Path, then: str) -> None:
    process, program = begin(tmp_path, then=then)
    with process:
        process.wait(60)
        assert not list(tmp_path.iterdir())
        assert not psutil.pid_exists(program)


def test_a_fork_does_not_hold_it_up_and_ends_nothing(tmp_path: Path) -> None:
    process, _ = begin(tmp_path, then="os.fork() or os._exit(0); print('on', flush=True); sys.stdin.readline()")
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.kill()
        seconds_until(lambda: not list(tmp_path.iterdir()), within=30)


def test_another_file_system_below_is_not_entered(tmp_path: Path) -> None:
    """The shell's command says so; what it would cost to be wrong is too much to try."""
    assert "rm -rf --one-file-system --" in scratch._WATCH
