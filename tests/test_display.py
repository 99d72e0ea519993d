"""What may be shown of a result. (What a browser does with it: a later group.)"""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from agentbox_magic import Execution, Result, Usage
from agentbox_magic.display import footer, safe_bundle
from agentbox_magic.display.sanitise import safe_html

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
    assert bundle == {"text/plain": "plain"}


def test_svg_is_an_image() -> None:
    html = safe_bundle(Result({"image/svg+xml": "<svg><script>evil()</script></svg>"}))["text/html"]
    assert html.startswith('<img alt="SVG image" src="data:image/svg+xml;base64,')
    assert "script" not in html


def test_the_footer_is_the_same_text_from_run_to_run() -> None:
    usage = Usage(memory_peak=2**20, memory_limit=2**29, cpu_seconds=0.1, pids_peak=3, oom_kills=1)
    first = footer(Execution(status="ok", usage=usage, duration=1.0))
    second = footer(Execution(status="ok", duration=2.0))
    assert first["text/plain"] == second["text/plain"] == "sandbox: ok"
    assert "memory 1 MiB of 512 MiB" in first["text/html"]
    assert "1 of its processes killed for memory" in first["text/html"]
