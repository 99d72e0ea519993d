"""Shell commands in a box: ``box.commands``. The names are E2B's."""

from __future__ import annotations

import json
import queue
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Literal, overload

from agent_executor.wire import ProtocolError
from agentbox_magic import arguments
from agentbox_magic.channel import MAX_REPLY, REQUEST_SECONDS, Call
from agentbox_magic.collector import MAX_OUTPUT, Collector, OnText, signal_name
from agentbox_magic.errors import SandboxError
from agentbox_magic.execution import Execution
from agentbox_magic.link import Link

PIECE = 128 * 1024
START_SECONDS = 60.0
"""How long a command may take to start; less, if its own deadline is sooner."""
LOOK_SECONDS = 20.0
"""How often to look whether a box still answers whose command does not read what is written to it."""


@dataclass(frozen=True)
class CommandResult:
    """How a command ended.

    Attributes:
        stdout: what it wrote; bytes beyond the cap are counted in a line in the middle. Likewise ``stderr``.
        exit_code: its exit status; 128 and the signal's number if a signal ended it, as in a shell.
        error: why it ended, where not by itself: its deadline, the memory limit, a signal; else None.
        dropped_stdout: bytes of stdout that are not in it, because it was longer than its cap. Likewise
            ``dropped_stderr``.
    """

    stdout: str
    stderr: str
    exit_code: int
    error: str | None = None
    dropped_stdout: int = field(default=0, repr=False)
    dropped_stderr: int = field(default=0, repr=False)


class CommandExitException(SandboxError):  # noqa: N818  # E2B's name
    """The command ended with an exit status other than 0. Has the attributes of a :class:`CommandResult`."""

    def __init__(self, result: CommandResult) -> None:
        tail = result.stderr.strip().splitlines()
        why = result.error or f"the command ended with exit status {result.exit_code}"
        super().__init__(why + (f": {tail[-1][:300]}" if tail and not result.error else ""))
        self.result = result
        self.stdout = result.stdout
        self.stderr = result.stderr
        self.exit_code = result.exit_code
        self.error = result.error
        self.dropped_stdout = result.dropped_stdout
        self.dropped_stderr = result.dropped_stderr


@dataclass(frozen=True)
class ProcessInfo:
    """A command that runs.

    Attributes:
        pid: its process in the box.
        cmd: as it was given to ``run``; only its beginning where all that run are too long together.
        cwd: where it was started; None is the box's own directory.
        envs: what was added to its environment; nothing where ``cmd`` is only a beginning.
    """

    pid: int
    cmd: str
    cwd: str | None
    envs: dict[str, str]


class CommandHandle:
    """A command in the background. One thread at a time may wait."""

    def __init__(
        self, commands: Commands, link: Link, call: Call, pid: int, collector: Collector, until: float | None
    ) -> None:
        """Not for callers: :meth:`Commands.run` and :meth:`Commands.connect` give it."""
        self._commands = commands
        self._link = link
        self._until = until
        self._call = call
        self._collector = collector
        self._pid = pid
        self._lock = threading.Lock()
        self._run: Execution | None = None

    @property
    def pid(self) -> int:
        """The command's process in the box."""
        return self._pid

    @property
    def stdout(self) -> str:
        """What it has written up to the last :meth:`wait`."""
        return self._collector.execution.stdout

    @property
    def stderr(self) -> str:
        """Likewise."""
        return self._collector.execution.stderr

    @property
    def exit_code(self) -> int | None:
        """Its exit status; None while it runs."""
        return None if self._run is None else _exit_code(self._run)

    def wait(self, timeout: float | None = None) -> CommandResult:
        """Wait for the end, calling ``on_stdout`` and ``on_stderr`` meanwhile.

        Args:
            timeout: seconds to wait; 0 to look only; None for as long as it takes. The command goes on if it is not
                done by then.

        Raises:
            CommandExitException: the exit status is not 0.
            TimeoutError: it still runs.
        """
        timeout = arguments.patience("timeout", timeout)
        with self._lock:
            if self._run is None:
                try:
                    if timeout is None:
                        self._run = self._link.follow_to_deadline(self._call, self._collector, self._until)
                    else:
                        self._run = self._link.follow(self._call, self._collector, timeout)
                except queue.Empty:
                    raise TimeoutError(f"the command still runs after {timeout:g} s; wait again or kill it") from None
                finally:
                    if self._collector.ended:  # with an error of the caller's own function, perhaps
                        self._run = self._collector.execution
                self._call.__exit__()
        return _result(self._run)

    def interrupt(self) -> None:
        """Interrupt the command as Ctrl-C does; the second time, kill it."""
        self._link.interrupt(self._call)

    def kill(self) -> bool:
        """Kill the command and what it started; False if it had ended."""
        return self._commands.kill(self._pid)

    def send_stdin(self, data: str | bytes) -> None:
        """Write to its stdin, and wait while it does not read. Raises BrokenPipeError, ProcessLookupError."""
        self._commands.send_stdin(self._pid, data)

    def close_stdin(self) -> None:
        """End of file for its stdin."""
        self._commands.close_stdin(self._pid)

    def disconnect(self) -> None:
        """Listen no more; the command goes on, and :meth:`Commands.connect` finds it by its pid."""
        self._call.__exit__()

    def __repr__(self) -> str:
        return f"CommandHandle(pid={self._pid}, exit_code={self.exit_code})"


