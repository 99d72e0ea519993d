"""Values as bytes: every supported type comes back as it was, and hostile bytes are an error that has done nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import io
import json
import math
import pickle
import struct
import zlib
from collections import OrderedDict, namedtuple
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from hypothesis.extra import pandas as pdst

from agent_executor import arrays, encoder, values
from agentbox_magic import TransferError
from agentbox_magic.values import decode, encode, encode_namespace

SETTINGS = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def same(one: Any, two: Any) -> bool:
    """Equal, of the same classes all the way down, and NaN is NaN."""
    if type(one) is not type(two):
        return False
    if isinstance(one, np.generic):
        return one.dtype == two.dtype and repr(one) == repr(two)
    if isinstance(one, np.ndarray):
        return one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, two, check_freq=True)
        return True
    if isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, two, check_freq=True)
        return True
    if isinstance(one, pd.Index):
        pd.testing.assert_index_equal(one, two, exact=True)
        return True
    if isinstance(one, dict):
        return same(list(one), list(two)) and same(list(one.values()), list(two.values()))
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, set | frozenset):
        return one == two
    if isinstance(one, datetime | time):
        return (one, one.tzinfo, one.fold) == (two, two.tzinfo, two.fold)
    if isinstance(one, int):
        return one == two
    return repr(one) == repr(two)  # of floats, complex numbers and Decimals: to the last bit, and the sign of zero


def assert_crosses(value: Any) -> None:
    back = decode(encode(value))
    assert same(value, back), f"{value!r} came back as {back!r}"


# -- what crosses -----------------------------------------------------------------------------------------------------

zones = st.one_of(
    st.none(),
    st.sampled_from([ZoneInfo("Europe/Paris"), ZoneInfo("UTC"), timezone.utc]),
    st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone),
)
moments = st.datetimes(allow_imaginary=True).flatmap(
    lambda moment: st.builds(lambda zone, fold: moment.replace(tzinfo=zone, fold=fold), zones, st.sampled_from([0, 1]))
)
times = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold), st.times(), zones, st.sampled_from([0, 1])
)
hashables = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(10**200), 10**200), st.floats(),
    st.complex_numbers(), st.text(st.characters()), st.text(min_size=1000, max_size=1100), st.binary(max_size=2000),
    st.dates(), moments, times, st.timedeltas(), st.decimals(), st.fractions(), st.uuids(),
    npst.scalar_dtypes().flatmap(npst.from_dtype),
)  # fmt: skip
keys = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.dates(), st.uuids()),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
anything = st.recursive(
    hashables,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple), st.dictionaries(keys, inner, max_size=4),
        st.sets(keys, max_size=4), st.frozensets(keys, max_size=4),
    ),
    max_leaves=20,
)  # fmt: skip


@given(anything)
@SETTINGS
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    assert_crosses(value)


untitled = npst.array_dtypes().filter(lambda dtype: not any(len(field) > 2 for field in dtype.fields.values()))


@given(npst.arrays(st.one_of(npst.scalar_dtypes(), untitled), npst.array_shapes(min_dims=0, min_side=0)))
@SETTINGS
def test_arrays_come_back_as_they_were(array: Any) -> None:
    assert_crosses(array)
    assert_crosses({"a": [array]})
    assert decode(encode(array)).flags.writeable


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
columns = [
    pdst.column(name, dtype=dtype)
    for name, dtype in [("i", "int64"), ("u", "uint8"), ("f", "float64"), ("h", "float16"), ("c", "complex128")]
] + [
    pdst.column("b", dtype=bool),
    pdst.column("when", elements=st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), dtype="datetime64[us]"),
    pdst.column("long", dtype="timedelta64[ns]"),
    pdst.column("text", elements=texts, dtype=object),
    pdst.column("gaps", elements=st.none() | texts, dtype=object),
    pdst.column("nan", elements=st.just(math.nan) | texts, dtype=object),
    pdst.column("mixed", elements=st.none() | st.integers() | texts | st.decimals(allow_nan=False), dtype=object),
]


@given(pdst.data_frames(columns, index=pdst.range_indexes(max_size=6)), texts)
@settings(SETTINGS, max_examples=40)
def test_tables_come_back_as_they_were(frame: Any, name: str) -> None:
    assert_crosses(frame)
    assert_crosses(frame.set_index("text"))
    assert_crosses(frame.set_index(["text", "i"]))
    for label in frame.columns:
        assert_crosses(frame[label].rename(name))
    for kind, label in [("Int64", "i"), ("UInt8", "u"), ("boolean", "b"), ("string", "gaps"), ("category", "text")]:
        assert_crosses(frame[label].astype(kind))
        assert_crosses(frame.assign(**{label: frame[label].astype(kind)}))
    assert_crosses(frame["f"].where(frame["b"]).astype("Float64"))
    assert_crosses(frame["i"].astype("Int64").where(frame["b"]))


Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Inner:
    n: int


@dataclasses.dataclass
class Outer:
    inner: Inner
    names: list[str]


class Text(str):
    pass


@pytest.mark.parametrize(
    "value",
    [
        pd.Timestamp("2024-02-29 12:00:00.123456789"), pd.Timestamp("2024-10-27T00:30Z").tz_convert("Europe/Paris"),
        pd.Timestamp("2024-01-01").as_unit("s"), pd.Timedelta("1 day 00:00:00.000000001"), pd.NaT, pd.NA,
        np.float64("nan"), np.longdouble("1.1"), np.str_(""), np.str_("é"), np.bytes_(b""), np.bool_(True),
        np.datetime64("2024-01-01", "D"), np.datetime64("NaT"), np.timedelta64(5, "m"), np.complex64(1 + 2j),
        np.array([(1, 2.5, "x")], dtype=[("a", "i4"), ("b", ">f8", (2,)), ("c", "U3")]), np.array(5), np.zeros((0, 7)),
        np.asfortranarray(np.arange(6).reshape(2, 3)), np.arange(10)[::-2], np.array(["a", "bcd"]),
        pd.Index([1, 2], name="n"), pd.Index(["a", "b"]), pd.Index([1.5, None]), pd.RangeIndex(2, 10, 3, name="r"),
        pd.Index([], dtype=object), pd.Index([1, "a", (2, 3), None], dtype=object),
        pd.date_range("2024-01-01", periods=3, freq="D"),
        pd.date_range("2024-01-01", periods=3, freq="QS", tz="Asia/Tokyo"),
        pd.timedelta_range("1h", periods=3, freq="h"), pd.DatetimeIndex(["2024-01-01", None]),
        pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["x", None]),
        pd.MultiIndex.from_arrays([["a", None], pd.to_datetime(["2024-01-01", "2024-01-02"])]),
        pd.Series(pd.date_range("2024-10-26", periods=50, freq="h", tz="Europe/Paris")),
        pd.Series(["x", "y", None, "x"], dtype=pd.CategoricalDtype(["y", "x"], ordered=True)),
        pd.Series(pd.Categorical([1, 2, None])), pd.Series(["a", None, ""], dtype="str"), pd.Series([[1], [2]]),
        pd.Series(["a", None, ""], dtype="string"), pd.Series([[1, 2], [3, 4]]), pd.Series([], dtype=object),
        pd.Series([1, 2], index=["a", "a"]), pd.Series([{"a": Decimal("1.10")}, date(2024, 1, 1)]),
        pd.DataFrame(), pd.DataFrame(index=[1, 2]), pd.DataFrame(columns=["a", "b"]), pd.DataFrame({"a": []}),
        pd.DataFrame([[1, 2], [3, 4]], columns=["x", "x"]), pd.DataFrame({1: [1], "b": ["x"], ("c", 2): [None]}),
        pd.DataFrame([[1, 2.0]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])),
        pd.DataFrame({"t": ["one", None, "three"]}),
        pd.DataFrame({"a": range(3)}, index=pd.Index(list("xyz"), name="k")),
        {"nested": [pd.DataFrame({"a": [1]}), (np.arange(3), {"deep": pd.Series([1.5], name=("n", 1))})]},
        [[]] * 3, -0.0, math.inf, complex("nan-infj"), 2**63, -(2**63), -(2**63) - 1, 10**5000,
        "\ud800", "\ud800" * 2000,
        Decimal("sNaN"), Decimal("-0E+10"), Decimal("1.10"), timedelta.max, datetime.max, date.min,
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")), time(1, 2, tzinfo=timezone.utc),
        {(): {frozenset(): ()}}, {1.5: "a", None: "b", b"c": "d", Decimal(2): 3}, "\x00\u2028" * 600,
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_it_comes_back_as_it_was(value: Any) -> None:
    assert_crosses(value)


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (Outer(Inner(1), ["a"]), {"inner": {"n": 1}, "names": ["a"]}),
        (Point(1, 2), (1, 2)),
        (OrderedDict(a=1), {"a": 1}),
        (Text("x"), "x"),
        (bytearray(b"x"), b"x"),
        (memoryview(b"x"), b"x"),
        (Path("a/b"), "a/b"),
    ],
    ids=repr,
)
def test_what_has_a_class_of_its_own_arrives_without_it(value: Any, back: Any) -> None:
    assert same(decode(encode(value)), back)


def test_depth_to_the_limit() -> None:
    value: Any = complex(1, 2)
    for _ in range(values.MAX_DEPTH):
        value = (value,)
    assert_crosses(value)
    with pytest.raises(TransferError, match="is nested more than 100 levels deep; make it flatter"):
        encode([value])


def test_many_items_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "MAX_ITEMS", 1000)
    monkeypatch.setattr(values, "MAX_PARTS", 3000)
    assert_crosses(list(range(999)))
    assert_crosses(["[,{"] * 999)
    with pytest.raises(TransferError, match="holds more than 1,000,000 values; put numbers into a NumPy array"):
        encode([0] * 1000)
    with pytest.raises(TransferError, match="holds more than 1,000,000 values"):  # too many parts of values
        encode([datetime(2024, 1, 1)] * 999)


# -- what does not ----------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1


def looped() -> Any:
    value: dict[str, Any] = {"a": []}
    value["a"].append(value)
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (len, "x is a function; code does not cross: define it in the cell that uses it"),
        ({"a": [1, lambda: 0]}, "x['a'][1] is a function"),
        (pd.DataFrame({"a": [1, 2, 3, len]}), "x['a'][3] is a function"),
        (pd.Series([1, int], index=["p", "q"]), "x[1] is a class"),
        (pd.DataFrame({"a": [1]}, index=[len]), "x.index[0] is a function"),
        ({len: 1}, "x has a key that is a function"),
        ([{1, len}], "x[0] has an element that is a function"),
        (Outer(Inner(math), []), "x.inner.n is a module; import it in the cell that uses it"),  # type: ignore[arg-type]
        ([Colour.RED], "x[0] is a member of the enum tests.test_values.Colour, and no class crosses; send its .value"),
        (range(3), "x is of the class range, and only plain data crosses; make a list of it: list(...)"),
        (iter([1]), "x is of the class list_iterator, and only plain data crosses; make a list of it"),
        (np.array([object()]), "x is an array of Python objects (dtype object); give it another dtype with .astype"),
        (np.ma.array([1]), "x is a MaskedArray, a kind of array; use numpy.asarray(...)"),
        (pd.Series(pd.period_range("2024", periods=1, freq="D")), "x has the dtype period[D], which does not cross"),
        (io.StringIO(), "x is of the class _io.StringIO, and only plain data crosses; make a list of it"),
        (object(), "x is of the class object, and only plain data crosses; send a dict of what you need of it"),
        (looped(), "x['a'][0] contains itself"),
        (bytes(2**20), "x is too large: more than 0.5 MiB; raise max_size (--max-transfer), or send less of it"),
        ({"big": np.zeros(2**17)}, "x['big'] is too large"),
        (["x" * 1000] * 1000, "x[5"),
        (Fraction(1, 3**50_000), "x has more than 65,536 bits; send its numerator and its denominator"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_the_error_says_where_why_and_what_to_do(value: Any, message: str) -> None:
    with pytest.raises(TransferError) as caught:
        encode(value, 2**19, name="x")
    assert str(caught.value).startswith(message)


def test_names_begin_the_errors_of_a_namespace() -> None:
    assert decode(encode_namespace({"a": 1, "b": [2]})) == {"a": 1, "b": [2]}
    with pytest.raises(TransferError, match=r"^df\['a'\]\[0\] is a function"):
        encode_namespace({"n": 1, "df": pd.DataFrame({"a": [len]})})
    for name in ("a b", "class", "1a", ""):
        with pytest.raises(ValueError, match="is no name of a variable"):
            encode_namespace({name: 1})


# -- hostile bytes ----------------------------------------------------------------------------------------------------

CANARY: list[str] = []


def sing() -> None:
    CANARY.append("unpickled")


class Canary:
    """Unpickled, it sings."""

    def __reduce__(self) -> Any:
        return sing, ()


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


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    table, array = encode(pd.Series([1])), encode(np.zeros(1))

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(arrays.importlib, "import_module", missing)
    with pytest.raises(TransferError, match="the value needs pandas, which is not installed here; pip install pandas"):
        decode(table)
    with pytest.raises(TransferError, match="the value needs numpy, which is not installed here; pip install numpy"):
        decode(array)
