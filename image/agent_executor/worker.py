"""A worker: the process that runs the code of one context. It knows the supervisor only.

Between executions it waits on its control socket; during one it sends displays, results and errors there and waits for
an answer to each, so that their order against what the code writes to fd 1 and 2 is exactly the program's.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from agent_executor import calls, exchange, fresh, late, streams, wire
from agent_executor.prctl import set_dumpable
from agent_executor.sockets import NICE
from agent_executor.wire import Header

if TYPE_CHECKING:
    from agent_executor.plain import Shell as PlainShell
    from agent_executor.shell import Shell as IPythonShell

CONTROL_FD = 100
"""Where the control socket is put: away from the numbers that code expects its own files to have."""

_preloaded: IPythonShell | PlainShell | late.Shell | None = None

IDLE_SECONDS = 0.005
"""After so long without a request a worker gets ready for one. Code that comes sooner does not wait for that."""
ASK_SECONDS = 0.05
"""How often a thread that waits for the host looks whether another one has read its answer."""


def preload(names: list[str]) -> None:
    """Load, once per box, what every worker begins with: a shell, and modules; forked workers share these pages.

    Args:
        names: of modules. Without IPython among them, the shell is one that loads it when it is wanted.

    Raises:
        SystemExit: there is no such module, or it fails.
    """
    global _preloaded
    gc.disable()  # nearly nothing of what is loaded is garbage, and looking for it would take a quarter of the time
    if late.NAME in names or not late.is_possible():
        _preloaded = new_shell()
    else:
        _preloaded = late.Shell()
        with contextlib.suppress(ImportError):
            importlib.import_module("cloudpickle")  # a call is what will come
    for name in names:
        if name != late.NAME:
            try:
                importlib.import_module(name)
            except Exception as error:
                sys.exit(f"{name} cannot be preloaded: {error}; name what the image has, or add its package")
    gc.collect()
    gc.freeze()
    gc.enable()


def new_shell() -> IPythonShell | PlainShell:
    """IPython's shell, or in an image without IPython the plain one."""
    try:
        from agent_executor.shell import Shell

        return Shell()
    except Exception:  # not there, or too old, or broken: the code can run all the same
        from agent_executor.plain import Shell as PlainShell

        return PlainShell()


