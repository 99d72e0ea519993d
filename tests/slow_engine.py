"""The engine everybody uses, behind a door that holds up one call."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

from own_engine import short_folder

from agentbox_magic import endpoint


class SlowEngine:
    """A Unix socket in front of the engine's own, where the creation of a container does not end.

    Args:
        late: the engine hears of it when the asker has hung up; otherwise at once, and the asker never hears.
    """

    def __init__(self, path: str, late: bool) -> None:
        self.host = f"unix://{path}"
        self.asked = threading.Event()
        self.name = ""
        self._late = late
        self._asker: socket.socket | None = None
        self._engine = urlsplit(endpoint.find().url).path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def hang_up(self) -> None:
        """Let go of whoever waits, without an answer, as an engine that is killed does."""
        assert self._asker is not None
        self._asker.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as engine:
            engine.connect(self._engine)
            held, done = threading.Event(), threading.Event()
            threading.Thread(target=self._answer, args=(engine, client, held, done), daemon=True).start()
            kept = b""
            while data := client.recv(65536):
                creation = re.match(rb"POST \S*/containers/create\?name=(\S+) ", data)
                if creation is not None:
                    self.name = creation[1].decode()
                    self._asker = client
                    held.set()
                    self.asked.set()
                if held.is_set() and self._late:
                    kept += data
                else:
                    engine.sendall(data)
            if held.is_set():  # the asker has hung up
                engine.sendall(kept)
                done.wait(60)
            with contextlib.suppress(OSError):
                engine.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _answer(engine: socket.socket, client: socket.socket, held: threading.Event, done: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := engine.recv(65536):
                if held.is_set():
                    done.set()
                else:
                    client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def slow_engine(*, late: bool) -> Iterator[SlowEngine]:
    """Open one."""
    with short_folder("slow") as folder:
        engine = SlowEngine(f"{folder}/docker.sock", late)
        try:
            yield engine
        finally:
            engine.close()
