"""What boxes send: honest messages, and all that an attacker who owns PID 1 might send instead."""

from __future__ import annotations

import json
import struct
from typing import Any

from fuzz.harness import Message, mux
from hypothesis import strategies as st

from agent_executor.wire import MAX_BODY, MAX_HEADER, Header, encode, encode_message
from agentbox_magic.execution import STATUSES

cuts = st.lists(st.integers(0, 2**20), max_size=8)
small = st.binary(max_size=64)
text = st.text(max_size=40)

# -- honest -----------------------------------------------------------------------------------------------------------

ids = st.sampled_from([1, 3])


@st.composite
def bundles(draw: st.DrawFn) -> Message:
    """The header fields and the payload of a display."""
    mimes = st.sampled_from(["text/plain", "text/html", "image/png", "image/svg+xml", "application/json", "x/y"])
    parts = draw(st.lists(st.tuples(mimes, small), max_size=4))
    return {"parts": [[mime, len(raw)] for mime, raw in parts]}, b"".join(raw for _, raw in parts)


@st.composite
def honest(draw: st.DrawFn) -> Message:
    """A message of a run, before its reply."""
    kind = draw(st.sampled_from(["stream", "display_data", "execute_result", "error"]))
    header: Header = {"type": kind, "id": draw(ids)}
    if kind == "stream":
        header["name"] = draw(st.sampled_from(["stdout", "stderr"]))
        if draw(st.booleans()):
            header["dropped"] = draw(st.integers(0, 2**40))
        return header, draw(small)
    if kind == "error":
        return header, json.dumps({"ename": draw(text), "evalue": draw(text), "traceback": draw(text)}).encode()
    fields, payload = draw(bundles())
    return {**header, **fields}, payload


def reply(number: int, status: str = "ok", **fields: Any) -> Header:
    """The end of a run."""
    return {"type": "execute_reply", "id": number, "status": status, "usage": {"duration": 0.5}, **fields}


READY: Header = {"type": "ready", "protocol": 1, "python": "3.11.2"}

honest_streams = st.lists(honest(), max_size=6).map(lambda messages: [(READY, b""), *messages])

# -- forged -----------------------------------------------------------------------------------------------------------

numbers = st.one_of(
    st.integers(-4, 5),
    st.sampled_from([2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400, -(10**400), 1e308, -0.0, 1.0, 2.5, -1]),
    st.floats(allow_nan=False, allow_infinity=False),
)
strange = st.sampled_from(["\x1b]0;t\x07", "3.11\x1b[31m", "x" * 1000])
scalars = st.one_of(
    strange, st.none(), st.booleans(), numbers, st.text(max_size=8), st.just("\ud800"), st.just("stdout")
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)),
    max_leaves=12,
)
types = st.sampled_from(
    ["ready", "stream", "display_data", "execute_result", "error", "execute_reply", "more", "ack", "", "__class__"]
)
forged_ids = st.one_of(numbers, values)


@st.composite
def forged_headers(draw: st.DrawFn) -> Header:
    """Known fields with any values."""
    header: Header = {"type": draw(types), "id": draw(st.one_of(st.integers(0, 4), forged_ids))}
    fields: dict[str, st.SearchStrategy[Any]] = {
        "more": st.booleans() | values,
        "name": st.sampled_from(["stdout", "stderr"]) | values,
        "dropped": numbers | values,
        "parts": st.lists(st.lists(st.sampled_from(["text/plain", "a/json"]) | numbers, min_size=1, max_size=3))
        | values,
        "status": st.sampled_from(STATUSES) | values,
        "usage": st.dictionaries(
            st.sampled_from(["duration", "memory_peak", "cpu_seconds", "pids_peak", "oom_kills", "history"]),
            numbers | values | st.lists(st.tuples(numbers, numbers, numbers).map(list)),
        )
        | values,
        "execution_count": numbers | values,
        "signal": st.integers(-1, 70) | values,
        "exit_code": numbers | values,
        "protocol": st.just(1) | values,
    }
    for name in draw(st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True)):
        header[name] = draw(fields[name])
    if header["type"] == "execute_reply" and draw(st.booleans()):
        header.setdefault("status", draw(st.sampled_from(STATUSES)))
        header.setdefault("usage", {"duration": draw(numbers)})
    return header


