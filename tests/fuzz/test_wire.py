"""Frames and messages: honest ones arrive whole however they are cut, hostile ones are refused at the same place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from fuzz import strategies as some
from fuzz.harness import Message, cut
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_executor.wire import MAX_BODY, Assembler, Decoder, ProtocolError, encode_message


def decode(pieces: Iterable[bytes]) -> tuple[list[Message], bool]:
    """The messages of a stream, and whether it was refused after them."""
    decoder, assembler, messages = Decoder(), Assembler(), []
    try:
        for piece in pieces:
            for frame in decoder.feed(piece):
                message = assembler.add(*frame)
                if message:
                    messages.append(message)
    except ProtocolError:
        return messages, True
    return messages, False


@given(some.honest_streams, some.cuts)
def test_an_honest_stream_reads_the_same_however_it_is_cut(messages: list[Message], places: list[int]) -> None:
    data = b"".join(frame for message in messages for frame in encode_message(*message))
    assert decode(cut(data, places)) == (messages, False)
    assert decode(data[n : n + 1] for n in range(len(data))) == (messages, False)


@given(some.hostile_streams | st.binary(max_size=200), some.cuts)
def test_a_hostile_stream_is_refused_at_the_same_place_however_it_is_cut(data: bytes, places: list[int]) -> None:
    assert repr(decode(cut(data, places))) == repr(decode([data]))  # by repr: 1, True and 1.0 are not the same here


@settings(max_examples=10)
@given(st.lists(st.integers(0, 3 * MAX_BODY), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_interleaved_long_messages_arrive_whole(sizes: list[int], random: Any) -> None:
    payloads = {number: bytes([number]) * size for number, size in enumerate(sizes)}
    queues = [list(encode_message({"type": "x", "id": number}, payload)) for number, payload in payloads.items()]
    stream = []
    while queues:
        frames = random.choice(queues)
        stream.append(frames.pop(0))
        queues = [frames for frames in queues if frames]
    messages, refused = decode(stream)
    assert not refused
    assert {header["id"]: payload for header, payload in messages} == payloads


@given(some.values, st.binary(max_size=20))
def test_the_assembler_takes_any_id(number: Any, body: bytes) -> None:
    assembler = Assembler()
    with contextlib.suppress(ProtocolError):
        assembler.add({"type": "x", "id": number, "more": True}, body)
        assert type(number) is int
        assert assembler.add({"type": "more", "id": number}, body) is not None
