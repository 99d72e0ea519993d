"""What the verbs of the ``agentbox`` command do. Another one is a function here and its options in ``cli.py``."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import tokenize
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TextIO

from agentbox_magic import arguments, config, hardening
from agentbox_magic.errors import (
    ExecutionInterrupted,
    MemoryLimitError,
    SandboxClosedError,
    SandboxError,
    TimeLimitError,
)
from agentbox_magic.limits import format_size
from agentbox_magic.text import Cleaner, clean

if TYPE_CHECKING:
    from agentbox_magic.commands import CommandHandle
    from agentbox_magic.execution import Execution
    from agentbox_magic.records import SandboxInfo
    from agentbox_magic.sandbox import Sandbox

# What loads docker is imported by the verbs that need it: --help and mistakes are answered at once.

OWN_FAILURE = 125
USAGE = 2
DEADLINE = 124
OUT_OF_MEMORY = 137
INTERRUPTED = 130

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Outcome:
    """What a verb has done: for ``--json``, for people, and as an exit code."""

    document: dict[str, Any] | list[dict[str, Any]]
    text: str = ""
    code: int = 0


class UsageError(Exception):
    """A wrong command line."""


# -- the verbs ---------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> Outcome:
    from agentbox_magic.sandbox import Sandbox

    if options.code is not None:
        code = options.code
    elif options.file == "-":
        code = sys.stdin.read()
    elif options.file is not None:
        code = _read(Path(options.file))
    else:
        raise UsageError("run needs a FILE, - for stdin, or -c CODE")
    language = options.language or ("bash" if str(options.file).endswith(".sh") else "python")
    out, err = _Screen(sys.stdout, options.json), _Screen(sys.stderr, options.json)
    with Sandbox.create(**_box_options(options), timeout=options.timeout, progress=_progress) as box:
        try:
            run = box.run_code(code, language=language, on_stdout=out, on_stderr=err)
        except ExecutionInterrupted as stop:
            run = stop.execution
    code = _exit_code(run)
    if run.error is not None and run.exit_code is None:  # which says it all
        err("\n".join(run.error._render_traceback_()) + "\n")
    text = "" if run.text is None else clean(run.text, colour=False)
    return Outcome(json.loads(run.to_json()), text, code)


def _read(path: Path) -> str:
    """A file of code, as Python and editors read one: a BOM and a coding line say what it is written in."""
    raw = path.read_bytes()
    encoding = "utf-8-sig"
    if path.suffix == ".py":
        try:
            encoding = tokenize.detect_encoding(io.BytesIO(raw).readline)[0]
        except SyntaxError as error:
            raise ValueError(f"{path}: {error.msg}; save it as UTF-8, or say what it is written in") from None
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not {encoding}: {error.reason}; save it as UTF-8") from None


def _exit_code(run: Execution) -> int:
    """What a shell would say of a run."""
    if run.exit_code is not None:
        return run.exit_code & 0xFF
    codes = {"ok": 0, "error": 1, "timeout": DEADLINE, "oom": OUT_OF_MEMORY, "interrupted": INTERRUPTED}
    return codes.get(run.status, OWN_FAILURE)


def init(options: argparse.Namespace) -> Outcome:
    from agentbox_magic.sandbox import Sandbox

    metadata = _pairs(options.metadata)
    lifetime = arguments.duration("timeout", options.timeout)
    if options.name is not None:
        if not _NAME.fullmatch(options.name):
            raise ValueError(f"{options.name} cannot be a name; use letters, digits, and _ . - after the first")
        if any(info.metadata.get(hardening.NAME) == options.name for info in Sandbox.list()):
            raise ValueError(f"there is a sandbox with the name {options.name}; choose another, or kill that one")
        metadata[hardening.NAME] = options.name
    if options.use_pool:
        config.pool = None
    box = Sandbox.create(
        **_box_options(options), detach=True, lifetime=lifetime, metadata=metadata, pty=options.pty,
        use_pool=options.use_pool, progress=_progress,
    )  # fmt: skip
    box.disconnect()
    document = {"id": box.sandbox_id, "name": options.name, "lifetime": lifetime, "limits": asdict(box.limits)}
    return Outcome(document, box.sandbox_id)


def execute(options: argparse.Namespace) -> Outcome:
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not words:
        raise UsageError("exec needs a command")
    line = words[0] if len(words) == 1 else shlex.join(words)
    stdin = not options.background and sys.stdin is not None and not sys.stdin.isatty()
    out, err = _Screen(sys.stdout, options.json), _Screen(sys.stderr, options.json)
    with _connected(options.id) as box:
        handle = box.commands.run(
            line,
            background=True,
            cwd=options.cwd,
            envs=_pairs(options.env),
            stdin=stdin,
            timeout=options.timeout,
            max_output=2**26,
            on_stdout=out,
            on_stderr=err,
        )
        if options.background:
            return Outcome({"pid": handle.pid}, str(handle.pid))
        return _follow(handle, stdin)


def _follow(handle: CommandHandle, stdin: bool) -> Outcome:
    """Wait for a command. An interrupt is the command's; a second one, or a termination of ours, kills it."""
    from agentbox_magic.commands import CommandExitException

    signal.signal(signal.SIGINT, lambda *_: handle.interrupt())
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: threading.Thread(target=handle.kill).start())
    if stdin:
        threading.Thread(target=_feed, args=(handle,), daemon=True).start()
    error = None
    try:
        result = handle.wait()
        code, stdout, stderr = 0, result.stdout, result.stderr
    except CommandExitException as ended:
        code, stdout, stderr, error = ended.exit_code, ended.stdout, ended.stderr, ended.error
    except (TimeLimitError, MemoryLimitError) as ended:
        code = DEADLINE if isinstance(ended, TimeLimitError) else OUT_OF_MEMORY
        stdout, stderr, error = handle.stdout, handle.stderr, str(ended)
    except BaseException:  # nobody reads what it writes any more
        with contextlib.suppress(SandboxError, OSError):
            handle.kill()
        raise
    if error is not None:
        print(f"agentbox: {error}", file=sys.stderr)
    return Outcome({"stdout": stdout, "stderr": stderr, "exit_code": code, "error": error}, code=code)