class Commands:
    """``box.commands``."""

    def __init__(self, link: Link) -> None:
        """Not for callers."""
        self._link = link

    @overload
    def run(
        self, cmd: str, background: Literal[False] = False, *, envs: dict[str, str] | None = ...,
        cwd: str | PurePath | None = ..., stdin: bool = ..., timeout: float | None = ...,
        pty: bool | tuple[int, int] = ..., max_output: int = ...,
        on_stdout: OnText | None = ..., on_stderr: OnText | None = ...,
    ) -> CommandResult: ...  # fmt: skip

    @overload
    def run(
        self, cmd: str, background: Literal[True], *, envs: dict[str, str] | None = ...,
        cwd: str | PurePath | None = ..., stdin: bool = ..., timeout: float | None = ...,
        pty: bool | tuple[int, int] = ..., max_output: int = ...,
        on_stdout: OnText | None = ..., on_stderr: OnText | None = ...,
    ) -> CommandHandle: ...  # fmt: skip

    def run(
        self,
        cmd: str,
        background: bool = False,
        *,
        envs: dict[str, str] | None = None,
        cwd: str | PurePath | None = None,
        stdin: bool = False,
        timeout: float | None = 60,
        pty: bool | tuple[int, int] = False,
        max_output: int = 2**23,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
    ) -> CommandResult | CommandHandle:
        """Run a command with the box's shell.

        Args:
            cmd: the command line.
            background: return a handle at once instead of waiting.
            envs: added to its environment.
            cwd: its directory; None is ``/workspace``.
            stdin: it may be written to, with ``send_stdin``; otherwise it reads nothing.
            timeout: seconds until it is killed; 0 or None for no deadline.
            pty: give it a terminal, of 24 rows and 80 columns or of ``(rows, cols)``; then stderr is in stdout. The box
                must have been created with ``pty=True``.
            max_output: bytes kept of stdout, and as many of stderr: head and tail.
            on_stdout: called with text as it is written, in the thread that waits. Likewise ``on_stderr``.

        Raises:
            TypeError, ValueError: an argument that is not what it should be; nothing has run.
            CommandExitException: the exit status is not 0 (not in the background).
            TimeLimitError, MemoryLimitError: a limit ended it (not in the background).
            OSError: it cannot be started.

        Example:
            >>> from agentbox_magic import Sandbox
            >>> with Sandbox.create() as box:
            ...     box.commands.run("echo hello").stdout
            'hello\\n'
        """
        size = _window(pty)
        wish = {
            "cmd": arguments.word("cmd", cmd),
            "cwd": None if cwd is None else arguments.path("cwd", cwd),
            "envs": arguments.environment("envs", envs, arguments.MAX_ENVS),
        }
        timeout = arguments.seconds("timeout", timeout)
        max_output = arguments.whole("max_output", max_output, 0, MAX_OUTPUT, f"bytes, at most {MAX_OUTPUT}")
        is_read = arguments.flag("stdin", stdin) or size is not None
        arguments.flag("background", background)
        arguments.callback("on_stdout", on_stdout)
        arguments.callback("on_stderr", on_stderr)
        collector = Collector(self._link.limits, timeout, on_stdout, on_stderr, None, max_output=max_output)
        fields: dict[str, Any] = {"timeout": timeout, "max_output": max_output, "stdin": is_read}
        if size is not None:
            fields["pty"] = {"rows": size[0], "cols": size[1]}
        call = self._link.call("command_request", json.dumps(wish).encode(), budget=collector.budget, **fields)
        handle = self._started(call, collector, timeout)
        return handle if background else handle.wait()

    def connect(self, pid: int, *, on_stdout: OnText | None = None, on_stderr: OnText | None = None) -> CommandHandle:
        """Listen to a command that runs, from now on. Raises ProcessLookupError if none has that pid."""
        arguments.callback("on_stdout", on_stdout)
        arguments.callback("on_stderr", on_stderr)
        collector = Collector(self._link.limits, None, on_stdout, on_stderr, None, max_output=MAX_OUTPUT)
        return self._started(
            self._link.call("connect_request", budget=collector.budget, pid=_pid(pid)), collector, None
        )

    def _started(self, call: Call, collector: Collector, timeout: float | None) -> CommandHandle:
        # Before it, so that the time in which nothing starts counts.
        until = self._link.deadline(call, timeout)
        with self._link.guard():
            header, body = call.get(
                START_SECONDS if until is None else max(0.0, min(START_SECONDS, until - time.monotonic()))
            )
            if header["type"] != "started":
                self._link.answer(header, body)
            pid = header.get("pid")
            if not isinstance(pid, int):
                raise ProtocolError("a command without a pid")
        return CommandHandle(self, self._link, call, pid, collector, until)

    def list(self) -> list[ProcessInfo]:
        """The commands that run."""
        return [
            ProcessInfo(int(one["pid"]), str(one["cmd"]), one["cwd"], dict(one["envs"]))
            for one in self._link.info()["commands"]
        ]

    def kill(self, pid: int) -> bool:
        """Kill a command and what it started; False if none has that pid."""
        try:
            self._link.request("signal_request", pid=_pid(pid), signal=int(signal.SIGKILL))
        except ProcessLookupError:
            return False
        return True

    def send_stdin(self, pid: int, data: str | bytes) -> None:
        """Write to a command's stdin, and wait while it does not read.

        Raises:
            ProcessLookupError: no command has that pid.
            BrokenPipeError: it was started without stdin, or that is closed.
            OutcomeUnknownError: the box itself does not answer within a minute.
        """
        pid = _pid(pid)
        raw = arguments.text("data", data).encode() if isinstance(data, str) else data
        if not isinstance(raw, (bytes, bytearray)):
            raise TypeError(f"data is {arguments.shown(data)}, of type {type(data).__name__}; give text or bytes")
        for start in range(0, len(raw), PIECE):
            self._write(pid, raw[start : start + PIECE])

    def close_stdin(self, pid: int) -> None:
        """End of file for a command's stdin."""
        self._write(_pid(pid), b"", eof=True)

    def _write(self, pid: int, piece: bytes, **fields: Any) -> None:
        """The command may take as long as it likes to read; the box, as long as for any other request."""
        link = self._link
        with link.call("input_request", piece, budget=MAX_REPLY, pid=pid, **fields) as call, link.guard():
            while True:
                try:
                    link.answer(*call.get(LOOK_SECONDS))
                    return
                except queue.Empty:
                    link.info(REQUEST_SECONDS - LOOK_SECONDS)


