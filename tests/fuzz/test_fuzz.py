"""Whatever a hostile box sends, the host ends in a clean refusal; and honest streams read the same however they arrive.

With ``AGENTBOX_FUZZ_SECONDS`` set, new random examples for about so long; otherwise the same few every time.
"""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import pytest
from fuzz import strategies as some
from fuzz.harness import PATIENCE, Wire, cut, mux, read
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from agent_executor.wire import (
    MAX_BODY,
    MAX_PAYLOAD,
    Assembler,
    Decoder,
    Header,
    ProtocolError,
    encode,
    encode_message,
)
from agentbox_magic import Result, SandboxError
from agentbox_magic import collector as collector_module
from agentbox_magic.channel import Call, Channel, ChannelClosedError
from agentbox_magic.collector import Collector, decode_bundle
from agentbox_magic.display import safe as safe_module
from agentbox_magic.display import safe_bundle
from agentbox_magic.display.fold import FoldedStream
from agentbox_magic.display.latex import safe_latex
from agentbox_magic.display.sanitise import (
    _ATTRIBUTES,
    _FRAME_ATTRIBUTES,
    _FRAME_TAGS,
    _STYLES,
    _TAGS,
    frame_html,
    safe_html,
    safe_image,
    safe_markdown,
)
from agentbox_magic.engine import Engine, Pipe
from agentbox_magic.launch import greet
from agentbox_magic.limits import Limits
from agentbox_magic.text import Cleaner, clean, clean_traceback

Message = tuple[Header, bytes]


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


# -- frames and messages ----------------------------------------------------------------------------------------------


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


# -- the pipe ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def peer(pieces: Iterable[bytes], greet: bool = False) -> Iterator[socket.socket]:
    """The host's end of a socket on whose other end a box sends ``pieces`` and closes; ``greet``: first its nonce."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)

    def send() -> None:
        with contextlib.suppress(OSError), theirs:
            if greet:
                seen = b""
                while b'"hello"' not in seen:
                    seen += theirs.recv(4096)
                theirs.sendall(mux(seen.rpartition(b'"nonce":"')[2].partition(b'"')[0]))
            for piece in pieces:
                theirs.sendall(piece)
            theirs.shutdown(socket.SHUT_WR)
            while theirs.recv(65536):  # as a box does until its host goes: closing now could reset what is on its way
                pass

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield ours
    finally:
        ours.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def drain(pipe: Pipe) -> bytes:
    return b"".join(iter(pipe.recv, b""))


@given(st.data(), some.small, some.cuts)
def test_the_pipe_gives_stdout_however_docker_frames_it(data: st.DataObject, payload: bytes, places: list[int]) -> None:
    stream = data.draw(some.muxed(payload))
    with peer(cut(stream, places)) as ours:
        pipe = Pipe(ours)
        assert drain(pipe) == payload
        pipe.close()


@given(some.hostile_muxes, some.cuts)
def test_the_pipe_takes_any_framing(stream: bytes, places: list[int]) -> None:
    with peer(cut(stream, places)) as ours:
        pipe = Pipe(ours)
        assert len(drain(pipe)) <= len(stream)
        assert len(pipe.stderr) <= 4096
        pipe.close()


def test_closing_wakes_a_reader_and_frees_the_socket() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        pipe = Pipe(ours)
        reader = threading.Thread(target=pipe.recv)
        reader.start()
        pipe.close()
        reader.join(PATIENCE)
        assert not reader.is_alive()
        assert ours.fileno() == -1


def test_a_socket_is_closed_even_if_what_holds_it_fails_to() -> None:
    ours, theirs = socket.socketpair()

    class Raw:
        _sock = ours

        def close(self) -> None:
            raise OSError("gone")

    with theirs:
        Pipe(Raw()).close()
        assert ours.fileno() == -1


# -- the channel and what reads it ------------------------------------------------------------------------------------


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


@given(some.values)
def test_the_version_a_box_tells_is_short_plain_text(python: Any) -> None:
    channel = Channel(Pipe(Wire([mux(encode({**some.READY, "python": python}))])))
    try:
        launched = greet(cast(Engine, None), "c0ffee", channel)  # it asks nothing of the engine
    except SandboxError:
        return  # more than a greeting may be
    assert len(launched.python) <= 40
    assert shown_safely(launched.python)
    channel.close()


def test_a_call_forgotten_while_its_answer_arrives() -> None:
    """Between the reader's looks at the table of calls, the call goes."""

    class Calls(dict[int, Call]):
        def __contains__(self, key: object) -> bool:
            found = super().__contains__(key)
            self.pop(key, None)  # type: ignore[call-overload]
            return found

    ours, theirs = socket.socketpair()
    with theirs:
        channel = Channel(Pipe(ours))
        channel._calls = Calls()
        channel.call("execute_request", budget=2**20)
        channel._dispatch((some.reply(1), b""))
        channel.close()


