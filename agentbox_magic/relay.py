"""Shares the one pipe of a detached box among all processes of this user that use the box at the same time.

A pipe has one end on the host. So it is held by a process of its own, the relay of that box (this module, run as a
program), and :func:`connect` reaches it through a Unix socket that only this user can open. The relay gives requests
numbers of its own, so that each asker gets its own answers; of what it carries it looks at no more than the header. It
is started by the first who connects, and ends with the box, or when nobody has been connected for a while: then the
next one starts another, and the box does not notice.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import secrets
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from agent_executor.wire import NEW_HOST, Decoder, Header, ProtocolError, encode, escape, is_id
from agentbox_magic import deadline, disk, hardening
from agentbox_magic.engine import Engine
from agentbox_magic.errors import SandboxError

RUNTIME, TEMPORARY = "/run/user", "/tmp"
IDLE_SECONDS = 60.0
"""How long a relay waits for somebody to connect."""
START_SECONDS = 60.0
LOCK_SECONDS = 120.0
"""How long one waits for another process that starts the same relay, or waiting boxes."""
DIAL_SECONDS = 10.0
LOOK_SECONDS = 0.01
PARTING_SECONDS = 5.0
"""How long the last words of a box may take on their way to one of those connected."""
DEAF = 2**27
"""Bytes waiting for one of those connected above which it is cut off, because it does not read."""
_NO_ROOM = "detached boxes need a few bytes there; free some, or make it writable"
_READY = "ready"
ENDS = frozenset({"reply", "execute_reply"})
"""What answers a request for good."""


class SocketPipe:
    """This end of a connection to a relay: a pipe like the engine's own."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._owner = os.getpid()
        self.stderr = bytearray()  # what PID 1 wrote before it could not go on, the relay tells as it starts

    def recv(self) -> bytes:
        """What comes next; empty when the relay is gone."""
        try:
            return self.socket.recv(256 * 1024)
        except OSError:
            return b""

    def close(self) -> None:
        """Close both ways. Wakes a reader."""
        if os.getpid() == self._owner:  # a fork has a copy of the descriptor, and the connection is not its to end
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


# -- finding a relay ---------------------------------------------------------------------------------------------------


def folder() -> Path:
    """Where the sockets of this user's relays are. No variable has a say in it: all must find the same one.

    Raises:
        SandboxError: somebody else's hands are on it.
    """
    uid = os.getuid()
    runtime = Path(RUNTIME, str(uid))
    path = runtime / "agentbox" if runtime.is_dir() else Path(TEMPORARY, f"agentbox-{uid}")
    with contextlib.suppress(FileExistsError), disk.written(path, _NO_ROOM):
        path.mkdir(mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid or status.st_mode & 0o077:
        raise SandboxError(f"{path} is not a directory that is this user's alone; remove it")
    return path


def sweep() -> None:
    """Remove the sockets of relays that were killed, and what was left of locks."""
    sweep_locks()
    for path in folder().iterdir():
        if path.suffix:
            continue
        with contextlib.suppress(SandboxError), only_one(path.name):  # or it is stopped, and nothing is known of it
            try:
                _dial(path.name).close()
            except (ConnectionRefusedError, FileNotFoundError):
                path.unlink(missing_ok=True)


def sweep_locks() -> None:
    """Remove the files of locks whose holders were killed."""
    for path in folder().glob("*.lock"):
        with contextlib.suppress(OSError), path.open("r+") as file:  # somebody else removes it, or it is held
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, file.fileno()):
                path.unlink()


def _socket_path(container: str) -> Path:
    return folder() / container[:32]


@contextlib.contextmanager
def only_one(name: str) -> Iterator[None]:
    """One process of this user at a time: starts or ends the relay of a box, or does something else with a name.

    Raises:
        SandboxError: another process has been at it for too long.
    """
    path = _lock_path(name)
    until = time.monotonic() + deadline.left(LOCK_SECONDS)
    while True:
        with disk.written(path, _NO_ROOM):
            file = path.open("w")
        with file:
            _lock(file.fileno(), until, path)
            if not _is_at(path, file.fileno()):  # the one before us removed it
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _lock(fd: int, until: float, path: Path) -> None:
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise SandboxError(f"another process holds {path}, and does not go on; end it") from None
        time.sleep(LOOK_SECONDS)  # there is no way to wait for a lock and for the clock


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _lock_path(container: str) -> Path:
    return _socket_path(container).with_suffix(".lock")


