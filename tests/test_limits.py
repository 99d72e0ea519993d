"""Limits as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from agentbox_magic.limits import Limits, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("512m", 2**29), ("2g", 2**31), ("1.5G", 3 * 2**29), ("300MiB", 300 * 2**20), ("64 mb", 2**26), ("1024", 1024)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "12q", "-1m", "1e9", "0x10", "512 512", "1m;rm"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size; give a number with a unit, such as 512m or 2g"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1, "1 B"), (1023, "1023 B"), (1024, "1 KiB"), (2**20 * 999, "999 MiB"), (2**40 * 3, "3072 GiB")],
)
def test_sizes_are_shown(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mem": "12q"}, "mem 12q is not a size; give a number with a unit, such as 512m or 2g"),
        ({"mem": "1k"}, "mem 1k is too little; a box needs at least 64m, such as 512m"),
        ({"cpus": 0}, "cpus 0 is out of range"),
        ({"cpus": "many"}, "cpus many is not a number; give a number of cores above 0, such as 0.5 or 2"),
        ({"cpus": "nan"}, "cpus nan is not a number"),
        ({"pids": 1.5}, "pids 1.5 is out of range; give a whole number from 4"),
        ({"pids": -1}, "pids -1 is out of range"),
        ({"timeout": -1}, "timeout -1 is out of range; give a number of seconds, such as 30, or 0 or None for no"),
        ({"mem": "9" * 5000}, "mem 999"),
        ({"mem": "9" * 20}, "mem 99999999999999999999 is out of range"),
        ({"timeout": "inf"}, "timeout inf is not a number"),
        ({"network": "host"}, "network host is not known; the only network is none"),
    ],
)
def test_what_no_box_can_have(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the message is compared as a string just below
        Limits.of(**values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_no_deadline() -> None:
    assert Limits.of(timeout=None).timeout is None
    assert Limits.of(timeout=0).timeout is None
    assert Limits.of(timeout="0").timeout is None