def _pid(value: int) -> int:
    return arguments.whole("pid", value, -(2**31), 2**31 - 1, "the number of a process, such as handle.pid")


def _window(pty: object) -> tuple[int, int] | None:
    """
    >>> _window(True), _window((50, 100)), _window(False)
    ((24, 80), (50, 100), None)
    """
    if isinstance(pty, bool):
        return (24, 80) if pty else None
    if not isinstance(pty, (tuple, list)) or len(pty) != 2:
        raise TypeError(f"pty is {arguments.shown(pty)}; give True, or (rows, columns)")
    form = "rows and columns from 1 to 65535, such as (24, 80)"
    rows, cols = (arguments.whole("pty", one, 1, 2**16 - 1, form) for one in pty)
    return rows, cols


def _exit_code(run: Execution) -> int:
    if run.exit_code is not None:
        return run.exit_code
    return 128 + (run.signal or int(signal.SIGINT if run.status == "interrupted" else signal.SIGKILL))


def _result(run: Execution) -> CommandResult:
    if run.status in ("timeout", "oom", "lost") or (run.status == "killed" and run.signal is None):
        run.raise_for_status()
    why = f"the command was killed by {signal_name(run.signal)}" if run.signal else None
    result = CommandResult(run.stdout, run.stderr, _exit_code(run), why, run.dropped_stdout, run.dropped_stderr)
    if result.exit_code != 0:
        raise CommandExitException(result)
    return result