def connect(container: str) -> SocketPipe:
    """A pipe to a detached box, through its relay, which is started if need be.

    Raises:
        SandboxError: the relay cannot be started; the message has its last words.
    """
    with only_one(container):
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return _dial(container)
        _start(container)
        return _dial(container)


def _start(container: str) -> None:
    """Start a relay, and wait until it listens. It goes on without us."""
    command = [sys.executable, "-m", "agentbox_magic.relay", container]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=max(0.1, deadline.left(START_SECONDS)),
            start_new_session=True,  # a terminal's Ctrl-C is not for it
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SandboxError("the box does not answer; kill it and create another") from None
    if done.returncode:
        said = (done.stderr.strip() or "it ended without a word").splitlines()
        raise SandboxError(f"the box does not answer: {said[-1][:300]}")


def _dial(container: str) -> SocketPipe:
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    until = time.monotonic() + deadline.left(DIAL_SECONDS)
    try:
        while True:
            try:
                sock.connect(str(_socket_path(container)))
                break
            except BlockingIOError:  # many others wait to be let in
                if time.monotonic() >= until:
                    raise SandboxError("the relay of the box does not answer; its process may be stopped") from None
            time.sleep(LOOK_SECONDS)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(True)
    return SocketPipe(sock)


# -- the relay itself --------------------------------------------------------------------------------------------------


