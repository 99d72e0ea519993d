"""Text from a box, made safe to show: colours stay, everything that commands a terminal or deceives a reader goes."""

from __future__ import annotations

import re
import unicodedata

_MAX_HELD = 4096
MAX_MARKS = 16
"""Combining characters on one other: no script has as many, and drawing them takes time that grows with the square."""

_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: titles, links, the clipboard
    r"|\x1b[PX^_][^\x1b]*\x1b\\"  # DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-Z\\`-~]"  # two-character escapes
    r"|\x1b"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?|[ -/]*)?\Z")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]")
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")


def _keep_colour(match: re.Match[str]) -> str:
    return match[0] if _COLOUR.fullmatch(match[0]) else ""


def clean(text: str, *, colour: bool = True) -> str:
    """Without control sequences except colours, without control characters except newline, tab and carriage return;
    characters that change the direction of text are shown by their code; lone surrogates, which no UTF-8 stream can
    carry, are replaced.

    >>> clean("a\\x1b]52;c;ZXZpbA==\\x07b\\x1b[31mred\\x1b[0m\\x00")
    'ab\\x1b[31mred\\x1b[0m'
    >>> clean("\\x1b[31mred\\x1b[0m", colour=False)
    'red'
    >>> clean("user\\u202etxt.exe")
    'user<U+202E>txt.exe'
    """
    text = _ESCAPE.sub(_keep_colour if colour else "", text)
    text = _CONTROLS.sub("", text)
    text = _SURROGATES.sub("\ufffd", text)
    return show_bidi(few_marks(text))


def few_marks(text: str) -> str:
    """At most :data:`MAX_MARKS` combining characters on one other; the number of the rest in their place.

    >>> few_marks("e" + "\u0301" * 20) == "e" + "\u0301" * 16 + "[+4 marks]"
    True
    """
    if len(text) <= MAX_MARKS or text.isascii():
        return text
    marks = "".join(one for one in set(text) if unicodedata.category(one) in ("Mn", "Me", "Mc"))
    if not marks:
        return text
    many = re.compile(f"([{marks}]{{{MAX_MARKS}}})([{marks}]+)")  # no mark means anything in a class
    return many.sub(lambda match: f"{match[1]}[+{len(match[2]):,} marks]", text)


def show_bidi(text: str, *, html: bool = False) -> str:
    """Characters that change the direction of text, shown by their code; with ``html``, of HTML.

    >>> show_bidi("user\\u202etxt.exe"), show_bidi("user\\u202etxt.exe", html=True)
    ('user<U+202E>txt.exe', 'user&lt;U+202E&gt;txt.exe')
    """
    before, after = ("&lt;", "&gt;") if html else ("<", ">")
    return _BIDI.sub(lambda match: f"{before}U+{ord(match[0]):04X}{after}", text)


def clean_traceback(text: str, *, colour: bool = True) -> str:
    """:func:`clean`, and no anchor elements: some front ends make links of those even in plain tracebacks.

    >>> clean_traceback('see <a href="https://example.org">this</a>')
    'see <\\u2060a href="https://example.org">this<\\u2060/a>'
    """
    return re.sub(r"<(?=\s*(?:/\s*)?a\b)", "<\u2060", clean(text, colour=colour), flags=re.IGNORECASE)


class Cleaner:
    """:func:`clean` for text that arrives in pieces: a sequence cut in two is still one.

    >>> cleaner = Cleaner()
    >>> cleaner.feed("a\\x1b]0;ti"), cleaner.feed("tle\\x07b")
    ('a', 'b')
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """The text that is complete by now."""
        text = self._held + text
        self._held = ""
        unfinished = _UNFINISHED.search(text)
        if unfinished and len(unfinished[0]) <= _MAX_HELD:
            self._held = unfinished[0]
            text = text[: unfinished.start()]
        return clean(text)
