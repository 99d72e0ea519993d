"""HTML, Markdown and images without anything that acts or loads. Also a program: from stdin to stdout, so that it can
be given up on (:mod:`agentbox_magic.display.helper`).

The sanitiser takes time that grows with the square of some inputs (open elements, attributes), a JPEG of a few
kilobytes can take half a minute, both in native code that nothing interrupts. So this imports nothing of this package:
it starts in a few hundredths of a second.
"""

from __future__ import annotations

import base64
import io
import re
import sys
from collections.abc import Callable

import nh3

MAX_PIXELS = 25_000_000
"""Of one image, and of all images together in one piece of HTML."""

_TAGS = {
    "abbr", "b", "blockquote", "br", "caption", "code", "col", "colgroup", "dd", "del", "details", "div", "dl",
    "dt", "em", "figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li",
    "mark", "meter", "ol", "p", "pre", "progress", "q", "s", "samp", "small", "span", "strong", "sub", "summary",
    "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul", "var",
}  # fmt: skip
_ATTRIBUTES = {
    "*": {"align", "dir", "lang", "style", "title"},
    "col": {"span"},
    "colgroup": {"span"},
    "details": {"open"},
    "img": {"alt", "height", "src", "width"},
    "meter": {"high", "low", "max", "min", "optimum", "value"},
    "ol": {"reversed", "start", "type"},
    "progress": {"max", "value"},
    "table": {"border"},
    "td": {"colspan", "headers", "rowspan", "valign"},
    "th": {"colspan", "headers", "rowspan", "scope", "valign"},
}
_LOADS = re.compile(r"url|\\|@|/\*", re.IGNORECASE)
# In a frame nothing loads but data: URLs, and those of a style would be images that nobody has looked at.
_DATA = re.compile(r"d\s*a\s*t\s*a\s*:|\\", re.IGNORECASE)
_STYLES = {
    "background-color", "color", "font-style", "font-weight", "text-align", "text-decoration", "vertical-align",
    "white-space",
}  # fmt: skip

# In a frame of its own, with a policy that loads nothing, style sheets and drawings do no harm.
_FRAME_TAGS = _TAGS | {
    "a", "address", "article", "aside", "bdi", "button", "center", "cite", "dfn", "fieldset", "font", "footer",
    "header", "input", "label", "legend", "main", "nav", "output", "rp", "rt", "ruby", "section", "style", "time", "tt",
    "wbr",
    "svg", "circle", "clipPath", "defs", "desc", "ellipse", "feBlend", "feColorMatrix", "feFlood", "feGaussianBlur",
    "feMerge", "feMergeNode", "feOffset", "filter", "g", "line", "linearGradient", "marker", "mask", "path", "pattern",
    "polygon", "polyline", "radialGradient", "rect", "stop", "symbol", "text", "textPath", "tspan", "use", "image",
    "math", "mfrac", "mi", "mn", "mo", "mover", "mpadded", "mroot", "mrow", "ms", "mspace", "msqrt", "mstyle", "msub",
    "msubsup", "msup", "mtable", "mtd", "mtext", "mtr", "munder", "munderover",
}  # fmt: skip
_FRAME_ATTRIBUTES = {
    "*": _ATTRIBUTES["*"] | {
        "bgcolor", "cellpadding", "cellspacing", "checked", "class", "color", "disabled", "for", "height", "hidden",
        "href", "id", "media", "name", "nowrap", "role", "size", "type", "value", "width",
        "clip-path", "clip-rule", "clipPathUnits", "cx", "cy", "d", "display", "dominant-baseline", "dx", "dy", "fill",
        "fill-opacity", "fill-rule", "filter", "font-family", "font-size", "font-style", "font-weight", "fx", "fy",
        "gradientTransform", "gradientUnits", "in", "in2", "letter-spacing", "marker-end", "marker-mid", "marker-start",
        "markerHeight", "markerUnits", "markerWidth", "mask", "maskUnits", "mode", "offset", "opacity", "orient",
        "overflow", "paint-order", "pathLength", "patternTransform", "patternUnits", "points", "preserveAspectRatio",
        "r", "refX", "refY", "result", "rotate", "rx", "ry", "spreadMethod", "startOffset", "stdDeviation",
        "stop-color", "stop-opacity", "stroke", "stroke-dasharray", "stroke-dashoffset", "stroke-linecap",
        "stroke-linejoin", "stroke-miterlimit", "stroke-opacity", "stroke-width", "text-anchor", "text-decoration",
        "textLength", "transform", "transform-origin", "values", "vector-effect", "viewBox", "visibility", "x", "x1",
        "x2", "xlink:href", "y", "y1", "y2",
        "columnalign", "displaystyle", "mathvariant", "rowalign", "scriptlevel", "stretchy",
    },
    **{tag: names for tag, names in _ATTRIBUTES.items() if tag != "*"},
}  # fmt: skip
IMAGES = {"image/png": "PNG", "image/jpeg": "JPEG"}
_INLINE = re.compile(r"data:(image/(?:png|jpeg));base64,(.*)", re.DOTALL)