@given(some.forged_headers(), some.small | some.error_payloads)
@example({"type": "stream", "name": {}}, b"")
@example(some.reply(1, usage={"duration": 10**400, "cpu_seconds": -(10**400)}), b"")
def test_the_collector_takes_or_refuses_any_message(header: Header, payload: bytes) -> None:
    collector = Collector(Limits(), 1.0, str.encode, None, safe_bundle)
    with contextlib.suppress(ProtocolError):
        collector.add(header, payload)
    collector.end(None)
    if collector.execution.error:
        str(collector.execution.error).encode()  # what cannot be encoded cannot be shown


def test_an_error_that_no_utf8_can_carry_is_still_shown() -> None:
    collector = Collector(Limits(), 1.0, None, None, None)
    collector.add({"type": "error"}, json.dumps(dict.fromkeys(("ename", "evalue", "traceback"), "a\ud800b")).encode())
    collector.add(some.reply(1, "error"), b"")
    assert str(collector.execution.error) == "a\ufffdb: a\ufffdb"


@given(some.values, some.small)
def test_a_bundle_is_decoded_or_refused(parts: Any, payload: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert isinstance(decode_bundle({"parts": parts}, payload), dict)


@given(some.bundles())
def test_a_bundle_arrives(bundle: Message) -> None:
    header, payload = bundle
    data = decode_bundle(header, payload)
    assert set(data) == {mime for mime, _ in header["parts"]}
    safe_bundle(Result(data))


# -- memory and time --------------------------------------------------------------------------------------------------


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


# -- text -------------------------------------------------------------------------------------------------------------

_SGR = re.compile(r"\x1b\[[0-9;:]*m")


def shown_safely(text: str) -> bool:
    rest = _SGR.sub("", text)
    return all(c in "\n\t\r" or unicodedata.category(c) not in ("Cc", "Cs") for c in rest)


@given(some.terminal_text)
@example("\x1b[31 !m")
def test_cleaned_text_holds_only_colours(text: str) -> None:
    cleaned = clean(text)
    assert shown_safely(cleaned)
    assert clean(cleaned) == cleaned
    plain = clean(text, colour=False)
    assert "\x1b" not in plain
    assert clean(plain) == plain


@given(some.terminal_text, some.cuts)
def test_text_is_cleaned_the_same_however_it_is_cut(text: str, places: list[int]) -> None:
    cleaner, out, start = Cleaner(), "", 0
    for place in [*sorted(place % (len(text) + 1) for place in places), len(text)]:
        out += cleaner.feed(text[start:place])
        start = place
    # A character that can begin nothing ends what is held; both sides get it.
    assert out + cleaner.feed("\x07\x1b\\é") == clean(text + "\x07\x1b\\é")


@given(st.lists(some.terminal_text | st.sampled_from(["\x1b]", "x" * 5000, "\x1bP"]), max_size=8))
def test_text_beyond_what_is_held_is_still_clean(pieces: list[str]) -> None:
    cleaner = Cleaner()
    out = "".join(map(cleaner.feed, pieces))
    assert shown_safely(out)
    assert len(cleaner._held) <= 4096


@given(some.terminal_text | some.markup)
def test_a_traceback_has_no_links(text: str) -> None:
    cleaned = clean_traceback(text)
    assert shown_safely(cleaned)
    assert not re.search(r"<\s*/?\s*a\b", cleaned, re.IGNORECASE)


def test_text_that_is_cut_off_is_cut_before_it_is_cleaned() -> None:
    text = "x" * (2**20 - 3) + "\x1b[31mred"
    assert shown_safely(safe_bundle(Result({"text/plain": text}))["text/plain"])


# -- pages ------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Fails on anything a page, or a frame of its own, could run or load."""

    def __init__(self, *, frame: bool = False) -> None:
        super().__init__()
        self._frame = frame
        # This parser writes all names small.
        self._tags = {tag.lower() for tag in (_FRAME_TAGS if frame else _TAGS)}
        self._attributes = _FRAME_ATTRIBUTES if frame else _ATTRIBUTES

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self._tags, tag
        for name, value in attrs:
            known = self._attributes["*"] | self._attributes.get(tag, set())
            assert name in {one.lower() for one in known}, (tag, name)
            if name in ("src", "href", "xlink:href"):
                assert value is not None
                inline = ("data:image/png;base64,", "data:image/jpeg;base64,")
                assert value.startswith((*inline, "#") if self._frame else inline)
            if name == "style" and not self._frame:
                rules = [rule.partition(":") for rule in (value or "").split(";") if rule.strip()]
                assert {rule[0].strip() for rule in rules} <= _STYLES
                assert not re.search(r"url|expression|import|@|\\|/\*|http", value or "", re.IGNORECASE), value

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data}")


