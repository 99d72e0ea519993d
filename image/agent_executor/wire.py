"""The one pipe between host and box: frames, and messages made of frames.

A frame is ``u32 header length, u32 body length, header, body`` (both lengths big-endian). The header is a UTF-8 JSON
object with a ``type``; the body is raw bytes. A message is one frame, or several when its payload is longer than a body
may be: then every frame but the last carries ``"more": true`` and the later ones are of type ``more``.

Message types have the names of the Jupyter messaging specification where it has one
(https://jupyter-client.readthedocs.io/en/stable/messaging.html).

The reader of either end treats what it reads as hostile: bounded lengths, a JSON object and nothing else, and a
:class:`ProtocolError` for anything it does not expect.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeGuard  # not in Python 3.9

MAX_HEADER = 64 * 1024
"""Longest header, in bytes."""
MAX_BODY = 1024 * 1024
"""Longest body of one frame, in bytes; longer payloads are sent as several frames."""
MAX_PAYLOAD = 32 * 1024 * 1024
"""Longest payload of one message, in bytes."""
MAX_BEGUN = 4 * MAX_PAYLOAD
"""Longest all messages together that have begun and not ended, in bytes."""

_PREFIX = struct.Struct("!II")
_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False)  # json.dumps would make one for every frame

Header = dict[str, Any]


class ProtocolError(Exception):
    """The other end sent something that no honest peer sends."""


def encode(header: Header, body: bytes | memoryview = b"") -> bytes:
    """One frame as bytes.

    >>> encode({"type": "ready"})
    b'\\x00\\x00\\x00\\x10\\x00\\x00\\x00\\x00{"type":"ready"}'
    """
    head = _encoder.encode(header).encode()
    if len(head) > MAX_HEADER or len(body) > MAX_BODY:
        raise ProtocolError(f"frame too long: header {len(head)}, body {len(body)} bytes")
    return b"".join((_PREFIX.pack(len(head), len(body)), head, body))


def encode_message(header: Header, payload: bytes = b"") -> Iterator[bytes]:
    """A message as one or more frames.

    >>> len(list(encode_message({"type": "display_data", "id": 1}, bytes(MAX_BODY + 1))))
    2
    """
    if len(payload) <= MAX_BODY:
        yield encode(header, payload)
        return
    view = memoryview(payload)
    more: Header = {"type": "more", "id": header["id"]}
    last = (len(payload) - 1) // MAX_BODY
    for number in range(last + 1):
        head = more if number else header
        if number < last:
            head = {**head, "more": True}
        yield encode(head, view[number * MAX_BODY : (number + 1) * MAX_BODY])


def _reject_constant(name: str) -> None:
    raise ProtocolError(f"header holds {name}")


_decoder = json.JSONDecoder(parse_constant=_reject_constant)


def is_id(value: object) -> TypeGuard[int]:
    """Whether it can be the id of a message. True and 1.0 equal 1, and would be taken for request 1.

    >>> is_id(1), is_id(True), is_id(1.0)
    (True, False, False)
    """
    return type(value) is int


def weight(header: Header) -> int:
    """About the bytes of memory that a parsed header takes, which can be thirty times its length on the wire.

    >>> weight({"type": "a"}) < 1000 < 30_000 < weight({"type": "a", "x": [[] for _ in range(1000)]})
    True
    """
    found: list[Any] = [header]
    for value in found:  # which grows; not recursive: what arrives may be as deep as the parser can follow
        if isinstance(value, dict):
            found += value
            found += value.values()
        elif isinstance(value, list):
            found += value
    return sum(map(sys.getsizeof, found))


def _header(raw: bytes) -> Header:
    try:
        header = _decoder.decode(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # bad UTF-8 and bad JSON are ValueErrors
        raise ProtocolError(f"header is not JSON: {type(error).__name__}") from None
    if not isinstance(header, dict) or not isinstance(header.get("type"), str):
        raise ProtocolError("header is not an object with a type")
    return header


class Decoder:
    """Turns bytes, as they arrive, into frames. Holds at most one frame that is not complete.

    >>> decoder = Decoder()
    >>> frame = encode({"type": "stream", "id": 1}, b"hi")
    >>> list(decoder.feed(frame[:9])), list(decoder.feed(frame[9:]))
    ([], [({'type': 'stream', 'id': 1}, b'hi')])
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Header, bytes]]:
        """The frames completed by ``data``. Raises :class:`ProtocolError`; the stream is unusable after that."""
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= _PREFIX.size:
                head, body = _PREFIX.unpack_from(buffer, start)
                if head > MAX_HEADER or body > MAX_BODY:
                    raise ProtocolError(f"frame announces header {head} and body {body} bytes")
                end = start + _PREFIX.size + head + body
                if len(buffer) < end:
                    break
                middle = start + _PREFIX.size + head
                with memoryview(buffer) as view:  # or what is sliced is copied twice
                    frame = _header(bytes(view[start + _PREFIX.size : middle])), bytes(view[middle:end])
                start = end
                yield frame
        finally:
            del buffer[:start]