def safe_image(raw: bytes, mime: str, most: int = MAX_PIXELS) -> tuple[bytes, int] | None:
    """The image decoded and encoded anew, so that nothing but pixels passes, and the number of pixels; None if it is no
    image or has more than ``most``."""
    from PIL import Image  # not at the top: HTML alone needs none of it

    try:
        with Image.open(io.BytesIO(raw), formats=[IMAGES[mime]]) as image:
            pixels = image.width * image.height
            if pixels > most:
                return None
            image.load()
            picture = image.copy()
        picture.info.clear()
        out = io.BytesIO()
        picture.save(out, IMAGES[mime])
    except Exception:  # whatever hostile bytes make a decoder raise, a warning of its own included, this is no image
        return None
    return out.getvalue(), pixels


def _attribute_filter(*, frame: bool) -> Callable[[str, str, str], str | None]:
    """Lets images through that are in the text itself, encoded anew; in a frame also references to its own parts."""
    left = MAX_PIXELS

    def check(tag: str, attribute: str, value: str) -> str | None:
        nonlocal left
        if attribute == "src" or (attribute == "href" and tag == "image"):
            match = _INLINE.fullmatch(value)
            try:
                image = safe_image(base64.b64decode(match[2]), match[1], left) if match else None
            except ValueError:
                image = None
            if match is None or image is None:
                return None
            left -= image[1]
            return f"data:{match[1]};base64,{base64.b64encode(image[0]).decode()}"
        if attribute == "href":
            return value if value.startswith("#") and tag != "a" else None
        if attribute == "style" and frame and _DATA.search(value):
            return None
        # No property that is let through loads anything, whatever its value; but nor does any need these.
        if attribute == "style" and not frame and _LOADS.search(value):
            return None
        return value

    return check


def safe_html(html: str) -> str:
    """HTML without script, style sheets, links, forms, frames, classes, ids, or any URL but inline images.

    >>> safe_html('<b onclick="evil()">x</b><img src="https://example.org/leak"><script>evil()</script>')
    '<b>x</b><img>'
    """
    return nh3.clean(
        html, tags=_TAGS, attributes=_ATTRIBUTES, attribute_filter=_attribute_filter(frame=False), url_schemes={"data"},
        filter_style_properties=_STYLES, link_rel=None, clean_content_tags={"script", "style", "title"},
    )  # fmt: skip


def frame_html(html: str) -> str:
    """HTML without script, links, frames, or any URL but inline images; style sheets and drawings stay. It is for a
    frame that runs nothing and loads nothing, and only there: a style sheet of the page would change the page.

    >>> frame_html('<style>b{color:red}</style><b class="x">x</b><script>evil()</script><link rel="preconnect">')
    '<style>b{color:red}</style><b class="x">x</b>'
    """
    return nh3.clean(
        html, tags=_FRAME_TAGS, attributes=_FRAME_ATTRIBUTES, attribute_filter=_attribute_filter(frame=True),
        url_schemes={"data"}, link_rel=None, clean_content_tags={"script", "title", "metadata"},
    )  # fmt: skip


def safe_markdown(text: str) -> str:
    """Markdown as HTML, of which no more passes than of any HTML; HTML in it is shown as text.

    >>> safe_markdown('**b** <script>evil()</script> ![x](https://example.org/leak)')
    '<p><strong>b</strong> &lt;script&gt;evil()&lt;/script&gt; <img alt="x"></p>\\n'
    """
    from markdown_it import MarkdownIt  # not at the top: HTML alone needs none of it

    html = MarkdownIt("commonmark", {"html": False, "maxNesting": 50}).enable(["table", "strikethrough"]).render(text)
    return safe_html(html)


CLEANERS = {"html": safe_html, "frame": frame_html, "markdown": safe_markdown}


def main(how: str) -> None:
    """Clean what is on stdin: text as :data:`CLEANERS` say, or an image of a MIME type; what is none gives nothing."""
    source = sys.stdin.buffer.read()
    if how in IMAGES:
        image = safe_image(source, how)
        done = image[0] if image else b""
    else:
        done = CLEANERS[how](source.decode()).encode()
    sys.stdout.buffer.write(done)


if __name__ == "__main__":
    main(sys.argv[1])