def frame(head: bytes, body: bytes = b"") -> bytes:
    """A frame whose header is any bytes."""
    return struct.pack("!II", len(head), len(body)) + head + body


error_payloads = st.one_of(
    small,
    st.dictionaries(st.sampled_from(["ename", "evalue", "traceback"]), values).map(lambda v: json.dumps(v).encode()),
    st.sampled_from(
        [
            b"[" * 5000,
            b'{"ename":"\\ud800","evalue":"\\udfff","traceback":"\\ud83d"}',
            b'{"ename":"a","evalue":"b","traceback":"<' + b" " * 60_000 + b'"}',
            '{"ename":"a","evalue":"b","traceback":"c"}'.encode("utf-16"),
        ]
    ),
)

forged_frames = st.builds(
    lambda header, body: frame(json.dumps(header).encode(), body), forged_headers(), small | error_payloads
)

broken_headers = st.one_of(
    small,
    st.integers(1, 30_000).map(lambda n: b'{"type":"a","id":1,"x":' + b"[" * n + b"]" * n + b"}"),
    st.integers(1, 10_000).map(lambda n: b'{"type":"stream","id":' + b"9" * n + b"}"),
    st.integers(1, 900).map(lambda n: b'{"type":"ready","protocol":' + b"[" * n + b"]" * n + b"}"),
    st.sampled_from(
        [
            b"",
            b"{}",
            b"null",
            b'"type"',
            b'{"type":1}',
            b'{"type":"a"}',
            b'{"type":"stream","id":1,"id":true,"name":"stdout"}',
            b'{"type":"stream","type":["stream"],"id":1}',
            b'{"type":"execute_reply","id":1,"status":"ok","usage":{"duration":1e999}}',
            b'{"type":"execute_reply","id":1,"status":"ok","usage":{"duration":NaN}}',
            b'{"type":"\\ud800","id":1}',
            b'{"type":"stream","id":1,"name":"\\udfff"}',
            b'{"type":"a\xff","id":1}',
            b"\xef\xbb\xbf" + b'{"type":"a","id":1}',
            '{"type":"ready","protocol":1}'.encode("utf-16"),
            b'{"type":"a","id":1,"x":"' + b"y" * (MAX_HEADER - 30) + b'"}',
        ]
    ),
)
broken_frames = st.builds(frame, broken_headers, small)

bad_prefixes = st.builds(
    lambda head, body, rest: struct.pack("!II", head, body) + rest,
    st.sampled_from([0, 1, MAX_HEADER, MAX_HEADER + 1, 2**31 - 1, 2**31, 2**32 - 1]),
    st.sampled_from([0, 1, MAX_BODY, MAX_BODY + 1, 2**31, 2**32 - 1]),
    small,
)


@st.composite
def chains(draw: st.DrawFn) -> bytes:
    """Messages in several frames: whole, without a beginning, without an end, begun twice."""
    number = draw(st.sampled_from([1, 2, 3, 4, True, -1, 0]))
    first: Header = {"type": draw(types), "id": number, "name": "stdout", "more": draw(st.booleans())}
    heads = [first] + [
        {"type": "more", "id": number, **({"more": True} if more else {})} for more in draw(st.lists(st.booleans()))
    ]
    return b"".join(encode(head, draw(small)) for head in heads[draw(st.integers(0, 1)) :])


honest_bytes = st.builds(lambda message: b"".join(encode_message(*message)), honest())
replies = st.builds(lambda number, status: encode(reply(number, status)), st.integers(0, 5), st.sampled_from(STATUSES))

pieces = st.one_of(honest_bytes, forged_frames, forged_frames, chains(), replies, broken_frames, bad_prefixes, small)
hostile_streams = st.builds(
    lambda ready, parts, lost: (encode(READY) if ready else b"") + b"".join(parts)[: -lost or None],
    st.booleans(),
    st.lists(pieces, max_size=8),
    st.just(0) | st.integers(0, 40),
)