ESCAPE = b"\xf5"
"""A byte that no UTF-8 has. In what is escaped, ``ESCAPE`` alone stands for nothing."""
ESCAPED = ESCAPE + b"0"
NEW_HOST = ESCAPE + b"1"
"""What a host writes first to a box that an earlier one may have left in mid-frame. Nothing that it says later,
whatever it carries, can look like it: all of that is escaped. So it takes no secret."""


def escape(data: bytes) -> bytes:
    """What a host says to a box that others may speak to after it.

    >>> NEW_HOST in escape(b"code that holds " + NEW_HOST)
    False
    """
    return data.replace(ESCAPE, ESCAPED)


class Unescaper:
    """The other way, as bytes arrive.

    >>> unescaper = Unescaper()
    >>> unescaper.feed(escape(b"one") + NEW_HOST + escape(b"two, " + NEW_HOST)[:-2]), unescaper.feed(b"01")
    ([b'one', b'two, '], [b'\xf51'])
    """

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> list[bytes]:
        """What was said; before each but the first element a new host came."""
        data = self._held + data
        end = len(data) - data.endswith(ESCAPE)  # what it stands for comes with the next byte
        self._held = data[end:]
        return [part.replace(ESCAPED, ESCAPE) for part in data[:end].split(NEW_HOST)]


class Assembler:
    """Joins frames into messages, for the end that needs payloads whole.

    >>> assembler = Assembler()
    >>> assembler.add({"type": "error", "id": 1, "more": True}, b"a")
    >>> assembler.add({"type": "more", "id": 1}, b"b")
    ({'type': 'error', 'id': 1, 'more': True}, b'ab')
    """

    def __init__(self, max_payload: int = MAX_PAYLOAD, max_partial: int = 64, max_begun: int = MAX_BEGUN) -> None:
        self._max_payload = max_payload
        self._max_partial = max_partial
        self._max_begun = max_begun
        self._begun = 0
        self._partial: dict[Any, tuple[Header, bytearray]] = {}

    def add(self, header: Header, body: bytes) -> tuple[Header, bytes] | None:
        """The message this frame completes, or None. Raises :class:`ProtocolError`."""
        key = header.get("id")
        if not is_id(key):
            if header.get("more") or header["type"] == "more":
                raise ProtocolError("continued message without an id")
            return header, body
        if header["type"] == "more":
            if key not in self._partial:
                raise ProtocolError("continuation of a message that never began")
            first, payload = self._partial[key]
            if len(payload) + len(body) > self._max_payload:
                raise ProtocolError(f"message longer than {self._max_payload} bytes")
            self._charge(len(body))
            payload += body
            if header.get("more"):
                return None
            del self._partial[key]
            self._begun -= weight(first) + len(payload)
            return first, bytes(payload)
        if not header.get("more"):
            return header, body
        if key in self._partial or len(self._partial) >= self._max_partial:
            raise ProtocolError("too many messages begun")
        self._charge(weight(header) + len(body))
        self._partial[key] = header, bytearray(body)
        return None

    def _charge(self, size: int) -> None:
        self._begun += size
        if self._begun > self._max_begun:
            raise ProtocolError(f"messages begun hold more than {self._max_begun} bytes")
