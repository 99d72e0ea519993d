"""Memory and time: what floods the host, never ends or grows when it is parsed costs no more than is allowed."""

from __future__ import annotations

import itertools
import socket
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from fuzz import strategies as some
from fuzz.harness import cut, mux, read

from agent_executor.wire import MAX_BODY, MAX_PAYLOAD, Assembler, Decoder, ProtocolError, encode
from agentbox_magic import collector as collector_module
from agentbox_magic.channel import Channel
from agentbox_magic.collector import Collector
from agentbox_magic.engine import Pipe
from agentbox_magic.limits import Limits
from agentbox_magic.text import Cleaner, clean, clean_traceback


def growth(action: Callable[[], object]) -> int:
    """The most bytes that Python's allocator held in the meantime, above what it held before."""
    tracemalloc.start(1)
    try:
        before = tracemalloc.get_traced_memory()[0]
        action()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


MIB = 2**20
FLOOD = 200 * MIB
PIECE = 128 * 1024


def repeated(data: bytes, total: int = FLOOD) -> Iterator[bytes]:
    """The data over and over, in pieces as they come from a socket."""
    many = data * (PIECE // len(data) or 1)
    for _ in range(total // len(many)):
        yield from (many[n : n + 2 * PIECE] for n in range(0, len(many), 2 * PIECE))


def test_a_flood_without_the_nonce_holds_nothing() -> None:
    assert growth(lambda: read(repeated(mux(bytes(PIECE))), nonce=False)) < 2 * MIB


def test_a_flood_on_stderr_holds_nothing() -> None:
    assert growth(lambda: read(repeated(mux(bytes(PIECE), stream=2)))) < 2 * MIB


@pytest.mark.parametrize("lengths", [(2, 2**32 - 1), (2**32 - 1, 0), (2, MAX_BODY + 1)])
def test_a_frame_announced_too_long_is_refused_before_it_comes(lengths: tuple[int, int]) -> None:
    def flood() -> None:
        reading = read(itertools.chain([mux(struct.pack("!II", *lengths))], repeated(mux(bytes(PIECE)), 64 * MIB)))
        assert "announces" in reading.refused

    assert growth(flood) < 2 * MIB


def test_late_answers_hold_nothing() -> None:
    late = encode({"type": "stream", "id": 2, "name": "stdout"}, bytes(60_000))
    assert growth(lambda: read(repeated(mux(late)))) < 4 * MIB


def test_a_message_that_never_ends_holds_one_message() -> None:
    """What counts is the payload, and the copy of it that grows."""
    start = encode({"type": "display_data", "id": 1, "more": True}, bytes(PIECE))
    more = encode({"type": "more", "id": 1, "more": True}, bytes(PIECE))

    def flood() -> None:
        reading = read(iter([mux(start), *repeated(mux(more))]))
        assert "longer than" in reading.refused

    assert growth(flood) < 2.3 * MAX_PAYLOAD + 4 * MIB


def test_many_messages_that_never_end_hold_no_more_than_a_few() -> None:
    def flood() -> None:
        assembler = Assembler(max_payload=2 * MIB, max_begun=4 * MIB)
        for number in range(64):
            assembler.add({"type": "x", "id": number, "more": True}, bytes(MIB))

    def check() -> None:
        with pytest.raises(ProtocolError, match="begun"):
            flood()

    assert growth(check) < 6 * MIB


def test_the_headers_of_messages_begun_count() -> None:
    def flood() -> None:
        assembler = Assembler(max_begun=MIB)
        for number in range(64):
            header = {"type": "x", "id": number, "more": True, "x": [[] for _ in range(10_000)]}
            assembler.add(header, b"")

    with pytest.raises(ProtocolError, match="begun"):
        flood()


def test_what_has_ended_leaves_room() -> None:
    assembler = Assembler(max_begun=2 * MIB)
    for number in range(10):
        assembler.add({"type": "x", "id": number, "more": True}, bytes(MIB))
        assert assembler.add({"type": "more", "id": number}, b"") is not None


def test_a_header_costs_what_it_holds() -> None:
    """Empty bodies with headers that grow thirtyfold when parsed, and a caller that reads slowly."""
    header = b'{"type":"stream","id":1,"name":"stdout","x":[' + b",".join([b"[]"] * 20_000) + b"]}"
    ours, theirs = socket.socketpair()

    def flood() -> None:
        with ours, theirs:
            channel = Channel(Pipe(ours))
            call = channel.call("execute_request", budget=8 * MIB)
            for _ in range(100):
                channel._dispatch(next(Decoder().feed(some.frame(header))))
            call.get(0)

    def check() -> None:
        with pytest.raises(ProtocolError, match="more than"):
            flood()

    assert growth(check) < 12 * MIB


def test_json_that_grows_when_parsed_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector_module, "MAX_PARSED", 40 * MIB)
    piece = b"[" + b",".join([b"[]"] * 30_000) + b"]"
    collector = Collector(Limits(), 1.0, None, None, None)
    header = {"type": "display_data", "parts": [["application/json", len(piece)]]}

    def flood() -> None:
        for _ in range(40):
            collector.add(header, piece)

    assert growth(flood) < 45 * MIB
    kinds = [type(result.data["application/json"]) for result in collector.execution.results]
    assert kinds[0] is list
    assert kinds[-1] is str


def test_a_long_error_report_is_refused() -> None:
    collector = Collector(Limits(), 1.0, None, None, None)
    with pytest.raises(ProtocolError, match="too long"):
        collector.add({"type": "error"}, b" " * MAX_BODY + b'{"ename":"a","evalue":"b","traceback":"c"}')


HARD = [
    pytest.param(
        lambda: read(mux(piece) for piece in cut(encode(some.READY, bytes(30_000)), range(30_000))),
        id="frames of a byte",
    ),
    pytest.param(lambda: read(cut(mux(encode(some.READY, bytes(30_000))), range(30_000))), id="bytes, one by one"),
    pytest.param(lambda: read(repeated(mux(b"") * 1000, 20 * MIB)), id="empty pieces"),
    pytest.param(lambda: read(repeated(some.frame(b'{"type":"stream","id":2}'), 20 * MIB)), id="small frames"),
    pytest.param(lambda: clean_traceback("<" + " " * 100_000), id="spaces after a bracket"),
    pytest.param(lambda: clean_traceback("< / " * 16_000), id="brackets and spaces"),
    pytest.param(lambda: clean("\x1b]" * 500_000), id="titles that never end"),
    pytest.param(lambda: clean("\x1b[" + "0;" * 500_000), id="colours that never end"),
    pytest.param(lambda: [Cleaner().feed("\x1b" + " " * n) for n in range(2000)], id="spaces after escapes"),
]


@pytest.mark.parametrize("action", HARD)
def test_nothing_takes_quadratic_time(action: Callable[[], object]) -> None:
    """Each takes less than a second of CPU time, and much more than this if it is quadratic."""
    before = time.process_time()
    action()
    assert time.process_time() - before < 8
