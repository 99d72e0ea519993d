"""What may be shown of a result. (What a browser does with it: tests/browser.)"""

from __future__ import annotations

import base64
import io
import re
import time
from html import unescape
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from agentbox_magic import Execution, Result, Sandbox, Usage
from agentbox_magic.display import FoldedStream, footer, safe_bundle
from agentbox_magic.display import safe as safe_module
from agentbox_magic.display.budget import Budget
from agentbox_magic.display.frame import _svg_size
from agentbox_magic.display.grid import Row, grid, progress
from agentbox_magic.display.helper import SECONDS, TooSlowError, clean_image
from agentbox_magic.display.sanitise import CLEANERS, safe_html
from agentbox_magic.display.weight import MAX_ELEMENTS, TooHeavyError, weigh
from agentbox_magic.execution import MAX_HISTORY, Sample
from agentbox_magic.limits import Limits

ACTIVE = [
    "script",
    "onerror",
    "example.org",
    "javascript:",
    "svg+xml",
    "<iframe",
    "<form",
    "<input",
    "<button",
    "<meta",
    "<link",
    "<style",
    "url(",
    "position",
    "<svg",
    "<video",
    "<object",
    "<base",
    "class",
    "id=",
]


@pytest.mark.parametrize(
    "html",
    [
        "<script>evil()</script>",
        "<img src=x onerror=evil()>",
        '<img src="https://example.org/leak">',
        '<img srcset="https://example.org/leak 1x">',
        '<img src="data:image/svg+xml;base64,AAAA">',
        '<a href="javascript:evil()">x</a>',
        '<iframe srcdoc="<script>evil()</script>"></iframe>',
        '<form action="https://example.org"><input name=x><button>go</button></form>',
        '<meta http-equiv="refresh" content="0;url=https://example.org">',
        '<link rel="stylesheet" href="https://example.org/x.css">',
        "<style>@import url(https://example.org/x.css)</style>",
        '<p style="background-image:url(https://example.org/leak)">x</p>',
        '<p style="background-color:url(https://example.org/leak)">x</p>',
        '<p style="position:fixed;inset:0">x</p>',
        '<svg><image href="https://example.org/leak"/><script>evil()</script></svg>',
        "<math><mtext><img src=x onerror=evil()></mtext></math>",
        '<video src="https://example.org/leak" autoplay></video>',
        '<object data="https://example.org/leak"></object>',
        '<base href="https://example.org/">',
        '<p class="jp-Dialog" id="jp-main">x</p>',
        '<table background="https://example.org/leak"><tr><td>x</table>',
    ],
)
def test_html_that_acts_or_loads_is_gone(html: str) -> None:
    clean = safe_html(html).lower()
    for word in ACTIVE:
        assert word not in clean


def test_a_table_stays_a_table() -> None:
    head, row = "<thead><tr><th></th><th>a</th></tr></thead>", "<tr><th>0</th><td>1</td></tr>"
    html = f'<table border="1">{head}<tbody>{row}</tbody></table>'
    assert safe_html(html) == html
    assert safe_html('<td style="color:red">x</td>') == "x"  # outside a table there is no cell
    assert "color:red" in safe_html('<table><tbody><tr><td style="color:red">x</td></tr></tbody></table>').replace(
        " ", ""
    )


def image(kind: str, size: tuple[int, int] = (3, 2)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (255, 0, 0)).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize(("mime", "kind"), [("image/png", "PNG"), ("image/jpeg", "JPEG")])
def test_images_are_encoded_anew(mime: str, kind: str) -> None:
    raw = image(kind) + b"<script>evil()</script>"
    shown = base64.b64decode(safe_bundle(Result({mime: raw, "text/plain": "fig"}))[mime])
    assert b"script" not in shown
    with Image.open(io.BytesIO(shown)) as picture:
        assert picture.size == (3, 2)


@pytest.mark.parametrize(
    "raw", [b"", b"not an image", image("PNG")[:40], image("JPEG"), image("PNG", (6000, 5000)), b"GIF89a"]
)
def test_what_is_no_good_image_is_said(raw: bytes) -> None:
    bundle = safe_bundle(Result({"image/png": raw, "text/plain": "fig"}))
    assert "image/png" not in bundle
    assert "cannot be shown" in bundle["text/plain"]


