"""An engine that may be stopped, frozen and filled, hosts that use it, and what must be true when a fault is over."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from own_engine import OwnEngine, answers, load_image, short_folder
from waiting import seconds_until

from agentbox_magic import hardening, relay

HOST = Path(__file__).with_name("host.py")
GONE_SECONDS = 30.0
"""How long what is left may take to go; what a user is promised is less, on a machine that is his alone."""


class World:
    """An engine of our own, with its data in memory.

    Attributes:
        engine: the engine.
        work: where the hosts work; they have their temporary files below it.
    """

    def __init__(self, engine: OwnEngine, work: Path) -> None:
        self.engine = engine
        self.work = work
        self.known: set[str] = set()
        (work / "tmp").mkdir()

    # -- who is there -------------------------------------------------------------------------------------------------

    def docker(self, *words: str) -> list[str]:
        """The lines that the engine's own client prints."""
        done = subprocess.run(
            ["docker", "--host", self.engine.host, *words], check=False, capture_output=True, text=True, timeout=120
        )
        return done.stdout.splitlines()

    def containers(self) -> list[str]:
        """What there is of boxes."""
        lines = self.docker(
            "ps", "-a", "--no-trunc", "--format={{.ID}} {{.State}}", f"--filter=label={hardening.LABEL}=sandbox"
        )
        # Killed in the middle of a removal, engine 20.10 lists what it says does not exist, until it is started again.
        found = [line.split()[0] for line in lines if not line.endswith(" dead")]
        self.known.update(found)
        return found

    def processes(self) -> list[psutil.Process]:
        """Those that hosts have started, and the hosts."""

        def is_ours(process: psutil.Process) -> bool:
            with contextlib.suppress(psutil.Error):
                ours = process.environ().get("DOCKER_HOST") == self.engine.host
                return ours and process.status() != psutil.STATUS_ZOMBIE
            return False

        return [one for one in psutil.process_iter() if is_ours(one)]

    def part(self, name: str) -> list[psutil.Process]:
        """The processes of one part of the engine's, or of what is around a box."""
        assert self.engine.process is not None
        folder = str(self.engine.folder)
        if name == "dockerd":
            return [psutil.Process(self.engine.process.pid)]

        def words(process: psutil.Process) -> str:
            with contextlib.suppress(psutil.Error):
                return " ".join(process.cmdline())
            return ""

        found = [one for one in psutil.process_iter() if name in words(one).split(" ", 1)[0] + " " + words(one)]
        if name == "relay":
            return [one for one in self.processes() if "agentbox_magic.relay" in words(one)]
        if name == "shim":
            return [one for one in found if "containerd-shim" in words(one) and folder in words(one)]
        return [one for one in found if words(one).startswith("containerd ") and folder in words(one)]

    # -- what is done -------------------------------------------------------------------------------------------------

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to one part; how many processes of it there were."""
        found = self.part(name)
        for one in found:
            with contextlib.suppress(psutil.Error):
                one.send_signal(number)
        return len(found)

    def mend(self) -> None:
        """Have the engine answer again, whatever was done to it, and able to run a container."""
        for name in ("dockerd", "containerd", "shim", "relay"):
            with contextlib.suppress(psutil.Error):
                self.signal(name, signal.SIGCONT)
        assert self.engine.process is not None
        if self.engine.process.poll() is not None or not psutil.pid_exists(self.engine.process.pid):
            self.engine.process.wait()
            # What it left, as the service manager of a machine sees to it.
            for one in self.part("containerd"):
                with contextlib.suppress(psutil.Error):
                    one.kill()
                    one.wait(10)
            # A pid file that outlived its process, which may be a zombie, keeps the next one from starting.
            for stale in ("pid", "exec/containerd/containerd.pid"):
                (self.engine.folder / stale).unlink(missing_ok=True)
            self.engine.start()
        seconds_until(lambda: answers(self.engine.host), within=60)
        seconds_until(lambda: bool(self.part("containerd")), within=60)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Nothing more fits on the engine's disk."""
        data = self.engine.folder / "data"
        used = shutil.disk_usage(data).used
        subprocess.run(["mount", "-o", f"remount,size={used // 1024}k", str(data)], check=True)
        try:
            yield
        finally:
            subprocess.run(["mount", "-o", "remount,size=2500m", str(data)], check=True)

    # -- what must be true --------------------------------------------------------------------------------------------

    def left(self, *, watched: bool = False) -> list[str]:
        """What there is that should not be, once all hosts have ended.

        Args:
            watched: whether what acts for a dead process may still be there: it looks for what may yet appear.
        """
        found = [f"container {one[:12]}" for one in self.containers()]
        if not watched:
            found += [f"process {one.pid}" for one in self.processes()]
        for own in ("source", "copy"):  # a host's own files, which it was killed with
            shutil.rmtree(self.work / own, ignore_errors=True)
        found += [f"file {one}" for one in self.work.rglob("*") if one.name != "tmp"]
        for one in relay.folder().iterdir():
            if any(container.startswith(one.stem) for container in self.known):
                found.append(f"socket {one}")
        return found

    def forget_detached(self) -> None:
        """Boxes that are to outlive their host are no remains of it."""
        for one in self.docker("ps", "-q", "--no-trunc", f"--filter=label={hardening.MAKER}"):
            self.known.add(one)
            self.docker("rm", "-f", one)
        for process in self.part("relay"):
            with contextlib.suppress(psutil.Error):
                process.terminate()


class Host:
    """A process that uses boxes."""

    def __init__(self, world: World) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HOST)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=world.work,
            env={**os.environ, "DOCKER_HOST": world.engine.host, "AGENTBOX_POOL": "0", "TMPDIR": f"{world.work}/tmp"},
        )  # fmt: skip
        self.first = self.answer(120)

    def begin(self, what: str) -> None:
        """Have it do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()

    def answer(self, within: float) -> dict[str, Any]:
        """How it ended; the word is ``hangs`` if it has not."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], within)[0]:
            return {"word": "hangs", "said": "", "seconds": within, "threads": [], "fds": 0, "unheard": 0}
        line = self.process.stdout.readline()
        if not line:
            return {"word": "died", "said": "", "seconds": 0.0, "threads": [], "fds": 0, "unheard": 0}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def does(self, what: str, within: float = 120) -> dict[str, Any]:
        """Have it do something, and wait."""
        self.begin(what)
        return self.answer(within)

    def kill(self) -> None:
        """At once."""
        self.process.kill()
        self.close()

    def close(self) -> None:
        """Have it end, and wait."""
        with contextlib.suppress(BrokenPipeError), self.process:
            pass


def wait_for_nothing(world: World, *, watched: bool, within: float = GONE_SECONDS) -> tuple[float, list[str]]:
    """How long it took until nothing was left, and what was left after all; ``watched`` as in :meth:`World.left`."""
    start = time.monotonic()
    while True:
        left = world.left(watched=watched)
        if not left or time.monotonic() - start > within:
            return time.monotonic() - start, left
        time.sleep(0.1)  # between two looks


@contextlib.contextmanager
def world() -> Iterator[World]:
    """Start an engine with our image."""
    with short_folder("faults") as folder, short_folder("faults-work") as work:
        data = folder / "data"
        data.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2500m", "tmpfs", str(data)], check=True)
        engine = OwnEngine(folder, {})
        try:
            engine.start()
            load_image(engine.host)
            yield World(engine, work)
        finally:
            engine.end()
            for path in (folder / "exec", data):
                subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True)
