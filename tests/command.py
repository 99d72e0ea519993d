"""The ``agentbox`` command, as a shell calls it: each call a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from relays import relays
from waiting import seconds_until

COMMAND = [sys.executable, "-m", "agentbox_magic.cli"]


def agentbox(*words: str, stdin: str | None = "", code: int = 0) -> str:
    """What a call prints; it must end with this exit code, and say something on stderr only if that is not 0."""
    done = subprocess.run([*COMMAND, *words], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == code, done
    if code in (125, 2):
        assert done.stdout.startswith("{") or not done.stdout
        assert done.stdout or (done.stderr.startswith("agentbox: ") and done.stderr.count("\n") == 1)
    return done.stdout


def as_json(*words: str, code: int = 0, stdin: str = "") -> Any:
    return json.loads(agentbox(words[0], "--json", *words[1:], code=code, stdin=stdin))


def start(*words: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@contextmanager
def detached() -> Iterator[str]:
    """A detached box; its id."""
    box = agentbox("init", "--timeout", "600", "--pids", "100").strip()
    yield box
    agentbox("kill", box)
    seconds_until(lambda: not relays(box), within=10)
