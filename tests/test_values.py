"""Values as bytes: every supported type comes back as it was, and what cannot cross is told where it is."""

from __future__ import annotations

import dataclasses
import enum
import io
import math
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
        np.datetime64("2024-01-01", "D"), np.datetime64("NaT", "s"), np.timedelta64(5, "m"), np.complex64(1 + 2j),
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
        pytest.param(memoryview(b"x"), b"x", id="a memoryview"),
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


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    table, array = encode(pd.Series([1])), encode(np.zeros(1))

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(arrays.importlib, "import_module", missing)
    with pytest.raises(TransferError, match="the value needs pandas, which is not installed here; pip install pandas"):
        decode(table)
    with pytest.raises(TransferError, match="the value needs numpy, which is not installed here; pip install numpy"):
        decode(array)