def _feed(handle: CommandHandle) -> None:
    """Our stdin to the command's, until either ends."""
    with contextlib.suppress(OSError, SandboxError):
        while data := os.read(sys.stdin.fileno(), 2**17):
            handle.send_stdin(data)
        handle.close_stdin()


def upload(options: argparse.Namespace) -> Outcome:
    remote = options.remote
    if remote.endswith("/") or remote == ".":
        remote = str(PurePosixPath(remote, Path(options.local).resolve().name))
    with _connected(options.id) as box:
        done = box.files.upload(options.local, remote)
    return Outcome({"path": remote, **asdict(done)}, _transfer(done.files, done.size, done.skipped, remote))


def download(options: argparse.Namespace) -> Outcome:
    local = Path(options.local)
    if local.is_dir():
        local /= PurePosixPath(options.remote).name
    with _connected(options.id) as box:
        done = box.files.download(options.remote, local)
    return Outcome({"path": str(local), **asdict(done)}, _transfer(done.files, done.size, done.skipped, str(local)))


def _transfer(files: int, size: int, skipped: int, target: str) -> str:
    odd = f"; {skipped} that are neither files nor directories stayed" if skipped else ""
    return f"{files} file{'' if files == 1 else 's'}, {format_size(size)}, to {target}{odd}"


def get_host(options: argparse.Namespace) -> Outcome | None:
    if options.detach:
        return _get_host_detached(options)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    with _connected(options.id) as box:
        forward = box.forward(options.port, lambda note: print(f"agentbox: {note}", file=sys.stderr, flush=True))
        print_outcome(Outcome(_address(forward.host, os.getpid()), f"http://{forward.host}"), options.json)
        with contextlib.suppress(KeyboardInterrupt):
            while not forward.wait(3600):
                pass
    return None


def _get_host_detached(options: argparse.Namespace) -> Outcome:
    """The same in a process of its own, which ends with the box."""
    box = _find(options.id).sandbox_id
    command = [sys.executable, "-m", "agentbox_magic.cli", "get-host", "--json", box, str(options.port)]
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        cwd="/",
    )  # fmt: skip
    assert child.stdout is not None
    said = json.loads(child.stdout.readline() or "{}")
    if "host" not in said:
        child.wait()
        raise SandboxError(said.get("error", {}).get("message", "the forwarding process did not start"))
    return Outcome(said, said["url"])


def _address(host: str, pid: int) -> dict[str, Any]:
    return {"host": host, "url": f"http://{host}", "pid": pid}


def kill(options: argparse.Namespace) -> Outcome:
    from agentbox_magic.engine import Engine

    boxes = [_find(one).sandbox_id for one in options.ids]
    for box in boxes:
        Engine.connect().remove(box)
    return Outcome({"killed": boxes}, "\n".join(boxes))


