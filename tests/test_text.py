"""Text from a box on its way to a page or a terminal."""

from __future__ import annotations

import pytest

from agentbox_magic.text import Cleaner, clean, clean_traceback

HOSTILE = [
    pytest.param("a\x1b]52;c;ZXZpbA==\x07b", "ab", id="OSC 52: the clipboard"),
    pytest.param("a\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\b", "alinkb", id="OSC 8: a link"),
    pytest.param("a\x1b]0;title\x07b", "ab", id="the window's title"),
    pytest.param("a\x1bP+q544e\x1b\\b", "ab", id="DCS"),
    pytest.param("a\x1b[2Jb\x1b[1;1Hc", "abc", id="clear the screen, move the cursor"),
    pytest.param("a\x1b[6nb", "ab", id="make the terminal answer"),
    pytest.param("a\x1bcb", "ab", id="reset"),
    pytest.param("a\x00b\x08c\x7fd", "abcd", id="control characters"),
    pytest.param("a\x9b31mb\x9d0;t\x07", "a31mb0;t", id="C1 controls"),
    pytest.param("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m", id="colours stay"),
    pytest.param("10%\r20%\tdone\n", "10%\r20%\tdone\n", id="progress bars stay"),
    pytest.param("a\u202eb\u2066c", "a<U+202E>b<U+2066>c", id="bidi controls are shown"),
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_clean(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_a_sequence_cut_anywhere_is_still_one(text: str, shown: str) -> None:
    for cut in range(len(text) + 1):
        cleaner = Cleaner()
        assert cleaner.feed(text[:cut]) + cleaner.feed(text[cut:]) == shown


def test_an_escape_that_never_ends_holds_nothing_back_for_ever() -> None:
    cleaner = Cleaner()
    cleaner.feed("\x1b]" + "x" * 10_000)
    assert cleaner.feed("after") == "after"


def test_a_traceback_has_no_links() -> None:
    assert "<a" not in clean_traceback('<a href="command:evil">x</a> <A HREF=x>').lower()
    assert clean_traceback("a < b, <abc>") == "a < b, <abc>"
