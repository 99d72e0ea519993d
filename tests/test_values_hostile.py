"""Values as bytes: hostile bytes are an error that has done nothing."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import struct
import zlib
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from canary import CANARY, Canary
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentbox_magic import TransferError
from agentbox_magic.values import decode, encode

SETTINGS = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def forged(tree: Any, *buffers: bytes, sizes: Any = None, raw: bytes | None = None) -> bytes:
    """The bytes of a tree that no encoder made."""
    head = {"sizes": [len(one) for one in buffers] if sizes is None else sizes, "tree": tree}
    text = json.dumps(head).encode() if raw is None else raw
    return struct.pack("!4sI", b"ABV1", len(text)) + text + b"".join(buffers)


def npy_of_objects() -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([Canary()], dtype=object), allow_pickle=True)
    return out.getvalue()


DEEP = b'{"sizes":[],"tree":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
I8 = "<i8"
ONE = {"ndarray": [I8, [1], 0]}
TWO = {"ndarray": [I8, [2], 1]}
INDEX = {"rangeindex": [0, 1, 1, None]}
PAIR = {"rangeindex": [0, 2, 1, None]}
LENGTHS = {"ndarray": ["<i4", [1], 0]}


def nested_dtype(levels: int) -> Any:
    return [["a", nested_dtype(levels - 1), []]] if levels else I8


def series(column: Any, *buffers: bytes, index: Any = INDEX) -> bytes:
    return forged({"series": [column, index, None]}, *buffers)


def masked(kind: str, mask: list[int]) -> bytes:
    return series({"masked": [kind, ONE, {"ndarray": ["|b1", mask, 1]}]}, bytes(8), bytes(mask[0]))


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "short": b"ABV1\x00",
    "other magic": b"ABV2\x00\x00\x00\x02{}",
    "head longer than the data": b"ABV1\xff\xff\xff\xff{}",
    "pickle": pickle.dumps(Canary()),
    "pickle in a buffer": forged({"pickle": 0}, pickle.dumps(Canary())),
    "npy of objects": npy_of_objects(),
    "npy in a buffer": forged({"npy": 0}, npy_of_objects()),
    "array of objects": forged({"ndarray": ["|O", [1], 0]}, pickle.dumps(Canary())),
    "array of objects in records": forged({"ndarray": [[["a", "|O8", []]], [1], 0]}, bytes(8)),
    "scalar object": forged({"scalar": ["O", [], 0]}, bytes(8)),
    "dtype by name": forged({"ndarray": ["os.system", [1], 0]}, bytes(8)),
    "dtype with commas": forged({"ndarray": ["i4,O", [1], 0]}, bytes(12)),
    "compressed": forged({"zlib": 0}, zlib.compress(bytes(2**24))),
    "compressed whole": zlib.compress(bytes(2**24)),
    "shape bomb": forged({"ndarray": [I8, [2**40], 0]}, bytes(8)),
    "shape that overflows": forged({"ndarray": [I8, [2**33, 2**31, 0, 1], 0]}, bytes(8)),
    "shape of nothing": forged({"ndarray": ["|V0", [2**62], 0]}, b""),
    "shape of empty text": forged({"ndarray": ["<U0", [2**40], 0]}, b""),
    "shape that is negative": forged({"ndarray": [I8, [-1], 0]}, bytes(8)),
    "shape that is true": forged({"ndarray": [I8, [True], 0]}, bytes(8)),
    "shape too long": forged({"ndarray": [I8, [1] * 1000, 0]}, bytes(8)),
    "dtype bomb": forged({"ndarray": [f"<U{2**31 - 1}", [1], 0]}, bytes(8)),
    "dtype deep": forged({"ndarray": [nested_dtype(5), [1], 0]}, bytes(8)),
    "dtype bomb in records": forged({"ndarray": [[["a", I8, [2**31]]], [1], 0]}, bytes(8)),
    "characters that do not exist": forged({"ndarray": ["<U1", [1], 0]}, b"\xff\xff\xff\x7f"),
    "truth that is neither": forged({"ndarray": ["|b1", [1], 0]}, b"\x02"),
    "deep": forged(None, raw=DEEP),
    "deep tuples": forged(None, raw=b'{"sizes":[],"tree":' + b'{"tuple":[' * 150 + b"]}" * 150 + b"}"),
    "wide": forged(None, raw=b'{"sizes":[],"tree":[' + b"[]," * 4_000_000 + b"[]]}"),
    "wide in quotes": forged(None, raw=b'{"sizes":[],"tree":["\\\\",' + b'"",' * 4_000_000 + b"1]}"),
    "many quotes": forged(None, raw=b'{"sizes":[],"tree":' + b'"' * 20_000_000 + b"}"),
    "not ASCII": forged(None, raw='{"sizes":[],"tree":"é"}'.encode()),
    "not JSON": forged(None, raw=b"import os"),
    "constant": forged(None, raw=b'{"sizes":[],"tree":NaN}'),
    "long number": forged(None, raw=b'{"sizes":[],"tree":' + b"9" * 100_000 + b"}"),
    "no tree": forged(None, raw=b'{"sizes":[]}'),
    "tree only": forged(None, raw=b'{"tree":1}'),
    "a list": forged(None, raw=b"[]"),
    "sizes too large": forged({"bytes": 0}, b"abc", sizes=[4]),
    "sizes too small": forged({"bytes": 0}, b"abc", sizes=[2]),
    "sizes negative": forged({"bytes": 0}, b"abc", sizes=[4, -1]),
    "sizes huge": forged({"bytes": 0}, b"abc", sizes=[2**62, 2**62]),
    "sizes of text": forged({"bytes": 0}, b"abc", sizes=["3"]),
    "sizes that are true": forged({"bytes": 0}, b"a", sizes=[True]),
    "a buffer often": forged([{"bytes": 0}] * 1000, bytes(2**20)),
    "a buffer that is not there": forged({"bytes": 1}, b"abc"),
    "a buffer unused": forged(None, b"abc"),
    "a buffer by another name": forged({"bytes": "0"}, b"abc"),
    "an unhashable buffer": forged({"bytes": [[]]}, b"abc"),
    "no tag": forged({}),
    "two tags": forged({"tuple": [], "list": []}),
    "unknown tag": forged({"__reduce__": ["os.system", ["true"]]}),
    "class": forged({"class": "os.system"}),
    "tuple of text": forged({"tuple": "abc"}),
    "unhashable key": forged({"dict": [[[]], [1]]}),
    "unhashable element": forged({"set": [[[]]]}),
    "keys without values": forged({"dict": [[1, 2], [3]]}),
    "keys that collide": forged({"set": [{"int": hex((2**61 - 1) * n)} for n in range(2**3, 2**3 + 2000)]}),
    "int": forged({"int": "__import__('os')"}),
    "int with underscores": forged({"int": "0x_1"}),
    "float": forged({"float": {"a": 1}}),
    "complex of text": forged({"complex": ["1", 2]}),
    "decimal": forged({"decimal": "1 + 1"}),
    "fraction by zero": forged({"fraction": [1, 0]}),
    "fraction of floats": forged({"fraction": [1.5, 2]}),
    "fraction that takes for ever": forged({"fraction": [{"int": hex(3**600_000)}, {"int": hex(7**600_000)}]}),
    "uuid": forged({"uuid": "x"}),
    "date": forged({"date": "2024-99-01"}),
    "datetime": forged({"datetime": ["2024-01-01", None]}),
    "fold": forged({"datetime": ["2024-01-01", None, 2]}),
    "zone that is a path": forged({"datetime": ["2024-01-01", "../../../etc/passwd", 0]}),
    "zone that is absolute": forged({"datetime": ["2024-01-01", "/etc/localtime", 0]}),
    "zone that is a module": forged({"datetime": ["2024-01-01", "antigravity", 0]}),
    "zone in a table": series({"zoned": [{"ndarray": ["<M8[ns]", [1], 0]}, "../x"]}, bytes(8)),
    "zone that is too far": forged({"time": ["10:00", 10**12, 0]}),
    "timedelta": forged({"timedelta": [10**18, 0, 0]}),
    "timestamp": forged({"timestamp": [2**70, "ns", None]}),
    "timestamp's unit": forged({"timestamp": [1, "import", None]}),
    "index longer than the series": series(ONE, bytes(8), index={"rangeindex": [0, 2**40, 1, None]}),
    "columns of two lengths": forged({"dataframe": [[ONE, TWO], INDEX, PAIR]}, bytes(8), bytes(16)),
    "more names than columns": forged({"dataframe": [[], INDEX, INDEX]}),
    "no index": series(ONE, bytes(8), index=[1]),
    "a column of two dimensions": series({"ndarray": [I8, [1, 1], 0]}, bytes(8)),
    "a column of records": series({"ndarray": [[["a", I8, []]], [1], 0]}, bytes(8)),
    "text shorter than its lengths": series({"text": ["object", LENGTHS, 1]}, b"\x04\0\0\0", b"abc"),
    "text that is not UTF-8": series({"text": ["object", LENGTHS, 1]}, b"\x01\0\0\0", b"\xff"),
    "codes beyond the categories": series({"category": [{"ndarray": ["|i1", [1], 0]}, INDEX, False]}, b"\x05"),
    "codes beyond the levels": forged({"multiindex": [[INDEX], [{"ndarray": ["|i1", [1], 0]}], [None]]}, b"\x05"),
    "mask of another length": masked("Int64", [2]),
    "mask by another name": masked("os", [1]),
    "range without a step": forged({"rangeindex": [0, 1, 0, None]}),
    "range of text": forged({"rangeindex": ["0", "1", "1", None]}),
    "frequency": forged({"index": [{"ndarray": ["<M8[ns]", [1], 0]}, None, "__import__"]}, bytes(8)),
}  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_an_error_and_do_nothing(data: bytes) -> None:
    CANARY.clear()
    with pytest.raises(TransferError, match="what came from the box cannot be taken"):
        decode(data, 2**30)
    assert CANARY == []


def test_the_canary_sings_where_bytes_are_unpickled() -> None:
    CANARY.clear()
    pickle.loads(HOSTILE["pickle"])  # noqa: S301  # the control
    np.load(io.BytesIO(HOSTILE["npy of objects"]), allow_pickle=True)
    assert CANARY == ["unpickled"] * 2


def test_what_hostile_bytes_say_is_no_link() -> None:
    with pytest.raises(TransferError) as caught:
        decode(forged({"datetime": ["2024-01-01", "<a href=x>\x1b]8;;", 0]}))
    assert "<a" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_more_than_the_cap_is_not_looked_at() -> None:
    with pytest.raises(TransferError, match="the value has 1 MiB, more than max_size 512 KiB"):
        decode(bytes(2**20), 2**19)


@given(st.data())
@settings(SETTINGS, max_examples=300)
def test_damaged_bytes_are_an_error_or_a_value(data: Any) -> None:
    """Bytes of real values with some of them changed: no other exception, whatever they come to."""
    good = bytearray(
        encode({"a": [1, {2}, 3j], "f": pd.DataFrame({"t": ["x", None], "n": [1, 2]}), "d": [date(2024, 1, 1)]})
    )
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(TransferError):
        decode(good)
