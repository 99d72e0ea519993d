"""A display that is larger than one may be is cut, not dropped."""

from __future__ import annotations

from agent_executor.streams import encode_bundle
from agentbox_magic import Sandbox


def forms(data: dict[str, object], most: int) -> dict[str, bytes]:
    parts, payload = encode_bundle(data, most)
    assert sum(size for _, size in parts) == len(payload) <= most
    found, start = {}, 0
    for mime, size in parts:
        found[mime] = payload[start : start + size]
        start += size
    return found


def test_text_keeps_its_head_and_says_how_much_is_gone() -> None:
    cut = forms({"text/plain": "é" * 100_000}, 100_000)
    assert list(cut) == ["text/plain"]
    text = cut["text/plain"].decode()
    assert text.startswith("é" * 1000)
    assert text.endswith("\n[... 110,000 more bytes of text ...]")


def test_the_largest_forms_go_and_are_named() -> None:
    image, page = bytes(90_000), "<b>x</b>"
    cut = forms({"image/png": image, "text/html": page, "text/plain": "fig"}, 50_000)
    assert cut["text/html"] == page.encode()
    assert cut["text/plain"] == b"fig\n[image/png of 90,000 bytes is too large to be shown]"
    assert forms({"image/png": image, "text/plain": "fig"}, 100_000)["image/png"] == image


def test_a_box_shows_the_head(box: Sandbox) -> None:
    run = box.run_code("'x' * 40_000_000")
    assert run.dropped_results == 0
    assert run.text is not None
    assert run.text.startswith("'xxx")
    assert run.text.endswith("more bytes of text ...]")
    assert 30_000_000 < len(run.text) < 34_000_000
