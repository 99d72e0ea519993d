"""HTML, Markdown and LaTeX: what a page shows of them runs and loads nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from fuzz import strategies as some
from hypothesis import example, given
from hypothesis import strategies as st

from agentbox_magic import Result
from agentbox_magic.display import safe as safe_module
from agentbox_magic.display import safe_bundle
from agentbox_magic.display.latex import safe_latex
from agentbox_magic.display.sanitise import (
    _ATTRIBUTES,
    _FRAME_ATTRIBUTES,
    _FRAME_TAGS,
    _STYLES,
    _TAGS,
    frame_html,
    safe_html,
    safe_markdown,
)


class Page(HTMLParser):
    """Fails on anything a page, or a frame of its own, could run or load."""

    def __init__(self, *, frame: bool = False) -> None:
        super().__init__()
        self._frame = frame
        # This parser writes all names small.
        self._tags = {tag.lower() for tag in (_FRAME_TAGS if frame else _TAGS)}
        self._attributes = _FRAME_ATTRIBUTES if frame else _ATTRIBUTES

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self._tags, tag
        for name, value in attrs:
            known = self._attributes["*"] | self._attributes.get(tag, set())
            assert name in {one.lower() for one in known}, (tag, name)
            if name in ("src", "href", "xlink:href"):
                assert value is not None
                inline = ("data:image/png;base64,", "data:image/jpeg;base64,")
                assert value.startswith((*inline, "#") if self._frame else inline)
            if name == "style" and not self._frame:
                rules = [rule.partition(":") for rule in (value or "").split(";") if rule.strip()]
                assert {rule[0].strip() for rule in rules} <= _STYLES
                assert not re.search(r"url|expression|import|@|\\|/\*|http", value or "", re.IGNORECASE), value

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data}")


@given(some.markup)
def test_clean_html_runs_and_loads_nothing(html: str) -> None:
    page = Page()
    page.feed(safe_html(html))
    page.close()


@given(some.markup)
def test_html_for_a_frame_runs_and_loads_nothing(html: str) -> None:
    page = Page(frame=True)
    page.feed(frame_html(html))
    page.close()


@given(some.markup)
def test_markdown_runs_and_loads_nothing(text: str) -> None:
    page = Page()
    page.feed(safe_markdown(text))
    page.close()


_LATEX = st.sampled_from(
    ["\\frac", "\\href", "\\style", "\\begin{array}", "\\begin", "{", "}", "$", "<b>", "&lt;", "![x](y)", "\\", "x"]
)


@given(st.lists(_LATEX).map(lambda parts: f"${''.join(parts)}$"))
@example(r"$\frac{1}{2}$")
def test_a_formula_has_only_macros_that_draw(source: str) -> None:
    shown = safe_latex(source)
    assert shown is None or not re.search(r"\\(?:href|style)|[<>`]|&\w|!\[", shown)


def test_html_that_would_take_an_hour_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_module, "SECONDS", 0.5)
    bundle = safe_bundle(Result({"text/html": "<rt>" * 2**20, "text/plain": "plain"}))
    assert set(bundle) == {"text/plain"}
    assert "takes more than 0.5 s" in bundle["text/plain"]


def test_long_html_is_cleaned_like_short() -> None:
    table = "<table><tbody>" + "<tr><td>é</td></tr>" * 20_000 + "</tbody></table>"
    html = safe_bundle(Result({"text/html": table + "<script>evil()</script>"}))["text/html"]
    assert safe_html(table) in html
    assert "<script" not in html
