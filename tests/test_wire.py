"""The wire: what an honest peer sends arrives, and what no honest peer sends is refused."""

from __future__ import annotations

import json
import struct

import pytest

from agent_executor.wire import (
    MAX_BODY,
    MAX_HEADER,
    Assembler,
    Decoder,
    Header,
    ProtocolError,
    encode,
    encode_message,
)


def raw(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack("!II", len(header), len(body)) + header + body


def test_frames_survive_being_cut_anywhere() -> None:
    frames: list[tuple[Header, bytes]] = [
        ({"type": "a", "id": 1}, b""),
        ({"type": "b", "text": "é"}, bytes(range(256))),
    ]
    data = b"".join(encode(*frame) for frame in frames)
    for cut in range(len(data) + 1):
        decoder = Decoder()
        assert [*decoder.feed(data[:cut]), *decoder.feed(data[cut:])] == frames


@pytest.mark.parametrize("size", [0, 1, MAX_BODY, MAX_BODY + 1, 3 * MAX_BODY])
def test_messages_of_any_length_arrive_whole(size: int) -> None:
    payload = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    decoder, assembler = Decoder(), Assembler()
    messages = [
        message
        for piece in encode_message({"type": "display_data", "id": 7}, payload)
        for frame in decoder.feed(piece)
        if (message := assembler.add(*frame))
    ]
    assert [(header["type"], body) for header, body in messages] == [("display_data", payload)]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(struct.pack("!II", MAX_HEADER + 1, 0), id="header too long"),
        pytest.param(struct.pack("!II", 2, MAX_BODY + 1), id="body too long"),
        pytest.param(b"\xff" * 8, id="lengths that would be negative if signed"),
        pytest.param(raw(b"not json"), id="not JSON"),
        pytest.param(raw(b"\xff\xfe"), id="not UTF-8"),
        pytest.param(raw(b"[" * MAX_HEADER), id="deep"),
        pytest.param(raw(b'{"type":"a","x":' + b"[" * 30000 + b"]" * 30000 + b"}"), id="deep and balanced"),
        pytest.param(raw(b'["type"]'), id="not an object"),
        pytest.param(raw(b"{}"), id="no type"),
        pytest.param(raw(b'{"type":1}'), id="type is a number"),
        pytest.param(raw(b'{"type":"a","id":NaN}'), id="NaN"),
        pytest.param(raw(b'{"type":"a","id":' + b"9" * 10000 + b"}"), id="a number of 10,000 digits"),
        pytest.param(raw(b""), id="empty header"),
    ],
)
def test_what_no_honest_peer_sends_is_refused(data: bytes) -> None:
    good = encode({"type": "good"})
    frames = Decoder().feed(good + data)
    assert next(frames) == ({"type": "good"}, b"")  # what came before it counts
    with pytest.raises(ProtocolError):
        list(frames)


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([{"type": "more", "id": 1}], id="continues nothing"),
        pytest.param([{"type": "a", "more": True}], id="continued without an id"),
        pytest.param([{"type": "a", "id": 1, "more": True}] * 2, id="begun twice"),
        pytest.param([{"type": "a", "id": n, "more": True} for n in range(100)], id="many begun"),
    ],
)
def test_messages_that_cannot_be_joined_are_refused(frames: list[Header]) -> None:
    assembler = Assembler()

    def add_all() -> None:
        for header in frames:
            assembler.add(json.loads(json.dumps(header)), b"x")

    with pytest.raises(ProtocolError):
        add_all()


def test_a_payload_is_bounded() -> None:
    assembler = Assembler(max_payload=10)
    assembler.add({"type": "a", "id": 1, "more": True}, b"12345")
    with pytest.raises(ProtocolError, match="longer than 10"):
        assembler.add({"type": "more", "id": 1, "more": True}, b"678901")
