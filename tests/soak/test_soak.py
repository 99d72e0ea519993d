"""Nothing grows with the time: a minute of what ``make soak`` does for thirty, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MIB = 2**20
SECONDS = 60
MORE_MEMORY = 16 * MIB
"""How much more memory a process may keep after some minutes than after its first dozens of boxes. glibc's areas
for threads grow that much before they level off."""
MORE_DESCRIPTORS = 6
"""Connections to the engine that are kept for the next request."""


@pytest.mark.timeout(400)
def test_nothing_grows(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "soak", str(SECONDS), str(tmp_path)], cwd=Path(__file__).parents[1],
        env={**os.environ, "AGENTBOX_POOL": "2"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    samples = json.loads((tmp_path / "samples.json").read_text("utf-8"))
    first, last = samples[0], samples[-1]
    assert last["turns"] > 0
    assert last["kept"] - first["kept"] < MORE_MEMORY, samples
    assert last["fds"] - first["fds"] <= MORE_DESCRIPTORS, samples
    assert last["threads"] <= first["threads"], samples
    assert last["containers"] == first["containers"] == 2, samples
    assert (tmp_path / "soak.svg").read_text("utf-8").startswith("<svg")
