"""Others on the same engine, in the same rounds: each is a process in ``.venv-peers`` (:mod:`benchmarks.peer`).

A round is a line to it and a line back. A peer that does not run here is left out, and the table says so.
"""

from __future__ import annotations

import select
import subprocess
from pathlib import Path

from agentbox_magic import derived, images
from agentbox_magic.engine import Engine
from benchmarks import peer
from benchmarks.measure import Row

ROOT = Path(__file__).parent.parent.parent
PYTHON = ROOT / ".venv-peers" / "bin" / "python"
SECONDS = 120.0
"""How long one may take for anything."""

NAMES = {
    "fresh": "fresh",
    "warm": "warm",
    "pooled": "from its pool, which hands it out again",
    "into": "100 MB into a box",
    "out_of": "100 MB out of a box",
}


class Peer:
    """The process of one peer."""

    def __init__(self, name: str, image: str) -> None:
        """Raises RuntimeError: why it does not run here."""
        self._process = subprocess.Popen(
            [PYTHON, peer.__file__, name, image], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, bufsize=1,
        )  # fmt: skip
        self._expect("ready")

    def do(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._expect("done")

    def _expect(self, word: str) -> None:
        assert self._process.stdout is not None
        found, _, _ = select.select([self._process.stdout], [], [], SECONDS)
        said = self._process.stdout.readline().strip() if found else f"it took more than {SECONDS:.0f} s"
        if said != word:
            self.close()
            raise RuntimeError(said or "it ended without a word")

    def close(self) -> None:
        """Have it remove what it started."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()


class Peers:
    """All that run here.

    Attributes:
        rows: what is to be timed.
        missing: those that do not run, and why.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.missing: dict[str, str] = {}
        self._running: list[Peer] = []
        if not PYTHON.exists():
            self.missing["others"] = "make bench-peers installs them"
            return
        for name, cls in peer.PEERS.items():
            try:
                one = Peer(name, _image(name))
            except Exception as error:
                self.missing[name] = str(error)
                continue
            self._running.append(one)
            self.rows += [self._row(one, name, word) for word in cls.rows]

    def _row(self, one: Peer, name: str, word: str) -> Row:
        row = Row(f"{name}: {NAMES[word]}", lambda: one.do(word))
        row.failed = lambda error: self.missing.setdefault(name, str(error))
        if word == "fresh":
            row.after, row.whole = lambda _: one.do("end"), f"{row.name}, to its removal"
        if word in ("fresh", "into", "out_of"):  # stopping some of them takes ten seconds
            row.every = 5
        return row

    def close(self) -> None:
        for one in self._running:
            one.close()


def _image(name: str) -> str:
    """Ours; for smolagents, with the kernel gateway that it runs in its container."""
    specs = ["jupyter-kernel-gateway==3.0.1", "ipykernel>=6,<8"] if name == "smolagents" else []
    return derived.prepare(Engine.connect(), images.default_image(), specs)[0]
