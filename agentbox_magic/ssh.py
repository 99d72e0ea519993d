"""An engine on another machine, over the user's own ``ssh``: each connection is a ``docker system dial-stdio`` there.

As the docker command does it, so that keys, agents and ``~/.ssh/config`` are the user's.
The command's stdin and stdout are the other end of our socket: it ends when we do, however we end.
"""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests.adapters
import urllib3.connection
import urllib3.connectionpool


def command(url: str) -> list[str]:
    """The command for an address.

    >>> " ".join(command("ssh://me@there:2222")[5:])
    '-T -l me -p 2222 -- there docker system dial-stdio'

    Raises:
        OSError: there is no machine in it.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise OSError(f"{url} names no machine; write ssh://user@machine")
    words = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "-T"]  # nobody is there to type a password
    if parts.username:
        words += ["-l", parts.username]
    if parts.port:
        words += ["-p", str(parts.port)]
    return [*words, "--", parts.hostname, "docker", "system", "dial-stdio"]


class _Connection(urllib3.connection.HTTPConnection):
    """A connection that is a command's stdin and stdout."""

    def __init__(self, words: list[str], timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._words = words
        self._end: threading.Thread | None = None
        self._said = b""

    def connect(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # A session of its own: a Ctrl-C is for the run, not for the connection.
            process = subprocess.Popen(
                self._words, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip

        def wait() -> None:
            with process:
                assert process.stderr is not None
                self._said = process.stderr.read(1000)

        # It ends with the connection, which may outlive this object: a stream goes on in the socket alone.
        self._end = threading.Thread(target=wait, name="agentbox-ssh", daemon=True)
        self._end.start()
        ours.settimeout(float(self.timeout or 60))
        self.sock = ours

    def getresponse(self) -> Any:
        try:
            return super().getresponse()
        except Exception as error:
            if self._end is not None:
                self._end.join(2)
            said = self._said.decode("utf-8", "replace").strip()
            raise OSError(said or str(error)) from error


class _Pool(urllib3.connectionpool.HTTPConnectionPool):
    def __init__(self, words: list[str], timeout: float) -> None:
        super().__init__("localhost", timeout=timeout, maxsize=10)
        self._words, self._seconds = words, timeout

    def _new_conn(self) -> Any:
        return _Connection(self._words, self._seconds)


class SSHAdapter(requests.adapters.HTTPAdapter):
    """Sends the requests of a client through ssh."""

    def __init__(self, url: str, timeout: float) -> None:
        self._pool = _Pool(command(url), timeout)
        super().__init__()

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
        return self._pool

    def request_url(self, request: requests.PreparedRequest, proxies: Mapping[str, str] | None) -> str:
        return request.path_url

    def close(self) -> None:
        self._pool.close()
        super().close()
