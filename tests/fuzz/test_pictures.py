"""Pictures, damaged and forged: each is drawn anew or refused."""

from __future__ import annotations

import base64
import io
import struct
import zlib

from fuzz import strategies as some
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from agentbox_magic import Result
from agentbox_magic.display import safe_bundle
from agentbox_magic.display.sanitise import safe_image


def picture(kind: str, mode: str) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (5, 4)).save(out, kind)
    return out.getvalue()


_PICTURES = [("image/png", picture("PNG", mode)) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")] + [
    ("image/jpeg", picture("JPEG", mode)) for mode in ("L", "RGB", "CMYK")
]


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """Pictures with bytes changed, cut and added, their checksums made right again."""
    mime, raw = draw(st.sampled_from(_PICTURES))
    data = bytearray(raw)
    for place, value in draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=6)):
        data[place] = value
    if mime == "image/png" and draw(st.booleans()):
        _mend(data)
    data = data[: draw(st.just(len(data)) | st.integers(0, len(data)))]
    return mime, bytes(data) + draw(some.small)


def _mend(data: bytearray) -> None:
    start = 8
    while start + 12 <= len(data):
        end = start + 8 + int.from_bytes(data[start : start + 4], "big")
        if end + 4 > len(data):
            return
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[start + 4 : end]))
        start = end + 4


@given(damaged() | st.tuples(st.sampled_from(["image/png", "image/jpeg"]), some.small))
def test_a_picture_is_redrawn_or_refused(image: tuple[str, bytes]) -> None:
    mime, raw = image
    shown = safe_image(raw, mime)
    if shown is not None:
        with Image.open(io.BytesIO(shown[0])) as drawn:
            drawn.load()
            assert not {"comment", "exif", "icc_profile", "transparency"} & set(drawn.info)
    bundle = safe_bundle(Result({mime: raw}))
    assert set(bundle) <= {"text/plain", mime}
    base64.b64decode(bundle.get(mime, ""), validate=True)


def test_a_picture_that_only_claims_to_be_huge_is_refused() -> None:
    data = bytearray(picture("PNG", "L"))
    data[16:24] = struct.pack(">II", 10_000, 10_000)  # Pillow warns of this many, and pytest makes errors of warnings
    _mend(data)
    assert safe_image(bytes(data), "image/png") is None
