"""HTML without anything that acts or loads. Also a program: from stdin to stdout, so that it can be given up on.

The sanitiser takes time that grows with the square of some inputs (open elements, attributes), in native code that
nothing interrupts. So it imports nothing of this package: it starts in a few hundredths of a second.
"""

from __future__ import annotations

import re
import sys

import nh3

_TAGS = {
    "abbr", "b", "blockquote", "br", "caption", "code", "col", "colgroup", "dd", "del", "details", "div", "dl",
    "dt", "em", "figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li",
    "mark", "ol", "p", "pre", "q", "s", "samp", "small", "span", "strong", "sub", "summary", "sup", "table",
    "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul", "var",
}  # fmt: skip
_ATTRIBUTES = {
    "*": {"align", "dir", "style", "title"},
    "col": {"span"},
    "colgroup": {"span"},
    "img": {"alt", "height", "src", "width"},
    "table": {"border"},
    "td": {"colspan", "headers", "rowspan"},
    "th": {"colspan", "headers", "rowspan", "scope"},
}
_LOADS = re.compile(r"url|\\|@|/\*", re.IGNORECASE)
_STYLES = {"background-color", "color", "font-style", "font-weight", "text-align", "white-space"}


def _only_inline_images(tag: str, attribute: str, value: str) -> str | None:
    if attribute == "src" and not value.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")):
        return None
    # No property that is let through loads anything, whatever its value; but nor does any need these.
    if attribute == "style" and _LOADS.search(value):
        return None
    return value


def safe_html(html: str) -> str:
    """HTML without script, style sheets, links, forms, frames, classes, ids, or any URL but inline images.

    >>> safe_html('<b onclick="evil()">x</b><img src="https://example.org/leak"><script>evil()</script>')
    '<b>x</b><img>'
    """
    return nh3.clean(
        html, tags=_TAGS, attributes=_ATTRIBUTES, attribute_filter=_only_inline_images, url_schemes={"data"},
        filter_style_properties=_STYLES, link_rel=None,
    )  # fmt: skip


if __name__ == "__main__":
    sys.stdout.buffer.write(safe_html(sys.stdin.buffer.read().decode()).encode())