def test_only_known_types_pass() -> None:
    bundle = safe_bundle(
        Result(
            {
                "text/plain": "plain\x1b]0;t\x07",
                "application/javascript": "evil()",
                "application/vnd.jupyter.widget-view+json": {"model_id": "x"},
                "text/markdown": "<script>",
                "application/vnd.plotly.v1+json": {},
            }
        )
    )
    assert set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/plain"].startswith("plain\n[JavaScript, which does not run here")
    assert "<script" not in bundle["text/html"]
    assert "&lt;script&gt;" in bundle["text/html"]  # Markdown's, as text


def test_svg_is_in_a_closed_frame() -> None:
    html = safe_bundle(Result({"image/svg+xml": SVG}))["text/html"]
    frame = re.search('<iframe sandbox="" srcdoc="([^"]*)"', html)
    assert frame is not None
    page = unescape(frame[1])
    assert "default-src 'none'" in page
    assert '<circle r="3" style="fill: red"></circle>' in page
    assert "evil" not in html
    assert "width:120px;max-width:100%;height:82px" in html  # its own size, and margins


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ('width="100" height="60"', (100, 60)),
        ('width="72pt" height="36.5pt" viewBox="0 0 72 36.5"', (96, 48)),
        ('viewBox="0 0 400 100"', (None, 200)),
        ('width="50mm" viewBox="0,0,2,1"', (188, 94)),
        ('width="100%" height="100%"', (None, 150)),
        ('viewBox="0 0 0 1"', (None, 150)),
        ('width="999999" height="999999"', (4000, 4000)),
        ("", (None, 150)),
    ],
)
def test_a_frame_has_the_size_of_its_drawing(attributes: str, size: tuple[int | None, int]) -> None:
    assert _svg_size(f"<svg {attributes}><circle></circle></svg>") == size


SVG = """<?xml version="1.0"?><!DOCTYPE svg PUBLIC "x" "y">
<svg xmlns="http://www.w3.org/2000/svg" width="98" height="60"><metadata><x>evil</x></metadata><script>evil()</script>
<a href="https://example.org/evil"><circle r="3" style="fill: red"/></a>
<image href="data:image/svg+xml,evil"/><title>evil</title></svg>"""


def shown(data: dict[str, Any], *, allow_scripts: bool = False) -> dict[str, Any]:
    return safe_bundle(Result({"text/plain": "plain", **data}), allow_scripts=allow_scripts)


PANDAS = (
    "<div><style scoped>\n.dataframe tbody tr th { vertical-align: top; }\n</style><table class='dataframe'><tr><td>1"
)
POLARS = (
    "<style>.dataframe > thead > tr,\n.dataframe > tbody { text-align: right }</style><table class='dataframe'><td>1"
)


@pytest.mark.parametrize("html", [PANDAS, POLARS, "<b>x</b>", "<ul><li>x</ul>"])
def test_html_that_loses_nothing_is_native(html: str) -> None:
    page = shown({"text/html": html})["text/html"]
    assert "<iframe" not in page
    assert "<style" not in page


@pytest.mark.parametrize("html", ["<style>td{color:red}</style><table><tr><td>1</table>", "<svg><circle r='3'/></svg>"])
def test_html_that_would_lose_its_substance_is_framed(html: str) -> None:
    page = shown({"text/html": html + "<a href='https://example.org'>x</a><link rel=preconnect href='//example.org'>"})
    frame = page["text/html"]
    assert '<iframe sandbox="" srcdoc="' in frame
    assert "default-src &#x27;none&#x27;" in frame
    assert "example.org" not in frame
    assert "resize:vertical" in frame


def test_a_frame_cannot_be_left() -> None:
    page = shown({"text/html": "<style>a{}</style>x\"'></iframe><script>evil()</script>&quot;&lt;script&gt;"})[
        "text/html"
    ]
    assert page.count("</iframe>") == 1
    assert "<script" not in page


