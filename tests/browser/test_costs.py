"""No display of a box costs the tab that shows it more than a bound, in time and in memory. Shown as it is, each of the
controls does."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser

from agentbox_magic import Result
from agentbox_magic.display import safe_bundle
from agentbox_magic.display.weight import MAX_DEPTH, MAX_ELEMENTS
from browser import lab as labs
from browser.lab import Notebook
from browser.tab import MIB, Cost, Renderers, show

SECONDS = 30.0
"""Until a tab answers, on a busy machine. On one that has nothing else to do it takes about one."""
MEMORY = 600 * MIB
"""More than an empty tab."""


def nested_uses(levels: int, each: int) -> str:
    """A drawing of ``each ** levels`` squares, in a few bytes."""
    parts = ['<g id="a0"><rect width="9" height="9"/></g>']
    parts += [f'<g id="a{n + 1}">' + f'<use xlink:href="#a{n}"/>' * each + "</g>" for n in range(levels)]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9"><defs>'
        f'{"".join(parts)}</defs><use xlink:href="#a{levels}"/></svg>'
    )


def nested_patterns(levels: int) -> str:
    rect = '<rect width="9" height="9" fill="url(#p{})"/>'
    parts = [
        f'<pattern id="p{n + 1}" width="9" height="9">{rect.format(n) * 10}</pattern>' for n in range(levels)
    ]  # fmt: skip
    return f'<svg viewBox="0 0 9 9">{"".join(parts)}{rect.format(levels)}</svg>'


def rows(count: int, cells: int, cell: str = "<td>x</td>") -> str:
    return f"<table>{f'<tr>{cell * cells}</tr>' * count}</table>"


def picture(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(out, "PNG")
    return out.getvalue()


HOSTILE: dict[str, dict[str, Any]] = {
    "nested use": {"image/svg+xml": nested_uses(6, 10)},
    "nested use in HTML": {"text/html": nested_uses(6, 10)},
    "nested patterns": {"image/svg+xml": nested_patterns(8)},
    "an image in a style": {
        "text/html": "<svg></svg><p style=\"background:url('data:image/svg+xml;base64,"
        + base64.b64encode(nested_uses(6, 10).encode()).decode()
        + "')\">x</p>"
    },
    "text in a style sheet": {"text/html": f"<style>b:before{{content:'{'x' * 100_000}'}}</style>" + "<b>x</b>" * 9000},
    "columns in a style sheet": {
        "text/html": "<style>p{display:grid;grid-template-columns:repeat(9999999,1px)}</style>" + "<p>x</p>" * 100
    },
    "spans": {"text/html": rows(100, 20, "<td colspan=1000 rowspan=65534>x</td>")},
    "a row of cells": {"text/html": rows(1, 300_000)},
    "a table of cells": {"text/html": rows(30_000, 10)},
    "nested tags": {"text/html": "<b>" * 100_000 + "x"},
    "combining characters": {"text/html": "<p>a" + "\u0301" * 1_300_000},
    "combining characters in text": {"text/plain": "a" + "\u0301" * 1_000_000},
    "controls": {"text/html": "<style>i{}</style>" + "<input type=date>" * 20_000},
    "many folds": {"text/html": "<details><summary>x</summary></details>" * 20_000},
}
AT_THE_BOUND: dict[str, dict[str, Any]] = {
    "elements": {"text/html": "<b>x</b> " * (MAX_ELEMENTS - 10)},
    "depth": {"text/html": "<table><tbody><tr><td>" * (MAX_DEPTH // 4) + "x"},
    "references": {"image/svg+xml": nested_uses(4, 13)},
    "text": {"text/html": "<p>" + "lorem ipsum " * 330_000},
    "marks": {"text/html": "<p>" + ("a" + "\u0301" * 16) * 60_000},
    "pixels": {"image/png": picture(5000, 4990)},
}


@pytest.fixture(scope="module")
def tabs(chromium: Browser) -> Iterator[Browser]:
    """A browser of its own, so that nothing else is in its memory."""
    browser = chromium.browser_type.launch(executable_path=labs.CHROMIUM, args=labs.FLAGS)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def empty(tabs: Browser) -> Cost:
    cost = show(tabs, {"text/html": "x"}, SECONDS)
    assert cost.answers
    return cost


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_display_costs_no_more_than_the_bound(tabs: Browser, empty: Cost, name: str) -> None:
    bundle = safe_bundle(Result({"text/plain": "plain", **HOSTILE[name]}))
    cost = show(tabs, bundle, SECONDS)
    assert cost.answers, cost
    assert cost.memory - empty.memory < MEMORY, cost
    drawn = {"an image in a style", "combining characters", "combining characters in text"}
    if name not in drawn:
        assert "is not drawn" in bundle["text/plain"]
        assert "text/html" not in bundle


@pytest.mark.parametrize("name", AT_THE_BOUND)
def test_what_is_just_allowed_does_not_either(tabs: Browser, empty: Cost, name: str) -> None:
    bundle = safe_bundle(Result({"text/plain": "plain", **AT_THE_BOUND[name]}))
    assert bundle["text/plain"] == "plain"
    cost = show(tabs, bundle, SECONDS)
    assert cost.answers, cost
    assert cost.memory - empty.memory < MEMORY, cost


def as_image(svg: str) -> str:
    return f'<img src="data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}">'


CONTROLS = {
    "nested use": as_image(nested_uses(6, 10)),
    "a row of cells": HOSTILE["a row of cells"]["text/html"],
    "a table of cells": HOSTILE["a table of cells"]["text/html"],
}


@pytest.mark.parametrize("name", CONTROLS)
def test_shown_as_it_is_it_costs_more(tabs: Browser, empty: Cost, name: str) -> None:
    cost = show(tabs, {"text/html": CONTROLS[name]}, 10)
    assert not cost.answers or cost.memory - empty.memory > MEMORY, cost


FORMULAS = r"""%%sandbox -s formulas
from IPython.display import Latex, display
display(Latex("$" + r"\overbrace{" * 200 + "x" + "}" * 200 + "$"))
for _ in range(45):
    display(Latex("$" + r"\overbrace{" * 30 + "x" + "}" * 30 + "$"))
display(Latex("$" + "x+" * 4000 + "x$"))"""


def test_formulas_of_a_run_are_bounded(notebook: Callable[[str, list[str]], Notebook], chromium: Browser) -> None:
    page = notebook("formulas.ipynb", ["%load_ext agentbox_magic", "%%sandbox -s formulas\n1", FORMULAS])
    empty, cost = Cost(), Cost()
    with Renderers(chromium).watched(empty):
        page.page.wait_for_timeout(300)
    with Renderers(chromium).watched(cost):
        page.run_all()
        page.page.locator("mjx-container").first.wait_for()
        assert page.page.evaluate("1 + 1") == 2
    assert not cost.ended
    assert cost.memory - empty.memory < MEMORY
    text = page.outputs()[2]
    assert "a formula is not drawn: the displays of this run have more than 16,384 characters of formulas" in text
    assert r"\overbrace{" * 200 in text  # as its source
    assert page.page.locator("mjx-container").count() == 45
