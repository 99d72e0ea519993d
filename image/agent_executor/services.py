"""What the host asks of a box beside code: commands, files and ports, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from agent_executor import commands, wire
from agent_executor.cgroup import Cgroup
from agent_executor.children import DEAF, Child, Children
from agent_executor.hostpipe import HostPipe, RefusedError
from agent_executor.runs import Run, environment
from agent_executor.wire import Header

STDIN_ROOM = 256 * 1024
"""Bytes waiting in a command's stdin up to which more are taken at once."""

MAX_TOLD = 2 * 1024 * 1024
"""Bytes of an answer that all commands may take together."""

FROM_FILES = frozenset({"data", "entry", "ack", "event", "more", "reply"})
FROM_FORWARD = frozenset({"forward"})


def told(commands: list[tuple[int, bytes]]) -> list[dict[str, Any]]:
    """The commands that run, in an answer of bounded length: where one is longer than its share, its beginning.

    >>> told([(7, b'{"cmd": "ls", "cwd": null, "envs": {}}')])
    [{'pid': 7, 'cmd': 'ls', 'cwd': None, 'envs': {}}]
    """
    share = MAX_TOLD // max(1, len(commands))
    found = []
    for pid, payload in commands:
        wish = json.loads(payload)
        if len(payload) > share:  # a character is twelve bytes at most
            wish.update(cmd=wish["cmd"][: share // 12], envs={})
        found.append({"pid": pid, **wish})
    return found


class Services:
    """Starts these processes, and answers what is asked of them. Their end is the supervisor's to notice.

    Attributes:
        handlers: by the type of a request.
        told: variables that the box was told after its start, for what runs in it.
    """

    def __init__(self, children: Children, host: HostPipe, cgroup: Cgroup) -> None:
        self._children = children
        self._host = host
        self._cgroup = cgroup
        self.told: dict[str, str] = {}
        self.handlers: dict[str, Callable[[Header, bytes], None]] = {
            "command_request": self._command,
            "connect_request": self._connect,
            "input_request": self._input,
            "signal_request": self._signal_command,
            "files_request": self._files,
            "files_input": self._files_input,
            "forward_request": self._forward,
            "forward_input": self._forward_input,
        }

    def take(self, child: Child, header: Header, body: bytes) -> None:
        """Pass on what a file operation or a port sent."""
        if header["type"] not in (FROM_FILES if child.kind == "files" else FROM_FORWARD):
            raise wire.ProtocolError(f"{child.kind} sent {header['type']}")
        if child.request is not None:
            self._host.pass_on(header, body, child.request)
        if header["type"] == "reply" and not header.get("more"):
            child.request = None

    # -- commands -----------------------------------------------------------------------------------------------------

    def _command(self, header: Header, payload: bytes) -> None:
        wish = json.loads(payload)
        if header.get("pty") is not None and not os.path.exists("/dev/ptmx"):
            raise RefusedError("ENOTTY", "this box has no terminals; create it with pty=True")

        if "\0" in wish["cmd"] + (wish["cwd"] or ""):
            raise RefusedError("EINVAL", "no command and no directory holds a NUL character")
        size = commands.window(header.get("pty"))
        terminal = {} if size is None else {"TERM": "xterm-256color"}
        envs = {**os.environ, **self.told, **terminal, **environment(wish["envs"])}
        run = Run(self._cgroup, header, payload)  # first, as all that may not be what it should

        def become(tells: int, stdout: int, stderr: int, stdin: int) -> None:
            commands.execute(wish["cmd"], wish["cwd"], envs, stdin, stdout, stderr, size, tells)

        kinds = {"stdin": bool(header.get("stdin")), "pty": size is not None}
        child = self._children.spawn("command", become, executes=True, pipes=True, **kinds)
        child.run = run
        run.start()
        run.sample()
        self._host.send({"type": "started", "id": run.id, "pid": child.pid})

    def _find_command(self, header: Header) -> Child:
        child = self._children.by_pid.get(header["pid"])
        if child is None or child.kind != "command" or not child.run:
            raise RefusedError("ESRCH", f"no command runs with pid {header['pid']}")
        return child

    def _connect(self, header: Header, payload: bytes) -> None:
        run = self._find_command(header).run
        assert run is not None
        run.id = header["id"]
        self._host.send({"type": "started", "id": run.id, "pid": header["pid"]})

    def _input(self, header: Header, payload: bytes) -> None:
        child = self._find_command(header)
        if child.stdin is None or child.stdin_ends:
            raise RefusedError("EPIPE", "the command was started without stdin, or its stdin is closed")
        child.stdin.put(payload)
        child.stdin.flush()
        if child.stdin.size > DEAF:
            raise RefusedError("EAGAIN", "the command does not read its stdin")
        child.input_replies.append(header["id"])
        if header.get("eof"):
            child.stdin_ends = True
        self.answer_input(child)

    def answer_input(self, child: Child) -> None:
        """Let the host write more when what it wrote has been read: the room is bounded."""
        if child.stdin is not None and child.stdin.size <= STDIN_ROOM:
            for request in child.input_replies:
                self._host.reply(request)
            child.input_replies.clear()
        if child.stdin is not None and child.stdin_ends and not child.stdin.size:
            child.close_stdin()

    def _signal_command(self, header: Header, payload: bytes) -> None:
        child = self._find_command(header)
        if header["signal"] == signal.SIGKILL:
            self._children.kill(child)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, header["signal"])
        self._host.reply(header["id"])

    # -- files --------------------------------------------------------------------------------------------------------

    def _files(self, header: Header, payload: bytes) -> None:
        """A file operation, in a process of its own: a FIFO or a slow directory must not hold the loop."""

        def become(control: socket.socket, stdout: int, stderr: int, stdin: int) -> None:
            from agent_executor import files

            files.serve(control, header["operation"], wish)

        wish = json.loads(payload)
        child = self._children.spawn("files", become, control=True)
        child.request = header["id"]

    def _files_input(self, header: Header, payload: bytes) -> None:
        for child in self._children:
            if child.kind == "files" and child.request == header["id"]:
                words = {name: bool(header.get(name)) for name in ("eof", "abort")}
                child.send({"type": "input", **words}, payload)

    # -- ports --------------------------------------------------------------------------------------------------------

    def _forward(self, header: Header, payload: bytes) -> None:
        """Connections to a port, in one process for all of them."""
        if not 0 < header["port"] < 2**16:
            raise RefusedError("EINVAL", f"there is no port {header['port']}")

        def become(control: socket.socket, stdout: int, stderr: int, stdin: int) -> None:
            from agent_executor import forward

            forward.serve(control, header["port"])

        child = self._children.spawn("forward", become, control=True)
        child.request = header["id"]

    def _forward_input(self, header: Header, payload: bytes) -> None:
        for child in self._children:
            if child.kind == "forward" and child.request == header["id"]:
                child.send(header, payload)