def test_figures_with_scripts() -> None:
    figure = "<div id='plot'></div><script>draw()</script>"
    note = shown({"text/html": figure})
    assert set(note) == {"text/plain"}
    assert note["text/plain"] == (
        "plain\n[HTML whose scripts do not run here; %%sandbox --allow-scripts shows it in a frame of its own]"
    )
    picture = shown({"text/html": figure, "image/png": image("PNG")})
    assert set(picture) == {"text/plain", "image/png"}
    open_frame = shown({"text/html": figure}, allow_scripts=True)["text/html"]
    assert '<iframe sandbox="allow-scripts" srcdoc="' in open_frame
    assert "same-origin" not in open_frame
    assert "it can send what it shows to anyone" in open_frame
    library = shown({"text/html": f"{figure}<script>{'x' * 5_000_000}</script>"})
    assert library == note
    mime = shown({"application/vnd.plotly.v1+json": {"data": []}})
    assert mime["text/plain"].endswith(
        "[a Plotly figure, which does not run here: display its HTML; %%sandbox --allow-scripts shows it in a frame of "
        "its own]"
    )


def test_without_scripts_allow_scripts_changes_nothing() -> None:
    assert shown({"text/html": PANDAS}, allow_scripts=True) == shown({"text/html": PANDAS})


def test_what_is_left_out_is_said() -> None:
    assert "nothing is left" in shown({"text/html": "<iframe src='https://example.org'></iframe>"})["text/plain"]
    assert (
        "2 images from elsewhere" in shown({"text/html": "x<img src=//a.example/b><img src='http://c'>"})["text/plain"]
    )


def test_images_inside_html_are_encoded_anew() -> None:
    source = base64.b64encode(image("PNG") + b"evil").decode()
    huge = base64.b64encode(image("PNG", (6000, 5000))).decode()
    html = "".join(f'<img src="data:image/png;base64,{one}">' for one in (source, huge))
    sources = re.findall(r"base64,([^\"]*)", shown({"text/html": html})["text/html"])
    assert len(sources) == 1
    assert b"evil" not in base64.b64decode(sources[0])


def test_other_images_are_named() -> None:
    assert shown({"image/gif": image("GIF")}) == {"text/plain": "plain\n[image/gif is not shown; PNG and JPEG are]"}


