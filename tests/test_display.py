"""What may be shown of a result. (What a browser does with it: tests/browser.)"""

from __future__ import annotations

import base64
import io
import re
import time
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from agentbox_magic import Execution, Result, Sandbox, Usage
from agentbox_magic.display import FoldedStream, footer, safe_bundle
from agentbox_magic.display.grid import Row, grid, progress
from agentbox_magic.display.safe import CLEAN_SECONDS
from agentbox_magic.display.sanitise import safe_html
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


def test_svg_is_an_image() -> None:
    html = safe_bundle(Result({"image/svg+xml": "<svg><script>evil()</script></svg>"}))["text/html"]
    assert re.search('><img alt="SVG image" [^>]*src="data:image/svg[+]xml;base64,', html)
    assert "script" not in html


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
    assert time.monotonic() - start < CLEAN_SECONDS + 10


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