class _Guest:
    """One of those connected. What it has asked has a number of its own and one of the box's."""

    def __init__(self, relay: Relay, sock: socket.socket) -> None:
        self.numbers: dict[int, int] = {}
        self._relay = relay
        self._socket = sock
        self._out: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()

        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._read, self._write)]

    def start(self) -> None:
        """Begin to listen to it and to speak to it."""
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Send what is waiting, and hang up."""
        self.put(b"")
        self._threads[1].join(PARTING_SECONDS)

    def put(self, data: bytes) -> None:
        """Have something sent; empty for the end."""
        with self._lock:
            self._waiting += len(data)
            deaf = self._waiting > DEAF
        if deaf:
            self._hang_up()
        else:
            self._out.put(data)

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._out.get():
                self._socket.sendall(data)
                with self._lock:
                    self._waiting -= len(data)
        self._hang_up()

    def _read(self) -> None:
        decoder = Decoder()
        with contextlib.suppress(OSError, ProtocolError):
            while data := self._socket.recv(256 * 1024):
                for header, body in decoder.feed(data):
                    self._relay.ask(self, header, body)
        self._relay.leave(self)
        self.put(b"")
        self._socket.close()


class Relay:
    """The pipe of one box and those who share it."""

    def __init__(self, engine: Engine, container: str) -> None:
        self._engine = engine
        self._container = container
        self._pipe = engine.attach(container)
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._guests: set[_Guest] = set()
        self._askers: dict[int, tuple[_Guest, int]] = {}
        self._last = 0
        self._ready: Header = {}
        self._decoder = Decoder()
        self._rest: list[tuple[Header, bytes]] = []
        self._path = _socket_path(container)
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        with disk.written(self._path, _NO_ROOM):
            self._listener.bind(str(self._path))
        self._listener.listen(64)
        self._listener.settimeout(IDLE_SECONDS)

    def greet(self) -> None:
        """Become the box's host. Raises SandboxError if it does not answer in time."""
        late = threading.Timer(deadline.left(START_SECONDS), self._pipe.close)
        late.daemon = True
        late.start()
        try:
            self._greet()
        except OSError:
            raise SandboxError("it does not listen") from None
        finally:
            late.cancel()

    def _greet(self) -> None:
        nonce = secrets.token_hex(16).encode()
        self._pipe.send(NEW_HOST + escape(encode({"type": "hello", "nonce": nonce.decode()})))
        seen = b""
        while nonce not in seen:
            data = self._pipe.recv()
            if not data:
                raise SandboxError("it ended without a word")
            seen = seen[-len(nonce) :] + data
        data = seen.partition(nonce)[2]
        while not self._ready:
            for header, body in self._decoder.feed(data):
                if self._ready:
                    self._rest.append((header, body))
                else:
                    self._ready = header
            if not self._ready:
                data = self._pipe.recv()
                if not data:
                    raise SandboxError("it ended in the middle of a word")

    def serve(self) -> None:
        """Carry messages until the box has ended or nobody has been there for a while."""
        threading.Thread(target=self._accept, daemon=True).start()
        try:
            self._carry()
        finally:
            self._path.unlink(missing_ok=True)
        with self._lock:
            guests = list(self._guests)
        for guest in guests:
            guest.finish()

    def _carry(self) -> None:
        # A box that lies, or another host that has taken the pipe: either way there is nothing left to carry.
        with contextlib.suppress(ProtocolError, RecursionError):
            for header, body in self._rest:
                self._tell(header, body)
            while data := self._pipe.recv():
                for header, body in self._decoder.feed(data):
                    self._tell(header, body)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except TimeoutError:
                if self._retire():
                    return
            else:
                self._welcome(sock)

    def _welcome(self, sock: socket.socket) -> None:
        guest = _Guest(self, sock)
        with self._lock:
            self._guests.add(guest)
        guest.start()

    def _retire(self) -> bool:
        """End, unless somebody is there, or has just come, or the box still waits for its first user."""
        if self._is_waiting():
            return False
        try:
            return self._end()
        except SandboxError:  # somebody connects, and takes long
            return False

    def _end(self) -> bool:
        with only_one(self._container):
            self._listener.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                self._welcome(self._listener.accept()[0])
            self._listener.settimeout(IDLE_SECONDS)
            with self._lock:
                if self._guests:
                    return False
            self._path.unlink(missing_ok=True)
        self._pipe.close()  # which ends the loop that reads it
        return True

    def _is_waiting(self) -> bool:
        with contextlib.suppress(SandboxError):
            found = self._engine.inspect(self._container)
            return found is not None and str(found["Name"]).startswith(f"/{hardening.WARM}")
        return False

    def _tell(self, header: Header, body: bytes) -> None:
        """Pass a frame of the box on to who asked for it."""
        number = header.get("id")
        if not is_id(number) or not 0 < number <= self._last:
            raise ProtocolError("an answer to nothing that was asked")
        with self._lock:
            if number not in self._askers:
                return  # its asker has left
            guest, theirs = self._askers[number]
            if header["type"] in ENDS and not header.get("more"):
                del self._askers[number]
                guest.numbers.pop(theirs, None)
        guest.put(encode({**header, "id": theirs}, body))

    def ask(self, guest: _Guest, header: Header, body: bytes) -> None:
        """Pass a frame on to the box."""
        if header["type"] == "hello":
            guest.put(str(header.get("nonce")).encode() + encode(self._ready))
            return
        theirs = header.get("id")
        if not is_id(theirs):
            raise ProtocolError("a request without an id")
        with self._lock:
            ours = guest.numbers.get(theirs)
            if ours is None:
                if header["type"] == "interrupt_request" or not header["type"].endswith("_request"):
                    return  # about something that has ended meanwhile
                self._last += 1
                ours = guest.numbers[theirs] = self._last
                self._askers[ours] = guest, theirs
        self._send(encode({**header, "id": ours}, body))

    def _send(self, frame: bytes) -> None:
        with self._sending:
            self._pipe.send(escape(frame))

    def leave(self, guest: _Guest) -> None:
        """One of those connected has gone: what it asked for is nobody's any more."""
        with self._lock:
            self._guests.discard(guest)
            left = list(guest.numbers.values())
            for ours in left:
                self._askers.pop(ours, None)
        with contextlib.suppress(OSError):
            for ours in left:
                self._send(encode({"type": "forget_request", "id": ours, "request": ours}))


def main() -> None:
    """Listen for those who want to share a box, and go on in the background."""
    hear, tell = os.pipe()
    if os.fork():  # at once, while there are no threads; whoever started this waits until it is ready
        os.close(tell)
        with os.fdopen(hear, "rb") as file:
            said = file.read().decode()
        sys.exit(None if said == _READY else said or "it ended without a word")
    os.close(hear)
    try:
        relay = _begin(sys.argv[1])
    except SandboxError as error:
        os.write(tell, str(error).encode()[:2000])
        return
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.write(tell, _READY.encode())
    os.close(tell)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # tidily
    threading.Thread(target=sweep, daemon=True).start()
    relay.serve()


def _begin(container: str) -> Relay:
    with deadline.within(START_SECONDS):
        engine = Engine.connect()
        if engine.inspect(container) is None:
            raise SandboxError("it has ended")
        relay = Relay(engine, container)
        relay.greet()
        return relay


if __name__ == "__main__":
    main()
