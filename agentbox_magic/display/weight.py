"""What a piece of HTML costs the page that draws it.

A few bytes can stand for much: a table cell for a million by its spans, a drawing's ``<use>`` for ten others, ten times
over, a style sheet for something done to every element. So what :mod:`agentbox_magic.display.sanitise` gave is weighed,
in linear time, before a page gets it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import unescape
from urllib.parse import unquote

MAX_ELEMENTS = 75_000
"""Of one display: what a browser draws in about a second, with 300 MB."""
MAX_DEPTH = 100
"""Elements in elements. Laying them out takes time that grows with the square, and more."""
MAX_CELLS = 250_000
"""Of all tables of one display, with what their spans cover."""
MAX_DRAWN = 250_000
"""Elements of one display when everything that refers to others is drawn."""
MAX_SHEETS = 2**20
"""Characters of style sheets."""
MAX_CONTENT = 2 * 2**20
"""Characters that a style sheet can put into elements."""

_TAG = re.compile(r'<(/?)([A-Za-z][^\s/>]*)([^>"]*(?:"[^"]*"[^>"]*)*)>')
_SPAN = re.compile(r'\b(col|row)?span="\s*\+?(\d{1,9})')
_ID = re.compile(r'\sid="([^"]*)"')
_HREF = re.compile(r'\s(?:xlink:)?href="#([^"]*)"')
_REFERENCE = re.compile(r"""(?:([\w-]+)\s*[=:]\s*["']?\s*)?url\(([^)#]*)#([^)]*)""", re.IGNORECASE)
_POINTS = re.compile(r'\s(?:d|points)="([^"]*)"')
_MANY = re.compile(
    r"repeat\(\s*\d{4}|\b(?:grid|column)[\w-]*\s*:[^;{}]{0,300}?(?<![\w#.])\d{4,}(?![\d.]*[a-z%])", re.IGNORECASE
)
_STYLE = re.compile(r'\sstyle="([^"]*)"')
_STRING = re.compile(r'"[^"]*"|\'[^\']*\'')
_IMAGES = re.compile(r"d\s*a\s*t\s*a\s*:(?!font|application/)", re.IGNORECASE)
_EFFECT = re.compile(r"filter|shadow|blend|mask|gradient\(", re.IGNORECASE)
_ESCAPE = re.compile(r"\\(?:([0-9a-fA-F]{1,6})\s?|\r?\n|(.))", re.DOTALL)
_VOID = frozenset({"br", "col", "hr", "img", "input", "wbr"})
_PARTS = {"input": 20, "details": 6, "meter": 5, "progress": 4, "button": 2}
"""What browsers make some elements of."""
_RESOURCES = {"filter": 200, "mask": 50, "pattern": 50}
"""What it costs to use one of these, beside what is in it: pictures that are drawn on the side."""
_ONCE = frozenset({"clip-path", "mask", "filter"})
"""Properties that no element has from the one around it."""
_COLOURS = frozenset({"linearGradient", "radialGradient"})


class TooHeavyError(Exception):
    """It costs more than a display may; the message says what."""


@dataclass
class _Element:
    tag: str
    attributes: str
    parts: int
    children: list[int] = field(default_factory=list)


def css_text(source: str) -> str:
    """CSS without its escapes, which can hide any name.

    >>> css_text(r"u\\72 l(#a)")
    'url(#a)'
    """
    if "\\" not in source:
        return source

    def character(match: re.Match[str]) -> str:
        code = int(match[1], 16) if match[1] else 0
        return (chr(code) if 0 < code < 0x110000 else "\ufffd") if match[1] else match[2] or ""

    return _ESCAPE.sub(character, source)


def weigh(page: str) -> int:
    """The elements of a page of clean, well-formed HTML.

    >>> weigh("<p>a<b>b</b></p>")
    2
    >>> weigh('<table><tbody><tr><td colspan="1000" rowspan="65534">x</td></tr></tbody></table>')
    Traceback (most recent call last):
    agentbox_magic.display.weight.TooHeavyError: its tables have more than 250,000 cells

    Raises:
        TooHeavyError: drawing it costs more than a display may.
    """
    if page.count("<") > 2 * MAX_ELEMENTS + 1000:
        raise TooHeavyError(f"it has more than {MAX_ELEMENTS:,} elements")
    elements, sheets = _read(page)
    count = sum(one.parts for one in elements) - 1
    if count > MAX_ELEMENTS:
        raise TooHeavyError(f"it has more than {MAX_ELEMENTS:,} elements")
    for sheet in sheets:
        _check_sheet(sheet, count)
    _check_references(elements, css_text("\n".join(sheets)), count)
    return count


def _read(page: str) -> tuple[list[_Element], list[str]]:
    """The elements, the first of which is around all others, and the style sheets. Checks depth, cells and length."""
    elements, sheets = [_Element("", "", 1)], list[str]()
    path = [0]
    end, size, cells = 0, 0, 0
    while found := _TAG.search(page, end):
        closing, tag, attributes = found.groups()
        end = found.end()
        if closing:
            if len(path) > 1:
                path.pop()
            continue
        if tag == "style":
            start, end = end, page.find("</style", end)
            end = len(page) if end < 0 else end
            sheets.append(page[start:end].replace("<!--", ""))
            size += end - start
        if "style" in attributes and (style := _STYLE.search(attributes)) and _MANY.search(unescape(style[1])):
            raise TooHeavyError("its style makes thousands of columns")
        elements[path[-1]].children.append(len(elements))
        elements.append(_Element(tag, attributes, _PARTS.get(tag, 1)))
        cells += _cells(tag, attributes)
        if tag not in _VOID:
            path.append(len(elements) - 1)
        if len(path) > MAX_DEPTH + 1:
            raise TooHeavyError(f"its elements are nested more than {MAX_DEPTH} deep")
        if cells > MAX_CELLS:
            raise TooHeavyError(f"its tables have more than {MAX_CELLS:,} cells")
        if size > MAX_SHEETS:
            raise TooHeavyError("its style sheets are longer than 1 MiB")
    return elements, sheets


def _cells(tag: str, attributes: str) -> int:
    """How many cells a cell or column covers."""
    if tag not in ("td", "th", "col", "colgroup"):
        return 0
    spans = {kind: int(number) for kind, number in _SPAN.findall(attributes)} if "span" in attributes else {}
    if tag in ("col", "colgroup"):
        return min(spans.get("", 1), 1000)
    across, down = (
        min(max(spans.get("col", 1), 1), 1000),
        min(spans.get("row", 1) or 65534, 65534),
    )  # 0: all of the rest
    return across * down


def _check_sheet(sheet: str, elements: int) -> None:
    if "<" in sheet:  # elements that no browser shows there, and that others may refer to
        raise TooHeavyError("its style sheet is none")
    css = css_text(sheet)
    if _IMAGES.search(css):  # nobody has looked at them
        raise TooHeavyError("its style sheet brings pictures of its own")
    longest = max((len(one) for one in _STRING.findall(css)), default=0)
    if longest * elements > MAX_CONTENT:
        raise TooHeavyError("its style sheet puts too much text into its elements")
    if _MANY.search(css):
        raise TooHeavyError("its style sheet makes thousands of columns")
    if len(_EFFECT.findall(css)) * elements > MAX_DRAWN:
        raise TooHeavyError("its style sheet has too many effects")


def _check_references(elements: list[_Element], css: str, count: int) -> None:
    """Raises TooHeavyError if what elements refer to, drawn as often as they do, is too much."""
    if not any("#" in one.attributes or "\\" in one.attributes for one in elements) and "#" not in css:
        return
    ids: dict[str, int] = {}
    for number, one in enumerate(elements):
        if found := _ID.search(one.attributes):
            ids.setdefault(unescape(found[1]), number)
    if any((target := _target(ids, name)) and elements[target].tag not in _COLOURS for _, name in _urls(css)):
        raise TooHeavyError("its style sheet draws other elements")
    below = [one.parts for one in elements]
    for number in range(len(elements) - 1, -1, -1):
        below[number] += sum(below[child] for child in elements[number].children)
    longest = max((len(found) for one in elements for found in _POINTS.findall(one.attributes)), default=0)
    needs = [[(child, 1) for child in one.children] for one in elements]
    own = [one.parts for one in elements]
    for number, one in enumerate(elements):
        if "#" not in one.attributes and "\\" not in one.attributes:
            continue
        for name in _HREF.findall(one.attributes):
            if target := _target(ids, name):
                needs[number].append((target, 1))
        attributes = css_text(unescape(one.attributes))
        for where, name in _urls(attributes):
            if target := _target(ids, name):
                times = 1 if where in _ONCE else below[number]
                if where.startswith("marker"):
                    times *= 1 + longest // 4
                own[number] += _RESOURCES.get(elements[target].tag, 1) * times
                needs[number].append((target, times))
    _add_up(needs, own)


def _urls(css: str) -> list[tuple[str, str]]:
    """Properties, where they can be told, and the ids that they refer to."""
    return [(where.lower(), name.strip("'\" \t\n")) for where, _, name in _REFERENCE.findall(css)]


def _target(ids: dict[str, int], name: str) -> int:
    name = unescape(name)
    return ids.get(name) or ids.get(unquote(name)) or 0


def _add_up(needs: list[list[tuple[int, int]]], own: list[int]) -> None:
    """The cost of each is its own and that of what it needs, so many times. Raises TooHeavyError, for a circle too."""
    cost: list[int | None] = [None] * len(needs)
    under_way = [False] * len(needs)
    stack = [0]
    while stack:
        one = stack[-1]
        if cost[one] is not None:
            stack.pop()
            continue
        if not under_way[one]:
            under_way[one] = True
            for other, _ in needs[one]:
                if cost[other] is None:
                    if under_way[other]:
                        raise TooHeavyError("its elements draw each other in a circle")
                    stack.append(other)
            continue
        total = own[one] + sum((cost[other] or 0) * times for other, times in needs[one])
        if total > MAX_DRAWN:
            raise TooHeavyError(f"what it draws comes to more than {MAX_DRAWN:,} elements")
        cost[one] = total
        stack.pop()
