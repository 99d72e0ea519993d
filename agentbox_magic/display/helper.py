"""Cleaning in a process of its own, which is given up on when it takes too long. What is surely quick is done here."""

from __future__ import annotations

import io
import subprocess
import sys

from agentbox_magic.display import sanitise
from agentbox_magic.display.sanitise import CLEANERS, IMAGES, MAX_PIXELS

SECONDS = 10.0
"""4 MiB of an honest table take less than one, and a picture of 25 megapixels about three."""
DIRECT = {"html": 32 * 1024, "frame": 32 * 1024, "markdown": 8 * 1024}
"""Longest source cleaned here, in characters: at worst 0.3 s."""
DIRECT_PIXELS = 1_000_000
"""Largest picture decoded and encoded here: at worst 0.3 s."""
MAX_SCANS = 16
"""Of a JPEG: each may be a few bytes, and costs as much as the whole picture. Progressive ones have about ten."""


class TooSlowError(Exception):
    """It was given up on."""


def clean_page(source: str, how: str, seconds: float = SECONDS) -> str | None:
    """What :data:`~agentbox_magic.display.sanitise.CLEANERS` make of it; None if a library stumbles over it.

    Raises:
        TooSlowError: it takes longer than ``seconds``.
    """
    if len(source) <= DIRECT[how] and "data:image" not in source.lower():
        try:
            return CLEANERS[how](source)
        except Exception:  # an input that a library stumbles over is none to show
            return None
    page = _run(how, source.encode("utf-8", "replace"), seconds)
    return None if page is None else page.decode()


def clean_image(raw: bytes, mime: str, seconds: float = SECONDS) -> bytes | None:
    """The image decoded and encoded anew; None if it is none, or larger than 25 megapixels.

    Raises:
        TooSlowError: it takes longer than ``seconds``.
    """
    pixels = count_pixels(raw, mime)
    if not 0 < pixels <= MAX_PIXELS:
        return None
    if pixels <= DIRECT_PIXELS and (mime == "image/png" or raw.count(b"\xff\xda") <= MAX_SCANS):
        image = sanitise.safe_image(raw, mime)
        return image[0] if image else None
    return _run(mime, raw, seconds) or None


def count_pixels(raw: bytes, mime: str) -> int:
    """How large an image says that it is; 0 if it says nothing."""
    from PIL import Image  # not at the top: HTML alone needs none of it

    try:
        with Image.open(io.BytesIO(raw), formats=[IMAGES[mime]]) as image:
            return int(image.width * image.height)
    except Exception:  # whatever hostile bytes make a decoder raise
        return 0


def _run(how: str, source: bytes, seconds: float) -> bytes | None:
    try:
        done = subprocess.run(
            [sys.executable, sanitise.__file__, how], input=source, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise TooSlowError(f"making it safe takes more than {seconds:.3g} s") from None
    return None if done.returncode else done.stdout
