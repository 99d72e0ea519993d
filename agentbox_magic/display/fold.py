"""Long text made short to look at: its beginning, its end, and the number of what lies between."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from html import escape

from agentbox_magic.display.block import block
from agentbox_magic.text import Cleaner, clean

HEAD_LINES, TAIL_LINES = 5000, 500
"""What a stream shows of its lines."""
LINE = 8000
"""Longest line shown, in characters."""
RESULT_LINES, RESULT_HEAD, RESULT_TAIL = 200, 100, 20
"""A result of more lines is folded to its head and tail."""
MAX_TEXT = 2**20

_PIECES = re.compile(r"[^\r\n]*[\r\n]|[^\r\n]+")
_CUT_ESCAPE = re.compile(r"\x1b[^m]*\Z")


class FoldedStream:
    """The output of a run as it may be shown, piece by piece: cleaned, long lines cut, and of very many lines the first
    and the last.

    >>> out = FoldedStream(head=2, tail=1)
    >>> out.feed("1\\n2\\n3\\n")
    '1\\n2\\n[... more lines; how many, and the last ones, at the end ...]\\n'
    >>> out.feed("4\\n5"), out.finish()
    ('', '[... 2 lines ...]\\n5')
    """

    def __init__(self, head: int = HEAD_LINES, tail: int = TAIL_LINES) -> None:
        self._cleaner = Cleaner()
        self._head = head
        self._tail: deque[str] = deque(maxlen=tail)
        self._lines = 0
        self._folded = 0
        self._new_line = True
        self._length = 0
        self._coloured = False

    def feed(self, text: str) -> str:
        """What to show now."""
        return "".join(self._take(piece) for piece in _PIECES.findall(self._cleaner.feed(text)))

    def _take(self, piece: str) -> str:
        """One line, or a part of one; a carriage return begins it anew, as progress bars do."""
        end = piece[-1] if piece[-1] in "\r\n" else ""
        text = piece.removesuffix(end)
        room = max(0, LINE - self._length)
        self._length += len(text)
        self._coloured |= "\x1b" in text
        shown = text[:room]
        if len(text) > room:
            shown = _CUT_ESCAPE.sub("", shown)
        if end:
            if self._length > LINE:
                shown += f"{self._reset()} [... {self._length - LINE:,} characters ...]"
            self._length, self._coloured = 0, False
        return self._place(shown + end, ends=end == "\n")

    def _reset(self) -> str:
        return "\x1b[0m" if self._coloured else ""

    def _place(self, text: str, *, ends: bool) -> str:
        if self._lines < self._head:
            self._lines += ends
            return text
        first = not self._folded
        if self._new_line:
            self._tail.append("")
            self._folded += 1
        self._tail[-1] = (self._tail[-1] + text)[-2 * LINE :]
        self._new_line = ends
        return "[... more lines; how many, and the last ones, at the end ...]\n" if first else ""

    def finish(self) -> str:
        """What is left to show at the end of the run."""
        rest = ""
        if self._length > LINE:
            rest = self._place(f"{self._reset()} [... {self._length - LINE:,} characters ...]", ends=False)
        between = self._folded - (self._tail.maxlen or 0)
        note = f"[... {between:,} lines ...]\n" if between > 0 else ""
        return rest + (note + "".join(self._tail) if self._folded else "")


def _cut(line: str) -> str:
    return line if len(line) <= LINE else f"{line[:LINE]} [... {len(line) - LINE:,} characters ...]"


def fold(text: str) -> tuple[str, str | None]:
    """The text of a result: as plain text, short; and where that leaves something out, as HTML that unfolds.

    >>> fold("short")
    ('short', None)
    >>> fold("x\\n" * 1000)[0].splitlines()[100]
    '[... 880 lines ...]'
    """
    whole, beyond = text[:MAX_TEXT], len(text) - MAX_TEXT
    whole = clean(whole)
    more = f"\n[... {beyond:,} more characters ...]" if beyond > 0 else ""
    lines = whole.removesuffix("\n").split("\n")
    if len(lines) <= RESULT_LINES and max(map(len, lines)) <= LINE:
        return whole + more, None
    if len(lines) > RESULT_LINES:
        head, middle, tail = lines[:RESULT_HEAD], lines[RESULT_HEAD:-RESULT_TAIL], lines[-RESULT_TAIL:]
        note = f"{len(middle):,} lines"
        short = [*map(_cut, head), f"[... {note} ...]", *map(_cut, tail)]
        parts = _pre(map(_cut, head)), _details(note, middle), _pre([*map(_cut, tail), *more.splitlines()[1:]])
    else:
        note = f"all of its {len(whole):,} characters"
        short = [*map(_cut, lines)]
        parts = _pre([*short, *more.splitlines()[1:]]), _details(note, lines), ""
    return "\n".join(short) + more, block("text", "".join(parts))


def _pre(lines: Iterable[str]) -> str:
    text = clean("\n".join(lines), colour=False)
    return f'<pre style="white-space:pre-wrap;overflow-wrap:anywhere">{escape(text)}</pre>'


def _details(summary: str, lines: list[str]) -> str:
    return f'<details><summary style="cursor:pointer">{summary}</summary>{_pre(lines)}</details>'