class Control:
    """The worker's end of the control socket.

    An interrupt comes twice: as SIGINT, which is heard while code runs, and as a message, for the moment between a
    request and its code.

    A signal must not cut a frame in two: while one is under way, :meth:`on_interrupt` only notes the interrupt, and
    the KeyboardInterrupt is raised when the frame is complete.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket: socket.socket | None = sock
        self._decoder = wire.Decoder()
        self._assembler = wire.Assembler()
        self._inbox: list[tuple[Header, bytes]] = []
        self._answers: dict[int, tuple[Header, bytes]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._busy = False
        self._interrupted = False
        self._asked = False
        self._held = b""
        self.running = False
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """In a child of the code: the socket is the worker's alone."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._lock = threading.RLock()

    @property
    def is_ours(self) -> bool:
        """False in a process that the code forked and that came back here."""
        return self._socket is not None

    def on_interrupt(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGINT."""
        __tracebackhide__ = True  # IPython leaves this frame out
        if not self.running:
            return
        if self._busy:
            self._interrupted = True
        else:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def _uninterrupted(self) -> Iterator[None]:
        is_main = threading.current_thread() is threading.main_thread()  # where Python runs signal handlers
        with self._lock:
            self._busy |= is_main
            try:
                yield
            finally:
                self._busy &= not is_main
        if is_main and self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt

    def is_idle(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        return not self._inbox and self._socket is not None and not select.select([self._socket], [], [], seconds)[0]

    def receive(self) -> tuple[Header, bytes]:
        """The next message of the supervisor; it is gone when this raises EOFError."""
        while not self._inbox:
            if self._socket is None:
                raise EOFError
            self._read(self._socket.recv(64 * 1024))
        return self._inbox.pop(0)

    def _read(self, data: bytes) -> None:
        if not data:
            raise EOFError
        for header, body in self._decoder.feed(data):
            message = self._assembler.add(header, body)
            if message and header["type"] == "tool_reply":  # it may come at any time
                self._answers[header["call"]] = message
            elif message and header["type"] == "interrupt":
                self._asked = True
            elif message:
                if message[0]["type"].endswith("_request"):
                    self._asked = False  # what came before it was for what has ended
                self._inbox.append(message)

    def begin(self) -> None:
        """From here on interrupts are heard. Raises KeyboardInterrupt if one came since the request."""
        with self._uninterrupted():
            self.running = True
            with contextlib.suppress(BlockingIOError, EOFError):
                if self._socket is not None:
                    self._read(self._socket.recv(64 * 1024, socket.MSG_DONTWAIT))
            self._interrupted |= self._asked

    def tell(self, header: Header, payload: bytes = b"") -> None:
        """Send, and wait until the supervisor has passed it on."""
        with self._uninterrupted():
            # Between executions a thread of the code may come here, while the main thread waits for the next request:
            # what it has to show belongs to no execution.
            if self._socket is not None and self.running:
                self._send(header, payload)
                self.receive()

    def tell_last(self, header: Header, payload: bytes = b"") -> None:
        """Send the last thing of an execution together with what is sent next, which is nearly always its end: it need
        not be waited for."""
        if len(payload) > wire.MAX_BODY:
            self.tell(header, payload)
            return
        with self._uninterrupted():
            if self._socket is not None and self.running:
                self._held += b"".join(wire.encode_message({**header, "id": 0, "last": True}, payload))

    def ask(self, header: Header, payload: bytes, timeout: float | None) -> tuple[int, Header, bytes]:
        """Ask the host for something: the number of the request, and the answer. Any thread may ask meanwhile.

        Raises:
            TimeoutError: there is none after so many seconds.
        """
        number = next(self._numbers)
        until = None if timeout is None else time.monotonic() + timeout
        self.tell({**header, "call": number}, payload)
        while self._socket is not None and self.running:
            with self._uninterrupted(), contextlib.suppress(BlockingIOError):
                if number not in self._answers:
                    self._read(self._socket.recv(64 * 1024, socket.MSG_DONTWAIT))
            if number in self._answers:
                return (number, *self._answers.pop(number))
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"no answer within {timeout:g} s")
            # Another thread may read our answer while it waits for its own, hence the bound.
            select.select([self._socket], [], [], ASK_SECONDS)
        raise RuntimeError("the run that asked has ended")

    def sync(self) -> None:
        """Wait until all that was written to fd 1 and 2 has been passed on."""
        self.tell({"type": "sync"})

    def end(self) -> None:
        """From here on interrupts are ignored and nothing is shown."""
        with self._lock:
            self.running = self._interrupted = False

    def reply(self, header: Header) -> None:
        """Tell how the execution ended."""
        with self._lock:
            self._send(header)

    def _send(self, header: Header, payload: bytes = b"") -> None:
        if self._socket is not None:
            for frame in wire.encode_message({**header, "id": 0}, payload):
                held, self._held = self._held, b""
                self._socket.sendall(held + frame)


def serve(control: socket.socket, stdout: int, stderr: int, *, language: str) -> NoReturn:
    """Become the worker of a context: called in the zygote's fresh fork, never returns."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.setsid()  # a process group of its own, so that an interrupt reaches the code's children too
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (stdout, 1), (stderr, 2), (control.fileno(), CONTROL_FD)):
        os.dup2(source, target)
    control.detach()
    os.closerange(3, CONTROL_FD)
    os.closerange(CONTROL_FD + 1, os.sysconf("SC_OPEN_MAX"))
    os.set_inheritable(CONTROL_FD, False)
    set_dumpable(True)
    score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(score, b"1000")  # the kernel takes this process, not PID 1
    os.close(score)
    os.nice(NICE)
    channel = Control(socket.socket(fileno=CONTROL_FD))
    signal.signal(signal.SIGINT, channel.on_interrupt)
    try:
        _configure(channel, channel.receive()[1])
    except EOFError:
        os._exit(0)
    shell = _shell(language, channel)
    threads = threading.active_count()
    is_cold, has_run = True, False
    while True:
        if is_cold and channel.is_idle(IDLE_SECONDS):
            shell.warm_up()
            is_cold = False
        # Not before the first run: a box that waits takes less memory without it.
        # Nor beside threads of the code, which may import meanwhile.
        while has_run and shell.chores and threading.active_count() <= threads and channel.is_idle(IDLE_SECONDS):
            with contextlib.suppress(Exception), _modules_of_the_image():
                shell.chores.pop(0)()
        try:
            header, payload = channel.receive()
            pushed = exchange.collect(channel) if header["type"] == "push_request" else None
        except EOFError:
            os._exit(0)
        if header["type"] == "configure":
            _configure(channel, payload)
            continue
        is_cold, has_run = False, True
        try:
            try:
                channel.begin()
                if header["type"] == "push_request":
                    reply = exchange.push(channel, shell.namespace, pushed, header["max_size"])
                elif header["type"] == "pull_request":
                    reply = exchange.pull(channel, shell.namespace, payload, header["max_size"])
                elif header["type"] in ("execute_request", "call_request"):
                    reply = _run(shell, channel, header, payload, language)
                else:
                    continue  # the last word about a push that has ended
            finally:
                channel.end()
        except KeyboardInterrupt:  # it came between the code and its report
            channel.end()
            reply = {"status": "interrupted"}
        if not channel.is_ours:
            os._exit(0)  # a fork of the code fell through to here
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        # A thread that the code left behind goes on; only the end of this process ends it.
        clean = threading.active_count() <= threads
        channel.reply({"type": "execute_reply", "clean": clean, **reply})


