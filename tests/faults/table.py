"""What is done to whom, in the middle of what, how often, and what is seen: the rows of ``docs/faults.md``."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from faults.world import Host, World, wait_for_nothing

PHASES = ("create", "run", "transfer", "refill", "agents", "detached", "build")
"""What a host is in the middle of."""
CALLS = PHASES[:-1]
"""Those that are over soon: what is done to the engine is done to each of them."""
SECONDS = {"create": 0.6, "run": 1.5, "transfer": 1.0, "refill": 1.5, "agents": 2.5, "detached": 3.0, "build": 5.0}
"""About how long each takes: faults come at a random moment of that."""
FROZEN_SECONDS = 3.0

RIGHT = {
    "ok", "lost", "interrupted", "EngineUnavailableError", "OutcomeUnknownError", "SandboxClosedError", "SandboxError",
    "ImageError", "TransferError",
}  # fmt: skip
"""Words that do not blame the code: it did nothing wrong in any of this."""


@dataclass
class Row:
    """One kind of fault.

    Attributes:
        what: was done.
        when: in the middle of what.
        times: how often.
        words: how the calls that it hit ended, and how often.
        slowest: seconds until nothing was left, at most.
        wrong: what should not be.
    """

    what: str
    when: str
    times: int = 0
    words: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def note(self, answer: dict[str, Any], right: set[str]) -> None:
        """How a call ended."""
        self.times += 1
        self.words[answer["word"]] += 1
        said = answer["said"]
        if not set(answer["word"].split(" ")) <= right:
            self.wrong.append(f"{self.when}: {answer['word']} {said[-600:]}")
        elif len(said.splitlines()) > 2:
            self.wrong.append(f"{self.when}: more than two lines: {said}")

    def check(self, what: str, good: bool) -> None:
        """Something that must be."""
        if not good:
            self.wrong.append(f"{self.when}: {what}")


class Table:
    """The rows so far, and the dice."""

    def __init__(self, world: World, seed: int = 1) -> None:
        self.world = world
        self.rows: dict[tuple[str, str], Row] = {}
        self._left: set[str] = set()
        self.rng = random.Random(seed)  # noqa: S311  # moments, no secrets

    def row(self, what: str, when: str) -> Row:
        return self.rows.setdefault((what, when), Row(what, when))

    def moment(self, phase: str) -> None:
        """Let a random part of a phase go by."""
        time.sleep(self.rng.uniform(0, SECONDS[phase]))

    def settle(self, row: Row, host: Host | None) -> None:
        """The host ends, and nothing may be left."""
        if host is not None:
            answer = host.does("end")
            row.check(f"the end: {answer}", answer["word"] == "ok")
            host.close()
            row.check(f"the host ended with {host.process.returncode}", host.process.returncode == 0)
        seconds, left = wait_for_nothing(self.world, watched=host is None)
        row.slowest = max(row.slowest, seconds)
        more = [one for one in left if one not in self._left]  # each is told once
        self._left.update(left)
        row.check(f"left after {seconds:.0f} s: {more}", not more)

    # -- the faults ---------------------------------------------------------------------------------------------------

    def kills(self, times: int, phases: Sequence[str] = PHASES) -> None:
        """kill -9 of the host."""
        for number in range(times):
            phase = phases[number % len(phases)]
            row = self.row("kill -9 of the host process", phase)
            host = Host(self.world)
            self.world.containers()
            host.begin(phase)
            self.moment(phase)
            self.world.containers()
            host.kill()
            row.times += 1
            if phase == "detached":
                self.world.forget_detached()
            self.settle(row, None)
        self._works(self.row("kill -9 of the host process", "the next host"))

    def _works(self, row: Row) -> None:
        host = Host(self.world)
        row.note(host.first, {"ok"})
        self.settle(row, host)

    def interrupts(self, times: int, phases: Sequence[str] = PHASES) -> None:
        """Ctrl-C, again and again in one host, whose threads and descriptors are counted."""
        host = Host(self.world)
        for phase in phases:  # warm
            answer = host.does(phase)
            self.row("SIGINT", phase).check(
                f"before it: {answer['word']} {answer['said'][-300:]}", answer["word"] == "ok"
            )
        before = host.does("following")
        for number in range(times):
            phase = phases[number % len(phases)]
            row = self.row("SIGINT", phase)
            host.begin(phase)
            self.moment(phase)
            host.process.send_signal(signal.SIGINT)
            answer = host.answer(15)
            if (
                answer["word"] == "hangs"
            ):  # a signal just before a system call is heard after it: a person presses again
                host.process.send_signal(signal.SIGINT)
                answer = host.answer(60)
            row.note(answer, {"ok", "interrupted"})
            following = host.does("following")
            row.check(f"the next call: {following['word']} {following['said']}", following["word"] == "ok")
        row = self.row("SIGINT", "all")
        row.times = times
        deadline = time.monotonic() + 30
        while (after := host.does("following")) and time.monotonic() < deadline:
            if len(after["threads"]) <= len(before["threads"]) and after["fds"] <= before["fds"] + 8:
                break
            time.sleep(0.5)  # what is let go in the background
        row.check(
            f"threads {before['threads']} became {after['threads']}", len(after["threads"]) <= len(before["threads"])
        )
        row.check(f"{before['fds']} descriptors became {after['fds']}", after["fds"] <= before["fds"] + 8)
        self.settle(row, host)

    def parts(self, part: str, number: signal.Signals, phases: Sequence[str], *, until_told: bool = False) -> None:
        """A part of the engine, or of what is around a box, is killed, or frozen: for a few seconds, or until the host
        has given up."""
        frozen = number == signal.SIGSTOP
        how = f"{number.name} of {part}" + (
            ", until the call has ended" if until_told else "" if not frozen else ", 3 s"
        )
        for phase in phases:
            row = self.row(how, phase)
            host = Host(self.world)
            self.world.containers()
            host.begin(phase)
            self.moment(phase)
            hit = self.world.signal(part, number)
            if not hit:
                row.words["(it was not there)"] += 1
            if frozen and not until_told:
                time.sleep(FROZEN_SECONDS)
                self.world.signal(part, signal.SIGCONT)
            answer = host.answer(150)
            self.world.mend()
            row.note(answer, RIGHT)
            following = host.does("following")
            for _ in range(20):  # a containerd that starts anew takes its time
                if following["word"] == "ok":
                    break
                row.check(f"the next call: {following['word']} {following['said']}", following["word"] in RIGHT)
                time.sleep(1)
                following = host.does("following")
            row.check(f"the next call: {following['word']} {following['said']}", following["word"] == "ok")
            if phase == "detached":  # nobody could end it meanwhile
                self.world.forget_detached()
            self.settle(row, host)

    def forks(self, times: int) -> None:
        row = self.row("a fork touches and unwinds its parent's box", "5 forks each")
        host = Host(self.world)
        for _ in range(times):
            row.note(host.does("fork"), {"ok"})
        self.settle(row, host)

    def crowds(self, times: int) -> None:
        row = self.row("a hundred boxes created at once", "create")
        host = Host(self.world)
        for _ in range(times):
            row.note(host.does("hundred", 400), {"100xok"})
            row.check("the next call", host.does("following")["word"] == "ok")
        self.settle(row, host)

    def full_disks(self, phases: Sequence[str] = ("create", "detached", "build", "TMPDIR", "download")) -> None:
        """Each disk in turn has no room."""
        here = {"TMPDIR": ("tmp", "build", {"ImageError"}), "download": ("small", "download", {"TransferError"})}
        there = "the data root of the engine"
        for phase in phases:
            folder, does, right = here.get(phase, (there, phase, {"SandboxError", "ImageError"}))
            row = self.row(f"disk full: {folder}", does)
            host = Host(self.world)
            with self.world.full() if phase not in here else self._small(self.world.work / folder):
                answer = host.does(does)
            row.note(answer, right)
            row.check(f"its words: {answer['said']}", "cannot be written" in answer["said"])
            following = host.does("following")
            row.check(f"the next call: {following['word']} {following['said']}", following["word"] == "ok")
            self.settle(row, host)

    @contextlib.contextmanager
    def _small(self, folder: Path) -> Iterator[None]:
        """A file system that is full at once."""
        is_new = not folder.exists()
        folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
        try:
            yield
            assert not list(folder.iterdir())
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
            if is_new:
                folder.rmdir()

    # -- what is seen -------------------------------------------------------------------------------------------------

    def markdown(self) -> str:
        """The table."""
        lines = [
            "| fault | in the middle of | times | how the calls ended | nothing left after | not as it should be |",
            "| --- | --- | ---: | --- | ---: | ---: |",
        ]
        for row in self.rows.values():
            words = ", ".join(f"{count} {word}" for word, count in sorted(row.words.items()))
            lines.append(
                f"| {row.what} | {row.when} | {row.times} | {words} | {row.slowest:.1f} s | {len(row.wrong)} |"
            )
        return "\n".join(lines) + "\n"

    @property
    def wrong(self) -> list[str]:
        """All that should not be."""
        return [f"{row.what}, {one}" for row in self.rows.values() for one in row.wrong]


def everything(table: Table, say: Callable[[str], object] = print) -> None:
    """The whole of it."""
    stop, kill = signal.SIGSTOP, signal.SIGKILL
    steps: list[Callable[[], object]] = [
        lambda: table.full_disks(),
        lambda: table.forks(4),
        lambda: table.kills(60),
        lambda: table.interrupts(100, CALLS),
        lambda: table.parts("dockerd", kill, CALLS),
        lambda: table.parts("dockerd", stop, CALLS),
        lambda: table.parts("containerd", kill, CALLS),
        lambda: table.parts("containerd", stop, CALLS),
        lambda: table.parts("shim", kill, CALLS),
        lambda: table.parts("shim", stop, CALLS),
        lambda: table.parts("relay", kill, ["detached"] * 3),
        lambda: table.parts("relay", stop, ["detached"] * 3),
        lambda: table.parts("dockerd", stop, ["create", "run", "transfer"], until_told=True),
        lambda: table.crowds(1),
    ]
    for step in steps:
        before = {key: len(row.wrong) for key, row in table.rows.items()}
        try:
            step()
        except Exception as error:  # the rest is worth knowing all the same
            table.row("the suite itself", "").wrong.append(repr(error))
            for one in table.world.processes():
                with contextlib.suppress(psutil.Error):
                    one.kill()
            table.world.mend()
        say(table.markdown().splitlines()[-1])
        for key, row in table.rows.items():
            for one in row.wrong[before.get(key, 0) :]:
                say(f"   WRONG {row.what}, {one}")
        sys.stdout.flush()