@given(some.markup)
def test_clean_html_runs_and_loads_nothing(html: str) -> None:
    page = Page()
    page.feed(safe_html(html))
    page.close()


@given(some.markup)
def test_html_for_a_frame_runs_and_loads_nothing(html: str) -> None:
    page = Page(frame=True)
    page.feed(frame_html(html))
    page.close()


@given(some.markup)
def test_markdown_runs_and_loads_nothing(text: str) -> None:
    page = Page()
    page.feed(safe_markdown(text))
    page.close()


_LATEX = st.sampled_from(
    ["\\frac", "\\href", "\\style", "\\begin{array}", "\\begin", "{", "}", "$", "<b>", "&lt;", "![x](y)", "\\", "x"]
)


@given(st.lists(_LATEX).map(lambda parts: f"${''.join(parts)}$"))
@example(r"$\frac{1}{2}$")
def test_a_formula_has_only_macros_that_draw(source: str) -> None:
    shown = safe_latex(source)
    assert shown is None or not re.search(r"\\(?:href|style)|[<>`]|&\w|!\[", shown)


@given(st.lists(some.terminal_text | st.sampled_from(["\n", "\r", "x" * 5000])))
def test_a_folded_stream_is_safe_and_short(pieces: list[str]) -> None:
    out = FoldedStream(head=3, tail=2)
    shown = "".join([*map(out.feed, pieces), out.finish()])
    assert shown_safely(shown)
    assert shown.count("\n") <= 3 + 2 + 2


def test_html_that_would_take_an_hour_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_module, "CLEAN_SECONDS", 0.5)
    bundle = safe_bundle(Result({"text/html": "<rt>" * 2**20, "text/plain": "plain"}))
    assert set(bundle) == {"text/plain"}
    assert "cannot be shown" in bundle["text/plain"]


def test_long_html_is_cleaned_like_short() -> None:
    table = "<table><tbody>" + "<tr><td>é</td></tr>" * 20_000 + "</tbody></table>"
    html = safe_bundle(Result({"text/html": table + "<script>evil()</script>"}))["text/html"]
    assert safe_html(table) in html
    assert "<script" not in html


def picture(kind: str, mode: str) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (5, 4)).save(out, kind)
    return out.getvalue()


_PICTURES = [("image/png", picture("PNG", mode)) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")] + [
    ("image/jpeg", picture("JPEG", mode)) for mode in ("L", "RGB", "CMYK")
]


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """Pictures with bytes changed, cut and added, their checksums made right again."""
    mime, raw = draw(st.sampled_from(_PICTURES))
    data = bytearray(raw)
    for place, value in draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=6)):
        data[place] = value
    if mime == "image/png" and draw(st.booleans()):
        _mend(data)
    data = data[: draw(st.just(len(data)) | st.integers(0, len(data)))]
    return mime, bytes(data) + draw(some.small)


def _mend(data: bytearray) -> None:
    start = 8
    while start + 12 <= len(data):
        end = start + 8 + int.from_bytes(data[start : start + 4], "big")
        if end + 4 > len(data):
            return
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[start + 4 : end]))
        start = end + 4


@given(damaged() | st.tuples(st.sampled_from(["image/png", "image/jpeg"]), some.small))
def test_a_picture_is_redrawn_or_refused(image: tuple[str, bytes]) -> None:
    mime, raw = image
    shown = safe_image(raw, mime)
    if shown is not None:
        with Image.open(io.BytesIO(shown[0])) as drawn:
            drawn.load()
            assert not {"comment", "exif", "icc_profile", "transparency"} & set(drawn.info)
    bundle = safe_bundle(Result({mime: raw}))
    assert set(bundle) <= {"text/plain", mime}
    base64.b64decode(bundle.get(mime, ""), validate=True)


def test_a_picture_that_only_claims_to_be_huge_is_refused() -> None:
    data = bytearray(picture("PNG", "L"))
    data[16:24] = struct.pack(">II", 10_000, 10_000)  # Pillow warns of this many, and pytest makes errors of warnings
    _mend(data)
    assert safe_image(bytes(data), "image/png") is None


# -- guided by coverage -----------------------------------------------------------------------------------------------


def test_the_guided_fuzzer_finds_nothing_in_a_short_run(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has wheels for Linux on x86-64 only")
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, root / "tests" / "fuzz" / "fuzz_reader.py", "-runs=20000", "-seed=1", "-print_final_stats=1",
         f"-artifact_prefix={tmp_path}/", tmp_path],
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'image'}"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-4000:]
    assert "stat::number_of_executed_units: 20000" in run.stderr
    # Guided: inputs were added because they reached code that no other had.
    covered = [int(number) for number in re.findall(r"cov: (\d+)", run.stderr)]
    assert covered[-1] > covered[0]