def _configure(channel: Control, payload: bytes) -> None:
    """Take over what the box was told after its start: the first that every worker hears."""
    wish = json.loads(payload)
    os.environ.update(wish["env"])
    with contextlib.suppress(OSError):  # or the code that has taken it away would keep all later code from running
        os.makedirs(wish["cwd"], exist_ok=True)
        os.chdir(wish["cwd"])
    channel.reply({"type": "configured"})


@contextlib.contextmanager
def _modules_of_the_image() -> Iterator[None]:
    """A module that code has written is the code's to import: it may do anything."""
    path = list(sys.path)
    sys.path[:] = fresh.out_of_reach(path)
    try:
        yield
    finally:
        sys.path[:] = path


def _run(shell: Any, channel: Control, header: Header, payload: bytes, language: str) -> Header:
    """Run a cell, or make a call."""
    reply: Header
    if header["type"] == "call_request":
        with _environment(header["envs"]):
            return _call(shell, channel, calls.Call(channel, payload, header["max_size"]))
    # A file that an editor of Windows wrote is run like any other.
    code = payload.decode("utf-8", "replace").removeprefix("\ufeff")
    if language == "bash":
        reply = shell.run(code.replace("\r\n", "\n"), header["envs"])
    else:
        with _environment(header["envs"]):
            reply = shell.run(code)
    return reply


def _call(shell: Any, channel: Control, call: calls.Call) -> Header:
    """Make a call. What it raises is told without IPython, which takes longer to load for it than most calls."""
    streams.Stream.last = None
    failure: BaseException | None = None
    try:
        call()
    except BaseException as error:
        failure = error
    if not channel.is_ours:
        streams.leave(failure)
    from agent_executor import plain  # here: most boxes load it when they are idle

    reply = plain.end(channel, failure)
    shell.after_call()
    return reply


def _shell(language: str, control: Control) -> Any:
    if language == "bash":
        from agent_executor.bash import Shell as BashShell

        return BashShell(control)
    assert _preloaded is not None
    streams.take_over(control)
    _preloaded.attach(control)
    return _preloaded


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """The environment of one run."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
