"""The profile is what its derivation makes, and what people run works under it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agentbox_magic.engine import Engine

SECCOMP = Path(__file__).parent.parent / "seccomp"

watching = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("strace") is None or not Engine.connect().traits.local,
    reason="to watch a box from outside takes root, strace, and an engine on this host",
)


def derive(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SECCOMP / "derive"), *arguments], check=False, capture_output=True, text=True, timeout=270
    )


def test_profile_and_table_are_what_the_script_makes() -> None:
    done = derive("build", "--check")
    assert (done.returncode, done.stdout) == (0, "")


def test_it_allows_at_least_70_calls_fewer_than_docker() -> None:
    readme = (SECCOMP / "README.md").read_text("utf-8")
    counts = {
        name.strip("* "): int(count) for name, count in re.findall(r"^\| (.+) \| (\d+) \|$", readme, re.MULTILINE)
    }
    assert counts["allowed here"] <= counts["allowed by Docker's default"] - 70
    assert counts["allowed here and denied there"] == 0


@watching
@pytest.mark.timeout(300)
def test_the_workload_runs_and_nothing_that_matters_is_denied() -> None:
    done = derive("check")
    assert "denied, unexpectedly: nothing" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    areas = re.findall(r"^(\w+) (\w+)", done.stdout, re.MULTILINE)
    assert len([name for word, name in areas if word == "ok"]) >= 15


@watching
@pytest.mark.timeout(300)
def test_a_denial_that_matters_is_seen() -> None:
    """The control: of a call that is not named, and of an argument that no rule names."""
    packet = "import socket; socket.socket(socket.AF_PACKET)"
    done = derive("check", "unshare --user true", f"python -c '{packet}'")
    assert re.search(r"denied, unexpectedly: .*socket 0x11\(EPERM\).*unshare\(EPERM\)", done.stdout)
    assert done.returncode == 1
