"""Displays of a box, made safe for the user's page.

That page can drive the kernel, so one script in it is an escape; and one remote image leaks data from a box that has no
network. What passes is an allowlist: plain text, images decoded and encoded anew, sanitised HTML without any URL but
``data:image``, and SVG as an image, where browsers run no script and load nothing.
"""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from typing import Any

from PIL import Image

from agentbox_magic.display import sanitise
from agentbox_magic.display.sanitise import safe_html
from agentbox_magic.execution import Result
from agentbox_magic.text import clean

MAX_PIXELS = 25_000_000
MAX_SVG = 2 * 2**20
MAX_HTML = 4 * 2**20
MAX_TEXT = 2**20
DIRECT_HTML = 32 * 1024
"""Longest HTML cleaned here, in characters: at worst 0.3 s. Longer HTML is cleaned in a process that can be killed."""
HTML_SECONDS = 10.0
"""4 MiB of an honest table take less than one."""

_FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG"}


def _safe_html(html: str) -> str | None:
    """:func:`safe_html` within :data:`HTML_SECONDS`; None if it would take longer."""
    if len(html) <= DIRECT_HTML:
        return safe_html(html)
    try:
        done = subprocess.run(
            [sys.executable, sanitise.__file__], input=html.encode(), stdout=subprocess.PIPE, timeout=HTML_SECONDS
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.decode() if done.returncode == 0 else None


def safe_image(raw: bytes, mime: str) -> bytes | None:
    """The image decoded and encoded anew, so that nothing but pixels passes; None if it is not one or too large."""
    try:
        with Image.open(io.BytesIO(raw), formats=[_FORMATS[mime]]) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            image.load()
            picture = image.copy()
        picture.info.clear()
        out = io.BytesIO()
        picture.save(out, _FORMATS[mime])
    except Exception:  # whatever hostile bytes make a decoder raise, a warning of its own included, this is no image
        return None
    return out.getvalue()


def safe_bundle(result: Result) -> dict[str, Any]:
    """The MIME bundle a notebook may show for a result of a box."""
    text = result.data.get("text/plain")
    bundle: dict[str, Any] = {"text/plain": clean(text[:MAX_TEXT]) if isinstance(text, str) else ""}
    for mime in _FORMATS:
        raw = result.data.get(mime)
        if isinstance(raw, bytes):
            image = safe_image(raw, mime)
            if image is None:
                bundle["text/plain"] += "\n[an image that cannot be shown: damaged, or above 25 megapixels]"
            else:
                bundle[mime] = base64.b64encode(image).decode()
    html = result.data.get("text/html")
    svg = result.data.get("image/svg+xml")
    if isinstance(html, str) and len(html) <= MAX_HTML:
        page = _safe_html(html)
        if page is None:
            bundle["text/plain"] += "\n[HTML that cannot be shown: it is nested too deeply]"
        else:
            bundle["text/html"] = page
    elif isinstance(svg, str) and len(svg) <= MAX_SVG:
        source = base64.b64encode(svg.encode()).decode()
        bundle["text/html"] = f'<img alt="SVG image" src="data:image/svg+xml;base64,{source}">'
    return bundle