def ps(options: argparse.Namespace) -> Outcome:
    from agentbox_magic.sandbox import Sandbox

    now = datetime.now(timezone.utc)
    documents, rows = [], [("ID", "NAME", "IMAGE", "STATE", "AGE", "LIMITS", "ENDS")]
    for info in Sandbox.list():
        name, limits = info.metadata.get(hardening.NAME), info.limits
        documents.append({**_document(info), "limits": asdict(limits)})
        rows.append(
            (
                info.sandbox_id[:12],
                clean(name or "-", colour=False),
                info.image[:40],
                info.state,
                f"{(now - info.started_at).total_seconds():.0f} s",
                f"{format_size(limits.mem)}, {limits.cpus:g} cpus, {limits.pids} pids",
                "by itself" if info.detached else "with its owner",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return Outcome(documents, "\n".join(lines))


def _document(info: SandboxInfo) -> dict[str, Any]:
    return {
        "id": info.sandbox_id, "name": info.metadata.get(hardening.NAME), "state": info.state, "image": info.image,
        "started_at": info.started_at.isoformat(), "detached": info.detached, "metadata": info.metadata,
    }  # fmt: skip


def build(options: argparse.Namespace) -> Outcome:
    from agentbox_magic import images
    from agentbox_magic.engine import Engine

    name = images.build(Engine.connect(), _progress)
    return Outcome({"image": name}, name)


def prune(options: argparse.Namespace) -> Outcome:
    from agentbox_magic import reaper, relay, shared_pool
    from agentbox_magic.engine import Engine

    engine = Engine.connect()
    removed, waiting = reaper.sweep(engine), shared_pool.drain(engine)
    relay.sweep()
    text = f"removed {len(removed)} ownerless boxes, and {len(waiting)} that waited"
    return Outcome({"removed": removed, "waiting": waiting}, text)


def doctor(options: argparse.Namespace) -> Outcome:
    from agentbox_magic import doctor
    from agentbox_magic.engine import Engine

    report = doctor.run(Engine.connect(), options.runtime, _progress)
    return Outcome(report.to_dict(), str(report), 0 if report.ok else 1)


def mcp(options: argparse.Namespace) -> None:
    """Speak the Model Context Protocol on stdin and stdout, until the client closes them."""
    try:
        import anyio

        from agentbox_magic.integrations import mcp_server
    except ImportError as error:
        raise SandboxError(f"{error}; agentbox mcp needs more: pip install 'agentbox-magic[mcp]'") from error
    from agentbox_magic.integrations.toolset import Toolset

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    with Toolset(**_box_options(options), timeout=options.timeout, progress=_progress) as tools:
        anyio.run(mcp_server.serve, tools)


# -- what they share ---------------------------------------------------------------------------------------------------


class _Screen:
    """Text of a box on its way out: cleaned where a person's terminal would act on it, and nothing with ``--json``."""

    def __init__(self, stream: TextIO, silent: bool) -> None:
        self._stream = stream
        self._silent = silent
        self._clean: Callable[[str], str] = Cleaner().feed if stream.isatty() else str

    def __call__(self, text: str) -> None:
        if not self._silent:
            self._stream.write(self._clean(text))
            self._stream.flush()


def print_outcome(outcome: Outcome, as_json: bool) -> None:
    text = json.dumps(outcome.document) if as_json else outcome.text
    if text:
        print(text, flush=True)


def _progress(text: str, part: float) -> None:
    print(f"{part:4.0%} {text}", file=sys.stderr, flush=True)


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"{text} is not NAME=VALUE")
        pairs[name] = value
    return pairs


def _box_options(options: argparse.Namespace) -> dict[str, Any]:
    from agentbox_magic import packages

    def listed(texts: Sequence[str]) -> list[str]:
        return [one for text in texts for one in packages.split(text)]

    return {
        "mem": options.mem, "cpus": options.cpus, "pids": options.pids, "image": options.image,
        "runtime": options.runtime, "network": options.network, "packages": listed(options.packages),
        "preload": listed(options.preload), "env": _pairs(options.env), "cwd": options.cwd,
    }  # fmt: skip


def _find(text: str) -> SandboxInfo:
    """The box with a name, or the one whose id begins so."""
    from agentbox_magic.sandbox import Sandbox

    boxes = Sandbox.list()
    found = [one for one in boxes if one.metadata.get(hardening.NAME) == text] or [
        one for one in boxes if text and one.sandbox_id.startswith(text)
    ]
    if not found:
        raise SandboxClosedError(f"there is no sandbox {text}; agentbox ps lists those there are")
    if len(found) > 1:
        raise ValueError(f"{len(found)} sandboxes begin with {text}; give more of the id")
    return found[0]


@contextlib.contextmanager
def _connected(text: str) -> Any:
    """A detached box, let go at the end."""
    from agentbox_magic.sandbox import Sandbox

    box: Sandbox = Sandbox.connect(_find(text).sandbox_id)
    try:
        yield box
    finally:
        box.disconnect()
