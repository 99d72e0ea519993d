"""Displays of a box, made safe for the user's page.

That page can drive the kernel, so one script in it is an escape; and one remote image leaks data from a box that has no
network. What passes is an allowlist: plain text, images decoded and encoded anew, sanitised HTML without any URL but
``data:image``, SVG as an image, where browsers run no script and load nothing, and formulas that only draw. HTML that
would lose its substance is shown in a frame that runs nothing and loads nothing.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
import sys
from html import escape
from typing import Any

from agentbox_magic.display import sanitise
from agentbox_magic.display.block import QUIET, block
from agentbox_magic.display.fold import fold
from agentbox_magic.display.frame import closed_frame, script_frame
from agentbox_magic.display.latex import safe_latex
from agentbox_magic.display.sanitise import CLEANERS, IMAGES, safe_image
from agentbox_magic.display.tree import tree
from agentbox_magic.execution import Result
from agentbox_magic.text import clean, show_bidi

MAX_SVG = 2 * 2**20
MAX_HTML = 4 * 2**20
MAX_SCRIPTS = 16 * 2**20
"""HTML with scripts, which may bring a whole library."""
DIRECT = {"html": 32 * 1024, "frame": 32 * 1024, "markdown": 8 * 1024}
"""Longest source cleaned here, in characters: at worst 0.3 s. What is longer is cleaned in a process that can be
killed."""
CLEAN_SECONDS = 10.0
"""4 MiB of an honest table take less than one."""
MAX_SHEET = 10_000
"""Longest style sheet that is looked into, in characters."""
MANY_ROWS = 500
"""A table of more is folded."""

_FIGURES = {
    "application/vnd.plotly": "a Plotly figure",
    "application/vnd.vega": "a Vega figure",
    "application/vnd.bokeh": "a Bokeh figure",
    "application/vnd.holoviews": "a HoloViews figure",
    "application/vnd.jupyter.widget-view": "a widget",
    "application/javascript": "JavaScript",
}
_ALLOW = "%%sandbox --allow-scripts shows it in a frame of its own"
_REMOTE = re.compile(r"""<img\b[^>]{0,500}?\bsrc\s?=\s?["']?(?:https?:)?//""", re.IGNORECASE)
_SCRIPT = re.compile(r"<script\b", re.IGNORECASE)
_NAMELESS = re.compile(r"<IPython\.core\.display\.\w+ object>")
_DRAWN = re.compile(r"<(?:svg|math|canvas|input|button)\b", re.IGNORECASE)
_VISIBLE = re.compile(r"<(?:img\b[^>]* src=|(?:svg|table|hr|meter|progress|input|button)\b)", re.IGNORECASE)


def _cleaned(source: str, how: str) -> str | None:
    """What :data:`CLEANERS` make of it within :data:`CLEAN_SECONDS`; None if that is not enough, or not possible."""
    if len(source) > MAX_HTML:
        return None
    if len(source) <= DIRECT[how]:
        try:
            page = CLEANERS[how](source)
        except Exception:  # an input that a library stumbles over is none to show
            return None
    else:
        command = [sys.executable, sanitise.__file__, how]
        try:
            done = subprocess.run(
                command, input=source.encode("utf-8", "replace"), capture_output=True, timeout=CLEAN_SECONDS
            )
        except subprocess.TimeoutExpired:
            return None
        if done.returncode:
            return None
        page = done.stdout.decode()
    return None if len(page) > 2 * MAX_HTML else show_bidi(page, html=True)


def _parted(html: str, tag: str) -> tuple[str, list[str]]:
    """What is outside of the elements of a tag, and what each of them holds. In linear time, as no regular expression
    is on tags that never end."""
    low = html.lower()
    if len(low) != len(html):  # some letters have a longer small form
        low = html
    outside, inside, end = [], [], 0
    while (begin := low.find(f"<{tag}", end)) >= 0:
        outside.append(html[end:begin])
        body = low.find(">", begin) + 1 or len(html)
        close = low.find(f"</{tag}", body)
        close = len(html) if close < 0 else close
        inside.append(html[body:close])
        end = low.find(">", close) + 1 or len(html)
    return "".join([*outside, html[end:]]), inside


def _needs_frame(html: str) -> bool:
    """Whether cleaning would take the substance: drawings, or style sheets. Those of pandas and polars are no loss."""
    if _DRAWN.search(html):
        return True
    for sheet in _parted(html, "style")[1]:
        if len(sheet) > MAX_SHEET:
            return True
        selectors = re.sub(r"/\*.*?\*/|\{[^}]*\}", ",", sheet, flags=re.DOTALL).split(",")
        if not all(name.strip().startswith(".dataframe") for name in selectors if name.strip()):
            return True
    return False


def _is_visible(page: str) -> bool:
    text = re.sub(r"<[^>]*>", "", _parted(page, "style")[0])
    return bool(text.replace("&nbsp;", "").strip() or _VISIBLE.search(page))


def _table_folded(page: str) -> str:
    rows = page.count("<tr")
    if rows <= MANY_ROWS:
        return page
    return f'<details><summary style="cursor:pointer">a table of {rows:,} rows</summary>{page}</details>'


