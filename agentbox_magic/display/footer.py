"""The line under a cell that tells what it used; it unfolds to all figures against their limits."""

from __future__ import annotations

import base64
from html import escape
from itertools import pairwise
from typing import Any

from agentbox_magic.display.block import QUIET, block
from agentbox_magic.execution import Execution, Sample, Usage
from agentbox_magic.limits import Limits, format_size

_ICONS = {"ok": "✓", "error": "✗", "timeout": "!", "oom": "!", "interrupted": "■", "killed": "■", "lost": "?"}
# Middle tones: a picture does not know whether the page is light or dark.
_MEMORY, _CPU = "#3b82d6", "#d9680f"
_CELL = "text-align:left;padding:.2em 1.2em .2em .4em"
_WIDTH, _HEIGHT = 200, 24
FEWEST = 4
"""Samples that make a curve."""


def footer(run: Execution, limits: Limits, image: str = "") -> dict[str, Any]:
    """The MIME bundle for a finished run. The text is the same from run to run; figures are in the HTML only.

    Args:
        limits: of the box, with the timeout of this run.
        image: its name, as the user gave it; empty for the default one.
    """
    line = " &middot; ".join(_line(run, limits, image))
    page = f'<details><summary style="cursor:pointer">{line}</summary>{_table(run, limits, image)}</details>'
    html = block("footer", f'<span style="display:block;font-size:85%;{QUIET}">{page}</span>')
    return {"text/plain": f"sandbox: {run.status}", "text/html": html}


def _line(run: Execution, limits: Limits, image: str) -> list[str]:
    usage = run.usage
    tone = "success" if run.status == "ok" else "warn" if run.status == "interrupted" else "error"
    icon = f'<span style="color:var(--jp-{tone}-color1,inherit)">{_ICONS[run.status]}</span>'
    parts = [f"{icon} <b>{run.status}</b>", f"{run.duration:.2f} s"]
    if usage.memory_peak is not None:
        parts.append(f"memory {_of(usage, limits)} {_meter(min(usage.memory_peak, limits.mem), limits.mem)}")
    if usage.cpu_seconds is not None:
        parts.append(f"CPU {usage.cpu_seconds:.2f} s")
    if usage.oom_kills and run.status != "oom":
        parts.append(f"{usage.oom_kills:,} of its processes killed for memory")
    if run.dropped_results:
        parts.append(f"{run.dropped_results:,} displays dropped")
    if image:
        parts.append(escape(image))
    return parts


def _of(usage: Usage, limits: Limits) -> str:
    return f"{format_size(min(usage.memory_peak or 0, limits.mem))} of {format_size(limits.mem)}"


def _meter(value: float, limit: float) -> str:
    """A gauge, with its text for those who cannot see it; green, then yellow from 75 %, red from 90 %."""
    return (
        f'<meter style="width:5em" min="0" low="{limit * 0.75:.0f}" high="{limit * 0.9:.0f}" optimum="0" '
        f'max="{limit:.0f}" value="{value:.0f}" title="{value / limit:.0%}">({value / limit:.0%})</meter>'
    )


def _table(run: Execution, limits: Limits, image: str) -> str:
    usage, history = run.usage, run.usage.history
    peak, cpu, pids = usage.memory_peak, usage.cpu_seconds, usage.pids_peak
    memory = "unknown" if peak is None else f"{format_size(min(peak, limits.mem))} ({min(peak / limits.mem, 1):.0%})"
    load = f" ({cpu / run.duration / limits.cpus:.0%})" if cpu is not None and run.duration > 0 else ""
    rows = [
        ("time", f"{run.duration:.2f} s", f"{limits.timeout:g} s" if limits.timeout else "none", ""),
        ("memory, peak", memory, format_size(limits.mem),
         _curve("memory", [(one.seconds, one.memory) for one in history], limits.mem, _MEMORY)),
        ("CPU", "unknown" if cpu is None else f"{cpu:.2f} s{load}",
         f"{limits.cpus:g} core{'s' * (limits.cpus > 1)}", _curve("CPU", _loads(history), limits.cpus, _CPU)),
        ("processes and threads, peak", "unknown" if pids is None else f"{pids:,}", f"{limits.pids:,}", ""),
        ("network", "", limits.network, ""),
        ("image", escape(image) or "the default one", "", ""),
    ]  # fmt: skip
    if usage.oom_kills:
        rows.insert(2, ("processes killed for memory", f"{usage.oom_kills:,}", "", ""))
    names = "".join(f'<th scope="col" style="{_CELL}">{name}</th>' for name in ("", "used", "limit", "over time"))
    body = "".join(
        f'<tr><th scope="row" style="{_CELL};font-weight:normal">{name}</th>'
        + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells)
        + "</tr>"
        for name, *cells in rows
    )
    return (
        f'<table style="font-size:inherit;margin:.4em 0 .4em 1.2em"><thead><tr>{names}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _loads(history: tuple[Sample, ...]) -> list[tuple[float, float]]:
    """Cores in use, from one sample to the next."""
    return [
        (now.seconds, (now.cpu_seconds - before.cpu_seconds) / (now.seconds - before.seconds))
        for before, now in pairwise(history)
        if now.seconds - before.seconds > 0.01 and now.cpu_seconds >= before.cpu_seconds
    ]


def _curve(name: str, points: list[tuple[float, float]], limit: float, colour: str) -> str:
    """A picture of the points, the top edge being the limit."""
    if len(points) < FEWEST or points[-1][0] <= points[0][0]:
        return ""
    start, end = points[0][0], points[-1][0]
    top = _HEIGHT - 2
    spots = [
        f"{(when - start) / (end - start) * _WIDTH:.1f},{_HEIGHT - 1 - min(value / limit, 1) * top:.1f}"
        for when, value in points
    ]
    line = " ".join(spots)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}">'
        f'<path d="M0 .5H{_WIDTH}" stroke="#888" stroke-dasharray="2 3"/>'
        f'<polygon points="0,{_HEIGHT} {line} {_WIDTH},{_HEIGHT}" fill="{colour}" fill-opacity=".25"/>'
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-linejoin="round"/></svg>'
    )
    most = max(value for _, value in points) / limit
    alt = f"{name} over {end - start:.1f} s, at most {most:.0%} of the limit"
    source = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{alt}" title="{alt}" width="{_WIDTH}" src="data:image/svg+xml;base64,{source}">'