@pytest.mark.parametrize(
    "piece", ["<style>", "<style", "<script>", "<img ", "<style>/*", "<style>{", "height=", "<svg>", "<p "]
)
def test_html_that_never_ends_takes_no_longer(piece: str) -> None:
    """Nothing here looks for the end of a tag again and again: that would be hours."""
    html = piece * (3 * 2**20 // len(piece))
    start = time.monotonic()
    shown({"text/html": html})
    shown({"text/html": html + "<script>"}, allow_scripts=True)
    assert time.monotonic() - start < SECONDS + 10


def test_markdown() -> None:
    page = shown({"text/markdown": "# T\n\n| a |\n|---|\n| <b onclick=evil()> |\n\n[x](javascript:evil())"})[
        "text/html"
    ]
    assert "<h1>T</h1>" in page
    assert "<td>&lt;b onclick=evil()&gt;</td>" in page
    assert "href" not in page


@pytest.mark.parametrize(
    "source",
    [r"$\frac{1}{2}$", r"$$\begin{matrix}1 & 2\\3 & 4\end{matrix}$$", r"\[x\]", r"\begin{align}x &= 1\end{align}",
     r"$\displaystyle \int\limits_{0}^{\infty} e^{- x^{2}}\, dx$", r"$\left\{x \in \mathbb{R} \mid x > 0\right\}$"],
)  # fmt: skip
def test_formulas(source: str) -> None:
    formula = shown({"text/latex": source})["text/latex"]
    assert not re.search(r"[<>]|&\w", formula)


@pytest.mark.parametrize(
    "source",
    [r"$\href{javascript:evil()}{x}$", r"$\style{background:url(x)}{x}$", r"$\class{jp-Dialog}{x}$",
     r"$\require{html}x$", r"$\def\a{\a\a}\a$", r"$\newcommand{\a}{x}$", r"$\url{x}$", r"$\unicode{65}$", r"$\ref{x}$",
     r"$x$ ![i](u) $y$", "<script>evil()</script>", "plain text", r"$x$ and $y$", r"$\begin{foo}x\end{foo}$", "$x\\$",
     "$" + "x" * 20000 + "$", r"$\hspace{-100em}x$", "$[a](https://example.org)$"],
)  # fmt: skip
def test_what_is_no_plain_formula_is_shown_as_its_source(source: str) -> None:
    bundle = shown({"text/latex": source})
    assert "text/latex" not in bundle
    assert bundle["text/plain"][:20] == source[:20]


CLOSED = re.compile(r'<div class="agentbox-\w+ mathjax_ignore tex2jax_ignore">')


def test_mathjax_finds_nothing_in_html() -> None:
    for data in (
        {"text/html": "<td>$x$"},
        {"text/markdown": "$x$"},
        {"application/json": "$x$"},
        {"text/plain": "x\n" * 500},
    ):
        assert CLOSED.match(shown(data)["text/html"])
    rows = [Row("a-1", "$x$", "ok", 1.0, None, 1, None, 1.0, "$x$")]
    assert CLOSED.match(grid("a", rows, 1.0, 0.1)["text/html"])
    assert CLOSED.match(progress("a", rows, 1.0))


def test_json_is_a_tree() -> None:
    bundle = shown({"application/json": {"<b>": [1, None, "x"], "deep": {}}})
    assert bundle["text/plain"] == '{"<b>": [1, null, "x"], "deep": {}}'
    assert '<summary style="cursor:pointer"><b>&lt;b&gt;</b>: [] 3 items</summary>' in bundle["text/html"]
    assert "<b>deep</b>: {} 0 keys" in bundle["text/html"]
    deep: list[Any] = []
    for _ in range(200_000):  # deeper than any Python writes
        deep = [deep]
    assert shown({"application/json": deep})["text/plain"] == "plain"
    many = shown({"application/json": list(range(100_000))})["text/html"]
    assert "... 98,001 more" in many
    assert len(many) < 100_000


def test_a_long_result_is_folded_with_its_count() -> None:
    bundle = shown({"text/plain": "\n".join(f"line {n}" for n in range(12_345))})
    lines = bundle["text/plain"].splitlines()
    assert len(lines) == 121
    assert lines[100] == "[... 12,225 lines ...]"
    assert lines[-1] == "line 12344"
    assert "line 6000" in bundle["text/html"]
    wide = shown({"text/plain": "x" * 100_000})
    assert wide["text/plain"].endswith("x [... 92,000 characters ...]")
    assert shown({"text/plain": "x" * (2**20 + 5)})["text/plain"].endswith("[... 5 more characters ...]")
    assert set(shown({"text/plain": "x\n" * 200})) == {"text/plain"}


def test_a_long_table_is_folded_with_its_count() -> None:
    page = shown({"text/html": f"<table>{'<tr><td>1</td></tr>' * 600}</table>"})["text/html"]
    assert "a table of 600 rows</summary>" in page


def test_a_stream_keeps_head_and_tail() -> None:
    out = FoldedStream(head=2, tail=2)
    text = "".join(out.feed(f"{n}\n") for n in range(8)) + out.finish()
    assert text.splitlines() == [
        "0", "1", "[... more lines; how many, and the last ones, at the end ...]", "[... 4 lines ...]", "6", "7"
    ]  # fmt: skip


def test_a_stream_cuts_long_lines_but_not_progress_bars() -> None:
    out = FoldedStream()
    assert out.feed("\x1b[31m" + "x" * 10_000) + out.feed("y\nz") == (
        "\x1b[31m" + "x" * 7995 + "\x1b[0m [... 2,006 characters ...]\nz"
    )
    bar = "".join(f"\r{n:5}%" for n in range(5000))
    assert FoldedStream().feed(bar) == bar


def test_direction_marks_are_shown_in_html_too() -> None:
    assert "invoice&lt;U+202E&gt;fdp" in shown({"text/html": "<b>invoice&#8238;fdp</b>"})["text/html"]


LIMITS = Limits()


def test_the_footer_is_the_same_text_from_run_to_run() -> None:
    usage = Usage(memory_peak=2**20, memory_limit=2**29, cpu_seconds=0.1, pids_peak=3, oom_kills=1)
    first = footer(Execution(status="ok", usage=usage, duration=1.0), LIMITS)
    second = footer(Execution(status="ok", duration=2.0), LIMITS)
    assert first["text/plain"] == second["text/plain"] == "sandbox: ok"
    assert "memory 1 MiB of 512 MiB" in first["text/html"]
    assert "1 of its processes killed for memory" in first["text/html"]
    assert "\n" not in first["text/html"]  # nbval's rule finds it on one line
    assert first["text/html"].count("<div") == 1


def test_the_footer_unfolds_to_all_figures_and_curves() -> None:
    history = tuple(Sample(n / 10, n * 2**20, n / 20) for n in range(20))
    usage = Usage(memory_peak=19 * 2**20, cpu_seconds=0.95, pids_peak=3, history=history)
    page = footer(Execution(status="ok", usage=usage, duration=1.9), LIMITS, "<other>")["text/html"]
    rows = dict(re.findall(r"<tr><th[^>]*>([^<]*)</th><td[^>]*>([^<]*)<", page))
    assert rows == {
        "time": "1.90 s", "memory, peak": "19 MiB (4%)", "CPU": "0.95 s (50%)", "processes and threads, peak": "3",
        "network": "", "image": "&lt;other&gt;",
    }  # fmt: skip
    alts = re.findall(r'<img alt="([^"]*)"', page)
    assert alts == ["memory over 1.9 s, at most 4% of the limit", "CPU over 1.8 s, at most 50% of the limit"]
    for source in re.findall(r"base64,([^\"]*)", page):
        assert ElementTree.fromstring(base64.b64decode(source)).tag.endswith("svg")  # noqa: S314  # it is ours


def test_a_run_has_a_history(box: Sandbox) -> None:
    run = box.run_code(
        "import time\nkept = bytearray(30_000_000)\nend = time.time() + 0.6\nwhile time.time() < end: pass"
    )
    history = run.usage.history
    assert 5 <= len(history) <= MAX_HISTORY
    assert [one.seconds for one in history] == sorted(one.seconds for one in history)
    assert history[0].seconds < 0.1
    assert history[-1].seconds == pytest.approx(run.duration, abs=0.1)
    assert max(one.memory for one in history) > history[0].memory + 20_000_000
    assert history[-1].cpu_seconds > 0.1


# -- what a display costs ---------------------------------------------------------------------------------------------

USES = '<svg><g id="a"><rect></rect></g><g id="b">' + '<use href="#a"></use>' * 500 + "</g>"


def patterns(reference: str) -> str:
    """Rectangles filled with a pattern of rectangles, ten of them on each of five levels."""
    parts = [
        f'<pattern id="p{n + 1}">' + f"<rect {reference.format(n)}></rect>" * 10 + "</pattern>" for n in range(5)
    ]  # fmt: skip
    return "<svg>" + "".join(parts) + f"<rect {reference.format(5)}></rect>" + "</svg>"


@pytest.mark.parametrize(
    ("page", "why"),
    [
        ("<p>x</p>" * (MAX_ELEMENTS + 1), "more than 75,000 elements"),
        ('<input type="date">' * 4000, "more than 75,000 elements"),
        ("<b>" * 101 + "</b>" * 101, "nested more than 100 deep"),
        ('<table><tr><td colspan="1000" rowspan="65534"></td></tr></table>', "more than 250,000 cells"),
        ('<table><tr><td rowspan="0"></td><td rowspan=" +0"></td>' * 2 + "</tr></table>", "more than 250,000 cells"),
        (
            "<table>" + '<colgroup span="1000"></colgroup><col span="99999">' * 200 + "</table>",
            "more than 250,000 cells",
        ),
        (USES + '<use href="#b"></use>' * 300 + "</svg>", "comes to more than 250,000 elements"),
        (USES.replace("href", "xlink:href") + '<use xlink:href="#%62"></use>' * 300 + "</svg>", "comes to more"),
        (patterns('fill="url(#p{})"'), "comes to more"),
        (patterns('style="fill: url( &quot;#p{}&quot; )"'), "comes to more"),
        (patterns('style="fill:u\\72l(#p{})"'), "comes to more"),
        (patterns('style="fill:url(about:srcdoc#p{})"'), "comes to more"),
        ('<svg><filter id="f"></filter>' + '<g filter="url(#f)"></g>' * 2000 + "</svg>", "comes to more"),
        ('<svg><g id="a"><use href="#a"></use></g></svg>', "in a circle"),
        (
            f'<svg><marker id="m">{"<g></g>" * 99}</marker><path d="{"M0 0" * 9999}" marker-mid="url(#m)"/></svg>',
            "comes",
        ),
        ("<style>p{display:grid;grid-template:repeat(99999,1px)/1fr}</style>", "thousands of columns"),
        ("<style>p{columns:99999}</style>", "thousands of columns"),
        ('<p style="display:grid;grid-template-columns:repeat(99999, 1px)"></p>', "thousands of columns"),
        ('<p style="grid-row: 1 / 99999"></p>', "thousands of columns"),
        (f"<style>p:after{{content:'{'x' * 9999}'}}</style>{'<p></p>' * 300}", "too much text"),
        (
            f"<style>p{{box-shadow:0 0 9px red}}{'a{filter:blur(9px)}' * 99}</style>{'<p></p>' * 3000}",
            "too many effects",
        ),
        ("<style>p{background:url(d\\61 ta:image/svg+xml,x)}</style>", "pictures of its own"),
        ('<style>p{fill:url(#a)}</style><svg><pattern id="a"></pattern></svg>', "draws other elements"),
        ('<svg><style><g id="a"></g></style><use href="#a"></use></svg>', "style sheet is none"),
        ("<style>" + " " * 2**21 + "</style>", "longer than 1 MiB"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_costs_too_much_is_known(page: str, why: str) -> None:
    with pytest.raises(TooHeavyError, match=why):
        weigh(page)


@pytest.mark.parametrize(
    "page",
    [
        "<table>" + "<tr>" + "<td>1</td>" * 10 + "</tr>" * 4000 + "</table>",
        '<table><tr><th colspan="100%">x</th></tr><tr><td rowspan="50" title="<style>">x</td></tr></table>',
        "<style>.a > td::before{content:'▸ ';grid-column:1/-1}@media (width){}</style><table></table>",
        "<style>.column1200{width:1200px}.b{grid-template-columns:minmax(1000px,1fr) 20px #a12345}</style><b></b>",
        '<td title="column 2024" class="grid" id="column-2024">x</td>',
        '<style>.a{fill:url(#g)}</style><svg><linearGradient id="g"></linearGradient><rect class="a"></rect></svg>',
        '<svg><path id="m"></path>'
        + '<use href="#m" clip-path="url(#c)"></use>' * 20_000
        + '<clipPath id="c"></clipPath></svg>',
        '<svg><marker id="m"><path d="M0 0L1 1"></path></marker><path d="M0 0L9 9" marker-end="url(#m)"></path></svg>',
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_honest_is_drawn(page: str) -> None:
    assert weigh(page) > 0


def test_a_run_has_a_budget() -> None:
    budget = Budget()
    table = Result({"text/html": "<b>x</b>" * 30_000, "text/plain": "plain"})
    kinds = [set(safe_bundle(table, budget=budget)) for _ in range(4)]
    assert kinds == [{"text/plain", "text/html"}] * 3 + [{"text/plain"}]
    last = safe_bundle(table, budget=budget)["text/plain"]
    assert last == "plain\n[HTML is not drawn: the displays of this run have more than 100,000 elements of HTML]"
    assert "text/html" in safe_bundle(Result({"text/html": "<b>small</b>"}), budget=budget)
    budget.clear()
    assert "text/html" in safe_bundle(table, budget=budget)


def test_what_takes_the_place_of_another_costs_what_it_has_more() -> None:
    budget = Budget()
    for _ in range(3):
        assert "text/html" in safe_bundle(
            Result({"text/html": "<b>x</b>" * 60_000, "text/plain": ""}, display_id="a"), budget=budget
        )


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"image/png": "PNG"}, "100,000,000 pixels"),
        ({"image/svg+xml": "<svg></svg>"}, "100 frames"),
        ({"text/html": "<style>a{}</style>x"}, "100 frames"),
        ({"text/latex": "$" + "x" * 900 + "$"}, "16,384 characters of formulas"),
        ({"text/plain": "x" * 900_000}, "8,388,608 characters"),
    ],
    ids=["pixels", "drawings", "frames", "formulas", "text"],
)  # fmt: skip
def test_each_part_of_the_budget_ends(data: dict[str, Any], word: str) -> None:
    if "image/png" in data:
        data = {"image/png": image("PNG", (2000, 500))}
    budget = Budget()
    results = [safe_bundle(Result({"text/plain": "plain", **data}), budget=budget) for _ in range(110)]
    assert word not in results[0]["text/plain"]
    assert word in results[-1]["text/plain"]
    assert len(results[-1]["text/plain"]) < 3000
    assert "text/html" not in results[-1]


def test_a_run_whose_displays_took_long_has_only_text_left() -> None:
    budget = Budget()
    budget.seconds = 0.0
    bundle = safe_bundle(Result({"text/plain": "plain", "text/html": "<b>x</b>"}), budget=budget)
    assert bundle == {
        "text/plain": "plain\n[only its text is shown: the displays of this run took more than 30 s to make safe]"
    }


def slow_jpeg() -> bytes:
    """A picture of a few kilobytes whose last scan is repeated: each costs as much as a whole picture."""
    out = io.BytesIO()
    Image.new("L", (4000, 4000)).save(out, "JPEG", progressive=True)
    raw = out.getvalue()
    scan = raw[raw.rindex(b"\xff\xda") : -2]
    return raw[:-2] + scan * 3000 + raw[-2:]


def test_a_picture_that_takes_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever decodes it in this process waits: the control."""
    raw = slow_jpeg()
    with pytest.raises(TooSlowError, match="takes more than 1 s"):
        clean_image(raw, "image/jpeg", 1.0)
    monkeypatch.setattr(safe_module, "SECONDS", 1.0)
    start = time.monotonic()
    bundle = safe_bundle(Result({"image/jpeg": raw, "text/plain": "plain"}))
    assert bundle == {"text/plain": "plain\n[an image is not drawn: making it safe takes more than 1 s]"}
    assert time.monotonic() - start < 20
    inline = f'<img src="data:image/jpeg;base64,{base64.b64encode(raw[:20_000]).decode()}">'
    called: list[object] = []
    monkeypatch.setitem(CLEANERS, "html", called.append)
    shown({"text/html": inline})
    assert called == []  # not in this process


def test_combining_characters_are_bounded() -> None:
    text = "a" + "\u0301" * 1000
    assert shown({"text/plain": text})["text/plain"] == "a" + "\u0301" * 16 + "[+984 marks]"
    assert "[+984 marks]" in shown({"text/html": f"<b>{text}</b>"})["text/html"]
    hindi = "\u0915\u094d\u0937\u0947\u0902" * 100
    assert shown({"text/plain": hindi})["text/plain"] == hindi


@pytest.mark.parametrize(
    "source", ["$" + r"\overbrace{" * 31 + "x" + "}" * 31 + "$", "$" + r"\left(" * 31 + r"\right)" * 31 + "$",
               "$" + r"\\{" * 31 + "}" * 31 + "$", r"$\begin{matrix}1\\[-99em]2\end{matrix}$", "$" + "x" * 9000 + "$"],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_formulas_that_cost_much_are_shown_as_their_source(source: str) -> None:
    assert "text/latex" not in shown({"text/latex": source})
    assert "text/latex" in shown({"text/latex": r"$\begin{matrix}1\\[2pt]2\end{matrix}$"})