# -- Docker's own framing ---------------------------------------------------------------------------------------------


@st.composite
def muxed(draw: st.DrawFn, data: bytes) -> bytes:
    """The data as Docker frames it: in pieces of any length, with empty ones and PID 1's stderr in between."""
    out, start = b"", 0
    while start < len(data):
        size = draw(st.integers(0, 200))
        out += mux(data[start : start + size])
        start += size
        if draw(st.booleans()):
            out += mux(draw(small), stream=2)
    return out


hostile_muxes = st.lists(
    st.builds(
        lambda stream, length, data: struct.pack(">BxxxL", stream, length) + data,
        st.integers(0, 255),
        st.sampled_from([0, 1, 7, 8, 9, 64, 2**31, 2**32 - 1]),
        small,
    )
    | small,
    max_size=10,
).map(b"".join)

# -- text -------------------------------------------------------------------------------------------------------------

_TERMINAL = [
    "\x1b", "\x1b[", "\x1b]", "\x1bP", "\x1bX", "\x1b^", "\x1b_", "\x1b\\", "\x07", "\x9b", "\x9d", "\x9c", "\x00",
    "\x08", "\x7f", "m", ";", ":", "0", "31", "?", ">", " ", "!", "$", "H", "J", "c", "\n", "\r", "\t", "\u202e",
    "\u2066", "a", "é", "\U0001f600", "\ud800", "\udfff", "<", "a ", "/", "52;c;AAAA", "8;;https://evil.example",
]  # fmt: skip
terminal_text = st.lists(st.sampled_from(_TERMINAL) | st.characters(), max_size=30).map("".join)

_MARKUP = [
    "<", ">", "/", "=", '"', "'", " ", "<script>", "</script>", "<img src=", "<svg", "<math>", "<mtext>", "<style>",
    "</style>", "<a href=", "javascript:evil()", "https://evil.example/x", "//evil.example",
    "data:image/png;base64,AAAA", "data:image/svg+xml,<svg/onload=x>", "data:text/html,x", " onerror=evil()",
    " onload=x", " style=", "background:url(", "color:red", "background-color:url(https://evil.example)",
    "color:expression(x)", ")", ";", "<!--", "-->", "<![CDATA[", "]]>", "<table>", "<td", "<tr>", "</table>", "<p",
    "<iframe srcdoc=", "<form action=", "<input", "<base href=", "<meta http-equiv=", "<noscript>", "<template>",
    "<select>", "<textarea>", "<title>", "<xmp>", "<plaintext>", "&lt;", "&#x3c;", "&colon;", "\x00", " class=x",
    " id=x", " srcset=", " title=", "<style", "<b>", "</b>", "<foreignObject>",
    "<annotation-xml encoding=text/html>",
]  # fmt: skip
_URLS = [
    "https://evil.example/x", "//evil.example", "javascript:evil()", "data:text/html,x", "cid:x", "x", "&#100;ata:,x",
    "data:image/svg+xml;base64,AA", "data:image/png;base64,AA", " data:image/jpeg;base64,AA", "DATA:image/svg+xml,x",
]  # fmt: skip
_NAMES = ["src", "SRC", "href", "srcset", "cite", "background", "onclick", "srcdoc", "id", "title"]
_RULES = ["color:red", "background:url(//evil.example)", "background-color:url(//evil.example)", "position:fixed"]
_attributes = st.one_of(
    st.builds("{}={}".format, st.sampled_from(_NAMES), st.sampled_from(_URLS)),
    st.builds('{}="{}"'.format, st.sampled_from(_NAMES), st.sampled_from(_URLS)),
    st.builds("style='{};{}'".format, st.sampled_from(_RULES), st.sampled_from(_RULES)),
)
_elements = st.builds(
    "<{}{}{}>".format,
    st.sampled_from(["img", "IMG", "a", "p", "td", "svg", "image", "table", "iframe", "object", "input", "q", "del"]),
    st.sampled_from([" ", "/", "\n", "\x0c"]),
    _attributes,
)
markup = st.lists(_elements | st.sampled_from(_MARKUP) | st.text(max_size=3).filter(str.isascii), max_size=25).map(
    "".join
)