class _Bundle:
    """One bundle in the making: what is shown, and what there is to say of what is not."""

    def __init__(self, data: dict[str, Any], allow_scripts: bool) -> None:
        self.shown: dict[str, Any] = {}
        self.notes: list[str] = []
        self._data = data
        self._allow_scripts = allow_scripts

    def text(self, mime: str) -> str | None:
        value = self._data.get(mime)
        return value if isinstance(value, str) else None

    def pictures(self) -> None:
        for mime, raw in self._data.items():
            if not isinstance(raw, bytes):
                continue
            if mime not in IMAGES:
                self.notes.append(f"{clean(mime, colour=False)} is not shown; PNG and JPEG are")
            elif (image := safe_image(raw, mime)) is None:
                self.notes.append("an image that cannot be shown: damaged, or above 25 megapixels")
            else:
                self.shown[mime] = base64.b64encode(image[0]).decode()

    def rich(self) -> None:
        """The richest of what there is beside pictures."""
        html = self.text("text/html")
        if html is not None and self._html(html):
            return
        figure = next((name for mime in self._data for kind, name in _FIGURES.items() if mime.startswith(kind)), None)
        if figure and html is None and not self.shown:
            how = "" if self._allow_scripts else f"; {_ALLOW}"
            self.notes.append(f"{figure}, which does not run here: display its HTML{how}")
        if (markdown := self.text("text/markdown")) is not None:
            self._page("Markdown", _cleaned(markdown, "markdown"))
        elif (latex := self.text("text/latex")) is not None:
            self._latex(latex)
        elif (svg := self.text("image/svg+xml")) is not None:
            self._svg(svg)
        elif "application/json" in self._data:
            value = self._data["application/json"]
            self.shown["text/html"] = tree(value)
            with contextlib.suppress(RecursionError):  # what was parsed may be too deep to be written
                self.shown["text/plain"] = json.dumps(value, ensure_ascii=False)

    def _page(self, kind: str, page: str | None) -> None:
        if page is None:
            self.notes.append(f"{kind} that cannot be shown: it is too long, or nested too deeply")
        else:
            self.shown["text/html"] = block("html", _table_folded(page))

    def _html(self, html: str) -> bool:
        """Show HTML; False if a picture, or what else there is, is better."""
        active = bool(_SCRIPT.search(html))
        if active and self._allow_scripts and len(html) <= MAX_SCRIPTS:
            if any(
                mime.startswith("application/vnd.plotly") for mime in self._data
            ):  # its library is in another output
                self.notes.append("a Plotly figure: display HTML(figure.to_html())")
                return False
            self.shown["text/html"] = script_frame(html)
            return True
        if active and self.shown:
            return False
        html = _parted(html, "script")[0] if active else html  # it may be a whole library
        in_frame = _needs_frame(html)
        page = _cleaned(html, "frame" if in_frame else "html")
        if page is not None and not _is_visible(page) and html.strip():
            why = f"whose scripts do not run here; {_ALLOW}" if active else "in which nothing is left that may be shown"
            self.notes.append(f"HTML {why}")
            return False
        if page is not None and in_frame:
            self.shown["text/html"] = closed_frame(page)
        else:
            self._page("HTML", page)
        if remote := len(_REMOTE.findall(html)):
            self.notes.append(f"{remote:,} image{'s' * (remote > 1)} from elsewhere not loaded")
        if active and page is not None:
            self.notes.append(f"its scripts do not run here; {_ALLOW}")
        return page is not None

    def _latex(self, latex: str) -> None:
        formula = safe_latex(latex)
        if formula is None:
            self.shown["text/plain"] = latex
        else:
            self.shown["text/latex"] = formula

    def _svg(self, svg: str) -> None:
        if len(svg) > MAX_SVG:
            self.notes.append("an SVG image that cannot be shown: above 2 MiB")
            return
        source = base64.b64encode(svg.encode("utf-8", "replace")).decode()
        self.shown["text/html"] = block(
            "svg",
            f'<img alt="SVG image" style="max-width:100%;background:#fff" src="data:image/svg+xml;base64,{source}">',
        )

    def finish(self) -> dict[str, Any]:
        plain = self.shown.get("text/plain") or self.text("text/plain") or ""
        text, folded = fold("" if self.notes and _NAMELESS.fullmatch(plain) else plain)
        if folded and not self.shown.keys() - {"text/plain"}:
            self.shown["text/html"] = folded
        notes = [f"[{note}]" for note in dict.fromkeys(self.notes)]
        if notes and "text/html" in self.shown:
            self.shown["text/html"] += block(
                "note", f'<small style="{QUIET}">{"<br>".join(map(escape, notes))}</small>'
            )
        return {"text/plain": "\n".join([*([text] if text else []), *notes]), **{
            mime: value for mime, value in self.shown.items() if mime != "text/plain"
        }}  # fmt: skip


def safe_bundle(result: Result, *, allow_scripts: bool = False) -> dict[str, Any]:
    """The MIME bundle a notebook may show for a result of a box.

    Args:
        allow_scripts: HTML with scripts runs, in a frame that reaches nothing of the page; it can send what it shows to
            anyone, though, from the reader's browser.
    """
    bundle = _Bundle(result.data, allow_scripts)
    bundle.pictures()
    bundle.rich()
    return bundle.finish()
