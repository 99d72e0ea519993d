"""Many agents at once: a live table while they run, and one without script when they are done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from types import TracebackType
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import display

from agentbox_magic.display.block import QUIET, block
from agentbox_magic.display.monitor import is_live
from agentbox_magic.limits import format_size
from agentbox_magic.text import clean

ORDER = (
    "running", "starting", "error", "oom", "timeout", "killed", "lost", "interrupted", "cancelled", "ok", "queued",
)  # fmt: skip
"""In what order the states come: what asks for attention first."""
OPEN = frozenset(ORDER) - {"ok", "queued", "cancelled"}
MAX_LIVE = 30
"""Rows of the live table."""
MAX_ROWS = 2000
MAX_TASK = 120
_COLUMNS = ("agent", "task", "state", "time", "memory", "CPU", "last line")
_TEXTS = ("agent", "task", "state", "last line")
_LEFT = ' style="text-align:left"'  # what a page's tables have on the right by default
EMPTY = {"text/plain": "", "text/html": ""}


@dataclass(frozen=True)
class Row:
    """One agent at one moment.

    Attributes:
        id: its name.
        task: what it was asked.
        state: one of :data:`ORDER`.
        seconds: since it began.
        memory: bytes, of ``memory_limit``; None if unknown.
        cpu_seconds: CPU time, with ``cpus`` cores; None if unknown.
        line: the last line of its output, or why it failed. **Untrusted.**
    """

    id: str
    task: str
    state: str
    seconds: float
    memory: int | None
    memory_limit: int
    cpu_seconds: float | None
    cpus: float
    line: str


def _counts(rows: Sequence[Row]) -> str:
    count = Counter(row.state for row in rows)
    return ", ".join(f"{count[state]} {state}" for state in ORDER if count[state])


def summary(name: str, rows: Sequence[Row]) -> str:
    """One line, the same from run to run, and the names of those that failed.

    >>> summary("scout", [Row("scout-1", "a", "ok", 1.0, None, 1, None, 1.0, "")])
    'scout: 1 task: 1 ok'
    """
    lines = [f"{name}: {len(rows)} task{'' if len(rows) == 1 else 's'}: {_counts(rows) or 'nothing to do'}"]
    for state in ORDER:
        if state in OPEN and (ids := [row.id for row in rows if row.state == state]):
            lines.append(f"  {state}: {', '.join(ids[:20])}{', ...' if len(ids) > 20 else ''}")
    return "\n".join(lines)


def grid(name: str, rows: Sequence[Row], seconds: float, dollars: float) -> dict[str, str]:
    """The MIME bundle for a batch that is done: a table per state, those that failed open. What differs from run to
    run is in elements of class ``agentbox-figure``."""
    text = summary(name, rows)
    parts = [f"<b>{escape(text.splitlines()[0])}</b>", _figure("span", f" in {seconds:.1f} s; on E2B ${dollars:.4f}")]
    for state in ORDER:
        group = [row for row in rows if row.state == state]
        if group:
            is_open = " open" if state in OPEN or len(group) == len(rows) else ""
            more = f"<div>and {len(group) - MAX_ROWS} more</div>" if len(group) > MAX_ROWS else ""
            table = _table(group[:MAX_ROWS])
            parts.append(f"<details{is_open}><summary>{len(group)} {state}</summary>{table}{more}</details>")
    return {"text/plain": text, "text/html": block("grid", "".join(parts))}


def _table(rows: Sequence[Row]) -> str:
    head = "".join(f"<th{_LEFT if title in _TEXTS else ''}>{title}</th>" for title in _COLUMNS)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(map(_row, rows))}</tbody></table>"


def _row(row: Row) -> str:
    cells = [f'<td style="text-align:left;white-space:nowrap">{escape(row.id)}</td>']
    cells += [f"<td{_LEFT}>{escape(text)}</td>" for text in (_short(row.task), row.state)]
    cells.append(_figure("td", f"{row.seconds:.1f}&nbsp;s" if row.seconds else ""))
    memory = cpu = ""
    if row.memory is not None:
        memory = _meter(row.memory, row.memory_limit)
    if row.cpu_seconds is not None:
        share = row.cpu_seconds / (row.seconds * row.cpus) if row.seconds else 0.0
        cpu = f"{row.cpu_seconds:.1f}&nbsp;s ({share:.0%})"  # no meter: to use all of a core is nothing to warn of
    cells += [_figure("td", memory), _figure("td", cpu)]
    cells.append(f"<td{_LEFT}>{escape(_short(row.line))}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _short(text: str) -> str:
    line = " ".join(clean(text, colour=False).split())
    return line if len(line) <= MAX_TASK else line[: MAX_TASK - 3] + "..."


def _figure(tag: str, html: str) -> str:
    return f'<{tag} class="agentbox-figure">{html}</{tag}>'


def _meter(used: int, limit: int) -> str:
    part = min(1.0, used / limit)
    bar = f'<meter style="width:4em" low="0.75" high="0.9" optimum="0" value="{part:.2f}">{part:.0%}</meter>'
    return f'<span style="white-space:nowrap">{bar} {format_size(used)} of {format_size(limit)}</span>'


def progress(name: str, rows: Sequence[Row], seconds: float) -> str:
    """The HTML of a batch under way: a bar, how long it may yet take, and the rows that move or have failed."""
    done = sum(row.state not in ("queued", "starting", "running") for row in rows)
    left = f", about {seconds / done * (len(rows) - done):.0f} s to go" if 0 < done < len(rows) else ""
    bar = f'<progress max="{len(rows)}" value="{done}" style="width:16em">{done} of {len(rows)}</progress>'
    first = sorted((row for row in rows if row.state in OPEN), key=lambda row: ORDER.index(row.state))
    return block(
        "grid",
        f"{bar} {escape(name)}: {done} of {len(rows)} done, {seconds:.0f} s{left}"
        f"<div>{escape(_counts(rows))}</div>{_table(first[:MAX_LIVE])}",
    )


class LiveGrid:
    """In a notebook, an output that is renewed in place while agents run and is empty when they are done, with one line
    under it; elsewhere, or with ``AGENTBOX_LIVE=0``, nothing. For the main thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._in_notebook = bool(getattr(get_ipython(), "kernel", None))
        self._is_live = self._in_notebook and is_live()
        self._handle: Any = None

    def __enter__(self) -> LiveGrid:
        if self._is_live:
            self._handle = display(EMPTY, raw=True, display_id=True)
        return self

    def show(self, rows: Sequence[Row], seconds: float) -> None:
        """Renew it."""
        if self._handle is not None:
            self._handle.update({**EMPTY, "text/html": progress(self._name, rows, seconds)}, raw=True)

    def end(self, rows: Sequence[Row], seconds: float) -> None:
        """Empty it, and say in one line how it went."""
        if self._handle is not None:
            self._handle.update(EMPTY, raw=True)
        if self._in_notebook:
            text = summary(self._name, rows)
            html = f"{escape(text.splitlines()[0])}{_figure('span', f' in {seconds:.1f} s')}"
            html = block("grid", f'<span style="font-size:85%;{QUIET}">{html}</span>')
            display({"text/plain": text.splitlines()[0], "text/html": html}, raw=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._handle = None
