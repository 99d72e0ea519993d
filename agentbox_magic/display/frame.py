"""Frames for HTML that would lose its substance on the page itself: a document with an origin of its own."""

from __future__ import annotations

import re
from html import escape

from agentbox_magic.display.block import QUIET, block

_CLOSED = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
# The scripts of a figure come from where its library is published. That leaks no more than they can anyway: they may
# navigate their frame to any address, with what it shows in it, and no policy forbids that.
_SCRIPTS = (
    "default-src 'none'; img-src data: blob:; font-src data: https:; style-src 'unsafe-inline' https:; "
    "script-src 'unsafe-inline' 'unsafe-eval' data: blob: https:; worker-src blob:"
)
_STYLE = (
    "body{margin:8px;background:#fff;color:#000;font:13px/1.4 system-ui,sans-serif}table{border-collapse:collapse}"
    "td,th{padding:.25em .6em;text-align:right}svg,img{max-width:100%}"
)
_ROW, _LINE = 26, 20
_ENDS = 50_000
_TALL = re.compile(r"""\bheight["']? ?[:=] ?["']?(\d{1,5})(?:\.\d{0,9})?(px|pt|em|%)?""", re.IGNORECASE)


def _tallest(html: str) -> int:
    """The largest height that is written in it, in pixels."""
    found = [(int(number), unit) for number, unit in _TALL.findall(html) if unit in ("", "px", "pt")]
    return max((size * 4 // 3 if unit == "pt" else size for size, unit in found), default=0)


def _height(html: str) -> int:
    """A guess: a frame without scripts cannot tell its own, and the reader can drag its corner."""
    rows = len(re.findall(r"<(?:tr|li|p|h[1-6]|br|summary|dt|label)\b", html))
    words = len(re.sub(r"<style>[^<]*</style>|<[^>]*>", "", html))
    return min(max(rows * _ROW, words // 100 * _LINE, _tallest(html), _LINE) + 2 * _LINE, 600)


def _frame(html: str, sandbox: str, policy: str, title: str, height: int) -> str:
    page = (
        '<!DOCTYPE html><html><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<style>{_STYLE}</style></head><body>{html}</body></html>"
    )
    look = (
        f"display:block;box-sizing:border-box;width:100%;height:{height}px;resize:vertical;overflow:auto;"
        "background:#fff;border:1px solid var(--jp-border-color2,#bdbdbd);border-radius:2px"
    )
    return (
        f'<iframe sandbox="{sandbox}" srcdoc="{escape(page)}" title="{title}" referrerpolicy="no-referrer" '
        f'style="{look}"></iframe>'
    )


def closed_frame(html: str) -> str:
    """A frame for what :func:`~agentbox_magic.display.sanitise.frame_html` gave: it runs nothing and loads nothing."""
    frame = _frame(html, "", _CLOSED, "HTML from the sandbox", _height(html))
    return block("frame", f'{frame}<small style="{QUIET}">HTML in a closed frame: no scripts, nothing loaded</small>')


def script_frame(html: str) -> str:
    """A frame in which the box's scripts run. They reach nothing of the page, but can send what they show to anyone."""
    ends = html[:_ENDS] + html[-_ENDS:]  # between them may be a whole library
    height = min(max(_tallest(ends), 300) + _LINE, 700)
    frame = _frame(html, "allow-scripts", _SCRIPTS, "HTML with scripts from the sandbox", height)
    warning = "<b>Scripts of the box run in this frame</b> (--allow-scripts): it can send what it shows to anyone."
    return block("frame", f"{frame}<small>&#9888; {warning}</small>")
