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
    "td,th{padding:.25em .6em;text-align:right}svg,img{max-width:100%}svg[viewBox]{height:auto}"
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


_PIXELS = {"": 1.0, "px": 1.0, "pt": 4 / 3, "pc": 16.0, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4}
_SVG = re.compile(r"<svg\b([^>]*)>")
_LENGTH = re.compile(r'\s(width|height)="\s*(\d{1,6}(?:\.\d{0,9})?)(px|pt|pc|in|cm|mm)?\s*"')
_VIEW = re.compile(r'\sviewBox="[^"]*?([\d.]{1,20})[\s,]+([\d.]{1,20})\s*"')
_WIDE = 800
"""What a drawing that has no width of its own is taken to be given, in pixels."""


def _svg_size(page: str) -> tuple[int | None, int]:
    """Width, if it has one, and height of a drawing, in pixels."""
    found = _SVG.search(page)
    attributes = found[1] if found else ""
    said = {name: float(number) * _PIXELS[unit] for name, number, unit in _LENGTH.findall(attributes)}
    width, height = said.get("width"), said.get("height")
    if height is None:
        view = _VIEW.search(attributes)
        try:
            height = (width or _WIDE) * float(view[2]) / float(view[1]) if view else 150.0  # as browsers have it
        except (ValueError, ZeroDivisionError):
            height = 150.0
    return None if width is None else int(min(width, 4000)), int(min(height, 4000))


def _frame(html: str, sandbox: str, policy: str, title: str, height: int, width: int | None = None) -> str:
    page = (
        '<!DOCTYPE html><html><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<style>{_STYLE}</style></head><body>{html}</body></html>"
    )
    across = "width:100%" if width is None else f"width:{width}px;max-width:100%"
    look = (
        f"display:block;box-sizing:border-box;{across};height:{height}px;resize:vertical;overflow:auto;"
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


def svg_frame(page: str) -> str:
    """The same for a drawing, in its own size: a page that draws it as an image pays for all that it refers to, in the
    process that everything else on it needs."""
    width, height = _svg_size(page)
    room = _LINE + 2  # the frame's margins and border
    frame = _frame(
        page,
        "",
        _CLOSED,
        "SVG image from the sandbox",
        min(height, 1200) + room,
        None if width is None else width + room,
    )
    return block("frame", f'{frame}<small style="{QUIET}">SVG in a closed frame</small>')


def script_frame(html: str) -> str:
    """A frame in which the box's scripts run. They reach nothing of the page, but can send what they show to anyone."""
    ends = html[:_ENDS] + html[-_ENDS:]  # between them may be a whole library
    height = min(max(_tallest(ends), 300) + _LINE, 700)
    frame = _frame(html, "allow-scripts", _SCRIPTS, "HTML with scripts from the sandbox", height)
    warning = "<b>Scripts of the box run in this frame</b> (--allow-scripts): it can send what it shows to anyone."
    return block("frame", f"{frame}<small>&#9888; {warning}</small>")
