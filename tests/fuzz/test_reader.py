"""The channel and what reads it: whatever a box sends, all threads end, and an honest run is told as it was."""

from __future__ import annotations

import contextlib
import socket

import pytest
from fuzz import strategies as some
from fuzz.harness import PATIENCE, Message, cut, mux, peer, read
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent_executor.wire import ProtocolError, encode, encode_message
from agentbox_magic.channel import Call, Channel, ChannelClosedError
from agentbox_magic.engine import Pipe


@given(some.hostile_streams, some.cuts)
@example(some.frame(b'{"type":"ready","protocol":' + b"[" * 900 + b"]" * 900 + b"}"), [])
@example(some.frame(b'{"type":"stream","id":1,"name":[]}'), [])
@example(encode(some.reply(1, usage={"duration": 10**400})), [])
def test_whatever_a_box_sends_the_reader_ends(data: bytes, places: list[int]) -> None:
    read(cut(mux(data), places))


@given(some.hostile_muxes, some.cuts, st.booleans())
def test_whatever_the_framing_the_reader_ends(stream: bytes, places: list[int], nonce: bool) -> None:
    reading = read(cut(stream, places), nonce=nonce)
    assert nonce or not reading.messages


@given(some.honest_streams, some.cuts)
def test_an_honest_run_is_told_the_same_however_it_is_cut(messages: list[Message], places: list[int]) -> None:
    messages = [*messages, (some.reply(1), b""), (some.reply(3), b"")]
    data = b"".join(frame for message in messages for frame in encode_message(*message))
    whole, pieces = read([mux(data)]), read(mux(piece) for piece in cut(data, places))
    assert not whole.refused
    assert not whole.broken
    assert whole.greeting == messages[0][0]
    assert sorted(map(repr, whole.messages)) == sorted(map(repr, messages[1:]))
    assert repr(whole) == repr(pieces)


@settings(max_examples=30)
@given(some.hostile_streams, some.cuts)
def test_a_hostile_peer_on_a_real_socket(data: bytes, places: list[int]) -> None:
    with peer(cut(mux(data), places), greet=True) as ours:
        channel = Channel(Pipe(ours))
        with channel.call("execute_request", budget=2**20) as call:
            with contextlib.suppress(ChannelClosedError, ProtocolError):
                channel.handshake(PATIENCE)
            with contextlib.suppress(ChannelClosedError):
                while call.get(PATIENCE):
                    pass
            with pytest.raises(ChannelClosedError):
                call.get(0)
        channel.close()
        assert ours.fileno() == -1
        with channel.call("execute_request", budget=1) as late, pytest.raises(ChannelClosedError):
            late.get(0)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encode(some.reply(4)), id="never asked"),
        pytest.param(encode(some.reply(0)), id="the greeting's number"),
        pytest.param(encode({"type": "stream", "id": True, "name": "stdout"}), id="True is not 1"),
        pytest.param(encode({"type": "stream", "id": 1.0, "name": "stdout"}), id="1.0 is not 1"),
        pytest.param(encode({"type": "stream"}), id="no id"),
        pytest.param(encode(some.READY) * 100, id="greetings without end"),
    ],
)
def test_what_answers_nothing_ends_the_channel(data: bytes) -> None:
    assert "broke the protocol" in read([mux(encode(some.READY) + data)]).refused


def test_a_call_forgotten_while_its_answer_arrives() -> None:
    """Between the reader's looks at the table of calls, the call goes."""

    class Calls(dict[int, Call]):
        def __contains__(self, key: object) -> bool:
            found = super().__contains__(key)
            self.pop(key, None)  # type: ignore[call-overload]  # any key at all may be asked for
            return found

    ours, theirs = socket.socketpair()
    with theirs:
        channel = Channel(Pipe(ours))
        channel._calls = Calls()
        channel.call("execute_request", budget=2**20)
        channel._dispatch((some.reply(1), b""))
        channel.close()
