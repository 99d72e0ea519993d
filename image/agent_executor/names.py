"""The names of a box's own host, told over DNS on loopback: ``localhost``, and what ``hostname`` says.

Engines leave ``/etc/hosts`` empty where there is no network, and it cannot be written to. Where it is empty and
``/etc/resolv.conf`` is too, a resolver asks port 53 of 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct

ADDRESS = ("127.0.0.1", 53)
MAX_QUERY = 512
AT_ONCE = 16
"""Queries answered in one round of the loop, so that many of them cannot hold it."""
A, PTR = 1, 12
REVERSE = "1.0.0.127.in-addr.arpa"
FAILED = 2
"""What a server says that cannot tell: nobody is there to ask, which may change."""


def answer(query: bytes, host: str) -> bytes | None:
    """The answer to a DNS query; None to what is none.

    >>> query = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + b"\\tlocalhost\\0" + struct.pack("!2H", A, 1)
    >>> socket.inet_ntoa(answer(query, "sandbox")[-4:])
    '127.0.0.1'
    >>> answer(query.replace(b"localhost", b"elsewhere"), "sandbox")[3] & 15
    2
    >>> answer(b"?", "sandbox")
    """
    found = _question(query)
    if found is None:
        return None
    name, kind, end = found
    local = name in ("localhost", host.lower()) or name.endswith(".localhost")
    records = []
    if local and kind == A:
        records = [socket.inet_aton(ADDRESS[0])]
    elif name == REVERSE and kind == PTR:
        records = [b"\x09localhost\x00"]
    code = 0 if local or records else FAILED
    head = struct.pack("!6H", int.from_bytes(query[:2], "big"), 0x8180 | code, 1, len(records), 0, 0)
    told = [struct.pack("!3HIH", 0xC00C, kind, 1, 0, len(record)) + record for record in records]
    return head + query[12:end] + b"".join(told)


def _question(query: bytes) -> tuple[str, int, int] | None:
    """The name that is asked for, the type of record, and where the question ends."""
    if len(query) < 12 or query[2] & 0xF8 or query[4:6] != b"\x00\x01":
        return None
    labels, at = [], 12
    while at < len(query) and query[at]:
        size = query[at]
        if size > 63:
            return None
        labels.append(query[at + 1 : at + 1 + size])
        at += 1 + size
    end = at + 5
    if end > len(query):
        return None
    return b".".join(labels).decode("latin-1").lower(), int.from_bytes(query[at + 1 : at + 3], "big"), end


class Names:
    """Answers, in the supervisor's loop."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        """Raises OSError where there is no such address to be had."""
        self._host = socket.gethostname()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(ADDRESS)
        selector.register(self._socket, selectors.EVENT_READ, self._answer)

    def _answer(self) -> None:
        with contextlib.suppress(OSError):  # nothing more to read, or nobody to answer
            for _ in range(AT_ONCE):
                query, asker = self._socket.recvfrom(MAX_QUERY)
                told = answer(query, self._host)
                if told is not None:
                    self._socket.sendto(told, asker)
