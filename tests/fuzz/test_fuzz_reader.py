"""The fuzzer that is guided by coverage (fuzz_reader.py): a short run of it, which ``make fuzz`` makes long."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def test_the_guided_fuzzer_finds_nothing_in_a_short_run(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has wheels for Linux on x86-64 and Python 3.11 to 3.13 only")
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, root / "tests" / "fuzz" / "fuzz_reader.py", "-runs=20000", "-seed=1", "-print_final_stats=1",
         f"-artifact_prefix={tmp_path}/", tmp_path],
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'image'}"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-4000:]
    assert "stat::number_of_executed_units: 20000" in run.stderr
    # Guided: inputs were added because they reached code that no other had.
    covered = [int(number) for number in re.findall(r"cov: (\d+)", run.stderr)]
    assert covered[-1] > covered[0]
