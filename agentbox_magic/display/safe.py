"""Displays of a box, made safe for the user's page.

That page can drive the kernel, so one script in it is an escape; and one remote image leaks data from a box that has no
network. What passes is an allowlist: plain text, images decoded and encoded anew, sanitised HTML without any URL but
``data:image``, and formulas that only draw. HTML that would lose its substance, and SVG, is shown in a frame that runs
nothing and loads nothing. What would cost the page too much to draw is shown as text, with a line that says why.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from html import escape
from typing import Any

from agentbox_magic.display.block import QUIET, block
from agentbox_magic.display.budget import SECONDS as TIME
from agentbox_magic.display.budget import Budget, Cost
from agentbox_magic.display.fold import MAX_TEXT, fold
from agentbox_magic.display.frame import closed_frame, script_frame, svg_frame
from agentbox_magic.display.helper import SECONDS, TooSlowError, clean_image, clean_page, count_pixels
from agentbox_magic.display.latex import safe_latex
from agentbox_magic.display.sanitise import IMAGES
from agentbox_magic.display.tree import tree
from agentbox_magic.display.weight import TooHeavyError, weigh
from agentbox_magic.execution import Result
from agentbox_magic.text import clean, few_marks, show_bidi

MAX_HTML = 4 * 2**20
MAX_SCRIPTS = 16 * 2**20
"""HTML with scripts, which may bring a whole library."""
SHORT = 2000
"""Text that is shown of any display, in characters, however much a run has shown already."""
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
_INLINE = re.compile(r'="data:(image/(?:png|jpeg));base64,([^"]*)"')
_VISIBLE = re.compile(r"<(?:img\b[^>]* src=|(?:svg|table|hr|meter|progress|input|button)\b)", re.IGNORECASE)


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


def _pixels(page: str) -> int:
    """Of the pictures in a clean page, which are our own."""
    return sum(count_pixels(base64.b64decode(data), mime) for mime, data in _INLINE.findall(page))


class _Bundle:
    """One bundle in the making: what is shown, and what there is to say of what is not."""

    def __init__(self, result: Result, allow_scripts: bool, budget: Budget) -> None:
        self.shown: dict[str, Any] = {}
        self.notes: list[str] = []
        self._data = result.data
        self._name = result.display_id
        self._allow_scripts = allow_scripts
        self._budget = budget

    def text(self, mime: str) -> str | None:
        value = self._data.get(mime)
        return value if isinstance(value, str) else None

    def _take(self, what: str, cost: Cost) -> bool:
        """Whether there is room for a part of the display; if not, say why."""
        why = self._budget.take(self._name, cost)
        if why:
            self.notes.append(f"{what} is not drawn: {why}")
        return not why

    def _clean(self, what: str, source: str, how: str, frames: int = 0) -> str | None:
        """A page that is safe and can be drawn; None if there is none, with a note that says why."""
        if len(source) > MAX_HTML:
            self.notes.append(f"{what} that cannot be shown: it is longer than {MAX_HTML // 2**20} MiB")
            return None
        try:
            with self._budget.clock():
                page = clean_page(source, how, min(SECONDS, self._budget.seconds))
                page = page and few_marks(show_bidi(page, html=True))
                elements = weigh(page or "")
        except (TooSlowError, TooHeavyError) as error:
            self.notes.append(f"{what} is not drawn: {error}")
            return None
        if page is None or len(page) > 2 * MAX_HTML:
            self.notes.append(f"{what} that cannot be shown: it is too long, or nested too deeply")
            return None
        cost = Cost(elements=elements, characters=len(page), pixels=_pixels(page), frames=frames)
        return page if self._take(what, cost) else None

    def pictures(self) -> None:
        for mime, raw in self._data.items():
            if not isinstance(raw, bytes):
                continue
            if mime not in IMAGES:
                self.notes.append(f"{clean(mime, colour=False)} is not shown; PNG and JPEG are")
            elif self._take("an image", Cost(pixels=count_pixels(raw, mime))):
                self._picture(mime, raw)

    def _picture(self, mime: str, raw: bytes) -> None:
        try:
            with self._budget.clock():
                image = clean_image(raw, mime, min(SECONDS, self._budget.seconds))
        except TooSlowError as error:
            self.notes.append(f"an image is not drawn: {error}")
            return
        if image is None:
            self.notes.append("an image that cannot be shown: damaged, or above 25 megapixels")
        else:
            self.shown[mime] = base64.b64encode(image).decode()

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
            self._page(self._clean("Markdown", markdown, "markdown"))
        elif (latex := self.text("text/latex")) is not None:
            self._latex(latex)
        elif (svg := self.text("image/svg+xml")) is not None:
            self._svg(svg)
        elif "application/json" in self._data:
            self._json(self._data["application/json"])

    def _page(self, page: str | None) -> None:
        if page is not None:
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
            if not self._take("HTML", Cost(frames=1)):
                return False
            self.shown["text/html"] = script_frame(html)
            return True
        if active and self.shown:
            return False
        html = _parted(html, "script")[0] if active else html  # it may be a whole library
        in_frame = _needs_frame(html)
        page = self._clean("HTML", html, "frame" if in_frame else "html", frames=in_frame)
        if page is not None and not _is_visible(page) and html.strip():
            why = f"whose scripts do not run here; {_ALLOW}" if active else "in which nothing is left that may be shown"
            self.notes.append(f"HTML {why}")
            return False
        if page is not None and in_frame:
            self.shown["text/html"] = closed_frame(page)
        else:
            self._page(page)
        if remote := len(_REMOTE.findall(html)):
            self.notes.append(f"{remote:,} image{'s' * (remote > 1)} from elsewhere not loaded")
        if active and page is not None:
            self.notes.append(f"its scripts do not run here; {_ALLOW}")
        return page is not None

    def _latex(self, latex: str) -> None:
        formula = safe_latex(latex)
        if formula is not None and self._take("a formula", Cost(formulas=len(formula))):
            self.shown["text/latex"] = formula
        else:
            self.shown["text/plain"] = latex

    def _svg(self, svg: str) -> None:
        page = self._clean("an SVG image", svg, "frame", frames=1)
        if page is None:
            return
        if "<svg" in page:
            self.shown["text/html"] = svg_frame(page)
        else:
            self.notes.append("an SVG image in which nothing is left that may be shown")

    def _json(self, value: Any) -> None:
        with self._budget.clock():
            page = tree(value)
            if self._take("JSON", Cost(elements=page.count("<"), characters=len(page))):
                self.shown["text/html"] = page
            with contextlib.suppress(RecursionError):  # what was parsed may be too deep to be written
                self.shown["text/plain"] = json.dumps(value, ensure_ascii=False)

    def finish(self) -> dict[str, Any]:
        plain = self.shown.get("text/plain") or self.text("text/plain") or ""
        plain = "" if self.notes and _NAMELESS.fullmatch(plain) else plain
        if len(plain) > SHORT and not self._take("the rest of its text", Cost(characters=min(len(plain), MAX_TEXT))):
            plain = plain[:SHORT]
        with self._budget.clock():
            text, folded = fold(plain)
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


def safe_bundle(result: Result, *, allow_scripts: bool = False, budget: Budget | None = None) -> dict[str, Any]:
    """The MIME bundle a notebook may show for a result of a box.

    Args:
        allow_scripts: HTML with scripts runs, in a frame that reaches nothing of the page; it can send what it shows to
            anyone, though, from the reader's browser.
        budget: of the run that the display belongs to. What there is no room for is shown as text, with the reason.
    """
    budget = budget or Budget()
    budget.begin(result.display_id)
    bundle = _Bundle(result, allow_scripts, budget)
    if budget.seconds:
        bundle.pictures()
        bundle.rich()
    else:
        bundle.notes.append(f"only its text is shown: the displays of this run took more than {TIME:g} s to make safe")
    return bundle.finish()
