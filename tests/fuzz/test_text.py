"""Text for a terminal or a page: of all that a box's text could do there, its colours are left."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, cast

from fuzz import strategies as some
from fuzz.harness import Wire, mux
from hypothesis import example, given
from hypothesis import strategies as st

from agent_executor.wire import encode
from agentbox_magic import Result, SandboxError
from agentbox_magic.channel import Channel
from agentbox_magic.display import safe_bundle
from agentbox_magic.display.fold import FoldedStream
from agentbox_magic.engine import Engine, Pipe
from agentbox_magic.launch import greet
from agentbox_magic.text import Cleaner, clean, clean_traceback

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


@given(st.lists(some.terminal_text | st.sampled_from(["\n", "\r", "x" * 5000])))
def test_a_folded_stream_is_safe_and_short(pieces: list[str]) -> None:
    out = FoldedStream(head=3, tail=2)
    shown = "".join([*map(out.feed, pieces), out.finish()])
    assert shown_safely(shown)
    assert shown.count("\n") <= 3 + 2 + 2


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
