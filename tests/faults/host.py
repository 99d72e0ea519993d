"""A process that uses boxes: it reads what to do next, a word a line, and answers each with one line of JSON."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

from agentbox_magic import Sandbox, SandboxError, agent, config, derived, pool
from agentbox_magic.engine import Engine

SLEEP = "import time\nfor n in range(15):\n    print(n)\n    time.sleep(0.1)"
PACKAGE = "colorama"
BIG = 6 * 2**20

_work = Path.cwd()
_box: Sandbox | None = None
_busy = False
_unheard = 0


def shared() -> Sandbox:
    """A box that several of these use one after another; another one when it has ended."""
    global _box
    if _box is None or not _box.is_running():
        _box = None
        _box = Sandbox.create(timeout=20)
    return _box


def create() -> str:
    with Sandbox.create(timeout=20) as box:
        return box.run_code("1").status


def run() -> str:
    return shared().run_code(SLEEP).status


def transfer() -> str:
    source, copy = _work / "source", _work / "copy"
    try:
        source.mkdir(exist_ok=True)
        (source / "big").write_bytes(bytes(BIG))
        for _ in range(3):
            shared().files.upload(source, "there")
            shared().files.download("there", copy)
            shutil.rmtree(copy)
    finally:
        shutil.rmtree(source, ignore_errors=True)
        shutil.rmtree(copy, ignore_errors=True)
    return "ok"


def download() -> str:
    """To a directory of its own, that may be full."""
    shared().files.write("big", bytes(BIG))
    shared().files.download("big", _work / "small" / "copy")
    return "ok"


def refill() -> str:
    config.pool = 2
    try:
        words = set()
        for _ in range(3):
            with Sandbox.create(timeout=20) as box:
                words.add(box.run_code("1").status)
        return " ".join(sorted(words))
    finally:
        config.pool = 0
        pool.current().trim()


def agents() -> str:
    @agent(timeout=20, mem="256m")
    def double(n: int) -> int:
        return 2 * n

    batch = double.map(range(4), concurrency=2)
    return "ok" if list(batch) == [0, 2, 4, 6] else "wrong"


def detached() -> str:
    box = Sandbox.create(timeout=20, detach=True, lifetime=300)
    try:
        first = box.run_code(SLEEP).status
        if first != "ok":
            return first
        box.disconnect()
        box = Sandbox.connect(box.sandbox_id)
        return box.run_code("1").status
    finally:
        box.kill()


def build() -> str:
    engine = Engine.connect()
    name, _ = derived.prepare(engine, None, [PACKAGE])
    engine._client.remove_image(name)
    return "ok"


def fork() -> str:
    """Forks that touch and unwind a box of their parent's."""
    box = shared()
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            try:
                with box:
                    box.run_code("1")
            except SandboxError as error:
                os._exit(0 if "belongs to process" in str(error) else 1)
            os._exit(2)
        if os.waitpid(pid, 0)[1]:
            return "wrong"
    return box.run_code("1").status


def hundred() -> str:
    """A hundred at once: each of them works, or says why not."""

    def one(_: int) -> str:
        try:
            return create()
        except SandboxError as error:
            return type(error).__name__

    with ThreadPoolExecutor(100) as threads:
        words = list(threads.map(one, range(100)))
    return " ".join(f"{words.count(word)}x{word}" for word in sorted(set(words)))


def following() -> str:
    """What comes next works, unless the fault has ended its box, which is found out now."""
    done = shared().run_code("6 * 7")
    return "wrong" if done.status == "ok" and done.text != "42" else done.status


def end() -> str:
    """All is let go."""
    global _box
    if _box is not None:
        _box.kill()
        _box = None
    return "ok"


ALL = (create, run, transfer, download, refill, agents, detached, build, fork, hundred, following, end)
DOES: dict[str, Callable[[], str]] = {one.__name__: one for one in ALL}


def do(name: str) -> dict[str, Any]:
    """One of them, and how it ended, in a word."""
    global _busy
    start, said = time.monotonic(), ""
    try:
        _busy = True
        word = DOES[name]()
        _busy = False
    except KeyboardInterrupt:
        word = "interrupted"
    except SandboxError as error:
        word, said = type(error).__name__, str(error)
    except BaseException as error:
        word, said = f"RAW {type(error).__name__}", traceback.format_exc()
    finally:
        _busy = False
    return {
        "word": word, "said": said, "seconds": round(time.monotonic() - start, 2), "unheard": _unheard,
        "threads": sorted(one.name for one in threading.enumerate()), "fds": len(os.listdir("/proc/self/fd")),
    }  # fmt: skip


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Ctrl-C, where there is something to interrupt."""
    global _unheard
    if _busy:
        raise KeyboardInterrupt
    _unheard += 1


def main() -> None:
    """Until there is nothing more to do."""
    signal.signal(signal.SIGINT, _interrupt)
    print(json.dumps(do("following")), flush=True)
    while line := sys.stdin.readline():
        print(json.dumps(do(line.strip())), flush=True)


if __name__ == "__main__":
    main()
