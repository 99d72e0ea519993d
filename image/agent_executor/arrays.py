"""NumPy's and pandas' part of :mod:`agent_executor.values`: neither is imported before a value needs it.

An array is its dtype, its shape and its bytes; a column of a table is an array, or text with the lengths of its
strings, or a list of values. So there is no format of others to be parsed: no ``.npy`` header, no Arrow, no pickle.
"""

from __future__ import annotations

import importlib
import math
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent_executor.values import (
    RefusedError,
    fields,
    is_count,
    key_segment,
    only_item,
    text_of,
    zone_node,
    zone_of,
)

if TYPE_CHECKING:
    from agent_executor.decoder import Decoder
    from agent_executor.encoder import Encoder

MAX_TEXTS = 10_000_000
"""Strings in one column."""
MAX_FIELDS = 1000

ROW = 8
"""Bytes that a row of a range takes once it is more than its ends."""

_DTYPE = re.compile(r"[<>|](?:[biufcSUV]\d{1,9}|[mM]8(?:\[\d{0,9}(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)")
_FREQ = re.compile(r"-?\d{0,9}[A-Za-z]{1,4}(?:-[A-Z]{3})?")
_MASKED = {
    **{f"{sign}Int{bits}": "IntegerArray" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "Float32": "FloatingArray",
    "Float64": "FloatingArray",
    "boolean": "BooleanArray",
}


def _need(name: str) -> Any:
    try:
        return importlib.import_module(name)  # one of two names of ours
    except ImportError:
        raise ValueError(f"the value needs {name}, which is not installed here; pip install {name}") from None


def method(value: Any) -> Callable[[Encoder, Any], Any] | None:
    """How to encode a value if it is NumPy's or pandas'. Raises RefusedError for what of theirs cannot cross."""
    np, pd = (sys.modules.get(name) for name in ("numpy", "pandas"))
    if pd is not None:
        for kind, encode in (
            (pd.DataFrame, _frame),
            (pd.Series, _series),
            (pd.Index, _index),
            (pd.Timestamp, _timestamp),
            (pd.Timedelta, _timedelta),
        ):
            if isinstance(value, kind):
                if kind in (pd.DataFrame, pd.Series) and type(value) is not kind:
                    raise RefusedError(
                        f"is a {type(value).__name__}, a kind of {kind.__name__}; use pandas.{kind.__name__}(...)"
                    )
                return encode
        if value is pd.NaT:
            return lambda encoder, value: {"nat": None}
        if value is pd.NA:
            return lambda encoder, value: {"na": None}
    if np is not None:
        if isinstance(value, np.generic):
            return lambda encoder, value: {"scalar": _array_fields(encoder, np.asarray(value))}
        if isinstance(value, np.ndarray):
            if type(value) is not np.ndarray:
                raise RefusedError(f"is a {type(value).__name__}, a kind of array; use numpy.asarray(...)")
            return _array
    return None


# -- arrays -----------------------------------------------------------------------------------------------------------


def _array(encoder: Encoder, array: Any) -> Any:
    return {"ndarray": _array_fields(encoder, array)}


def _array_fields(encoder: Encoder, array: Any) -> list[Any]:
    dtype = _dtype_node(array.dtype)
    if not array.dtype.itemsize and array.size > 1:
        raise RefusedError(f"is an array of {array.dtype}, whose elements hold nothing; send its shape")
    encoder.charge(array.nbytes)
    if not array.size:
        encoder.charge(_extent(array.dtype, array.shape))
    return [dtype, list(array.shape), encoder.buffer(array.tobytes())]


def _dtype_node(dtype: Any) -> Any:
    if dtype.hasobject:
        raise RefusedError(
            "is an array of Python objects (dtype object); give it another dtype with .astype, or use .tolist()"
        )
    if dtype.names is None:
        if not _DTYPE.fullmatch(dtype.str):
            raise RefusedError(f"is an array of {dtype}, which has no plain bytes; use .astype(...) or .tolist()")
        return dtype.str
    parts = []
    for name in dtype.names:
        base, shape = dtype.fields[name][0].subdtype or (dtype.fields[name][0], ())
        if 0 in shape:
            raise RefusedError(f"is an array of records whose field {name!r} holds nothing; send it without that field")
        parts.append([name, _dtype_node(base), list(shape)])
    if _dtype(parts, 0) != dtype:
        raise RefusedError("is an array of records with gaps or titles; use numpy.lib.recfunctions.repack_fields")
    return parts


def _dtype(node: Any, depth: int) -> Any:
    np = _need("numpy")
    if isinstance(node, str):
        if not _DTYPE.fullmatch(node):
            raise ValueError("an array's dtype is none of those that cross")
        return np.dtype(node)
    if not isinstance(node, list) or len(node) > MAX_FIELDS or depth > 3:
        raise ValueError("an array's dtype is not one")
    parts = [fields(part, 3) for part in node]
    if any(0 in _shape(shape) for _, _, shape in parts):
        raise ValueError("an array has fields that hold nothing")
    return np.dtype([(text_of(name), _dtype(base, depth + 1), _shape(shape)) for name, base, shape in parts])


def _shape(node: Any) -> tuple[int, ...]:
    if not isinstance(node, list) or len(node) > 32 or not all(map(is_count, node)):
        raise ValueError("an array's shape is not one")
    return tuple(node)


def _extent(dtype: Any, shape: tuple[int, ...]) -> int:
    """The elements there would be if no axis had the length 0 (whoever shows such an array may go along all the others)
    and no field were empty text."""
    base, inner = dtype.subdtype or (dtype, ())
    each = 1 if base.names is None else sum(_extent(base[name], ()) for name in base.names)
    return each * math.prod(inner) * math.prod(length or 1 for length in shape)


def _read_array(decoder: Decoder, content: Any) -> Any:
    np = _need("numpy")
    dtype, shape, number = fields(content, 3)
    dtype, shape = _dtype(dtype, 0), _shape(shape)
    raw = decoder.buffer(number)
    if dtype.names is not None or 0 in shape:
        decoder.charge(_extent(dtype, shape))
    count = math.prod(shape)
    if count * dtype.itemsize != len(raw) or (not dtype.itemsize and count > 1):
        raise ValueError("an array's shape is not that of its bytes")
    flat = np.frombuffer(bytearray(raw), dtype) if len(raw) else np.empty(count, dtype)  # writable, a copy
    _check_elements(flat)
    return flat.reshape(shape)


def _check_elements(array: Any) -> None:
    """Refuse elements that NumPy takes on trust: truth values that are neither, characters that are none."""
    np = _need("numpy")
    if array.dtype.names is not None:
        for name in array.dtype.names:
            _check_elements(array[name])
    elif not array.size or not array.dtype.itemsize:
        return
    elif array.dtype.kind == "b" and array.view("u1").max() > 1:
        raise ValueError("an array holds truth values that are neither true nor false")
    elif array.dtype.kind == "U":
        codes = np.ascontiguousarray(array).view(array.dtype.str[0].replace("|", "<") + "u4")
        if codes.max() > sys.maxunicode:
            raise ValueError("an array holds characters that do not exist")


# -- tables -----------------------------------------------------------------------------------------------------------


def _timestamp(encoder: Encoder, value: Any) -> Any:
    return {"timestamp": [int(value.asm8.view("i8")), value.unit, zone_node(value.tz)]}


def _timedelta(encoder: Encoder, value: Any) -> Any:
    return {"pandas.timedelta": [int(value.asm8.view("i8")), value.unit]}


def _series(encoder: Encoder, series: Any) -> Any:
    return {"series": [_column(encoder, series), _part(encoder, series.index), encoder.node(series.name)]}


def _frame(encoder: Encoder, frame: Any) -> Any:
    columns = []
    for number, label in enumerate(frame.columns):
        try:
            columns.append(_column(encoder, frame.iloc[:, number]))
        except RefusedError as error:
            raise error.within(key_segment(label)) from None
    try:
        names = _index(encoder, frame.columns)
    except RefusedError as error:
        raise error.within(".columns") from None
    return {"dataframe": [columns, _part(encoder, frame.index, whole=not columns), names]}


def _part(encoder: Encoder, index: Any, *, whole: bool = False) -> Any:
    try:
        return _index(encoder, index, whole=whole)
    except RefusedError as error:
        raise error.within(".index") from None


def _index(encoder: Encoder, index: Any, *, whole: bool = False) -> Any:
    """An index; ``whole``: every row that it stands for counts, because nothing else has as many."""
    pd = _need("pandas")
    encoder.count_table()
    if isinstance(index, pd.MultiIndex):
        levels = [_index(encoder, level, whole=True) for level in index.levels]
        codes = [_array(encoder, _need("numpy").asarray(code)) for code in index.codes]
        return {"multiindex": [levels, codes, [encoder.node(name) for name in index.names]]}
    name = encoder.node(index.name)
    if type(index) is pd.RangeIndex:
        encoder.charge(ROW * len(index) * whole)
        return {"rangeindex": [index.start, index.stop, index.step, name]}
    freq = getattr(index, "freqstr", None)
    if not (freq and _FREQ.fullmatch(freq) and pd.tseries.frequencies.to_offset(freq) == index.freq):
        freq = None  # a calendar of one's own
    return {"index": [_column(encoder, index), name, freq]}


def _column(encoder: Encoder, column: Any) -> Any:
    """A Series, or an Index that is a column."""
    np, pd = _need("numpy"), _need("pandas")
    encoder.count_table()
    dtype = column.dtype
    if isinstance(dtype, np.dtype):
        return _objects(encoder, column.tolist()) if dtype.kind == "O" else _array(encoder, column.to_numpy())
    if isinstance(dtype, pd.CategoricalDtype):
        codes, categories = column.array.codes, column.array.categories
        return {
            "category": [
                _array(encoder, np.asarray(codes)),
                _index(encoder, categories, whole=True),
                bool(dtype.ordered),
            ]
        }
    if isinstance(dtype, pd.DatetimeTZDtype):
        moments = column.array.tz_convert("UTC").tz_localize(None)
        return {"zoned": [_array(encoder, np.asarray(moments)), zone_node(dtype.tz)]}
    if isinstance(dtype, pd.StringDtype):
        texts = [None if gone else text for text, gone in zip(column.tolist(), column.isna())]
        return _texts(encoder, "string" if dtype.na_value is pd.NA else "str", texts)
    if str(dtype) in _MASKED:
        values = column.array.to_numpy(dtype=dtype.numpy_dtype, na_value=0)
        return {"masked": [str(dtype), _array(encoder, values), _array(encoder, np.asarray(column.isna()))]}
    raise RefusedError(f"has the dtype {dtype}, which does not cross; use .astype(...) with one of NumPy's, or str")


def _objects(encoder: Encoder, values: list[Any]) -> Any:
    kinds = set(map(type, values))
    if kinds <= {str, type(None)}:
        return _texts(encoder, "object", values)
    if kinds == {str, float} and all(value != value for value in values if type(value) is float):
        return _texts(encoder, "object with nan", [value if type(value) is str else None for value in values])
    return {"objects": encoder.nodes(values, values)}


def _texts(encoder: Encoder, kind: str, texts: list[Any]) -> Any:
    np = _need("numpy")
    if len(texts) > MAX_TEXTS:
        raise RefusedError(f"has more than {MAX_TEXTS:,} rows of text; send less of it")
    lengths = np.fromiter((-1 if text is None else len(text) for text in texts), dtype="<i4", count=len(texts))
    encoder.charge(int(lengths.clip(min=0).sum()))
    raw = "".join(text for text in texts if text is not None).encode("utf-8", "surrogatepass")
    encoder.charge(len(raw))
    return {"text": [kind, _array(encoder, lengths), encoder.buffer(raw)]}


def _read_index(decoder: Decoder, node: Any, depth: int, *, whole: bool = False) -> Any:
    """An index; ``whole``: every row that it stands for counts, because nothing else has as many."""
    tag, content = only_item(node)
    if tag not in ("index", "rangeindex", "multiindex"):
        raise ValueError("the data has no index where one should be")
    index = decode(decoder, tag, content, depth)
    if whole and tag == "rangeindex":
        decoder.charge(ROW * len(index))
    return index


def _read_column(decoder: Decoder, node: Any, depth: int) -> Any:
    """What becomes a column: a one-dimensional array, NumPy's or pandas' own."""
    pd = _need("pandas")
    decoder.count_table()
    tag, content = only_item(node)
    if tag == "ndarray":
        array = _read_array(decoder, content)
        if array.ndim != 1 or array.dtype.kind not in "biufcmM":
            raise ValueError("a column is not one")
        return array
    if tag == "objects":
        return _object_array(decoder.nodes(content, depth + 1))
    if tag == "text":
        kind, lengths, number = fields(content, 3)
        texts = _read_texts(decoder, lengths, number, math.nan if kind == "object with nan" else None)
        if kind == "string" or (kind == "str" and int(pd.__version__.partition(".")[0]) >= 3):
            return pd.array(texts, dtype=kind)
        return _object_array([math.nan if text is None else text for text in texts] if kind == "str" else texts)
    if tag == "category":
        codes, categories, ordered = fields(content, 3)
        index = _read_index(decoder, categories, depth + 1, whole=True)
        return pd.Categorical.from_codes(_read_column(decoder, codes, depth), index, ordered=bool(ordered))
    if tag == "zoned":
        moments, zone = fields(content, 2)
        array = pd.DatetimeIndex(_read_column(decoder, moments, depth))
        return array.tz_localize("UTC").tz_convert(_zone(zone)).array
    if tag == "masked":
        name, values, mask = fields(content, 3)
        values, mask = _read_column(decoder, values, depth), _read_column(decoder, mask, depth)
        if text_of(name) not in _MASKED or values.dtype != pd.api.types.pandas_dtype(name).numpy_dtype:
            raise ValueError("a column with a mask is not one")
        return getattr(pd.arrays, _MASKED[name])(values, mask)
    raise ValueError("a column is not one")


def _object_array(values: list[Any]) -> Any:
    array = _need("numpy").empty(len(values), dtype=object)
    for number, value in enumerate(values):  # a slice would take lists of one length for rows
        array[number] = value
    return array


def _read_texts(decoder: Decoder, lengths: Any, number: Any, missing: object) -> list[Any]:
    tag, content = only_item(lengths)
    sizes = _read_array(decoder, content) if tag == "ndarray" else None
    text = bytes(decoder.buffer(number)).decode("utf-8", "surrogatepass")
    if sizes is None or sizes.ndim != 1 or sizes.dtype.kind != "i" or sizes.size > MAX_TEXTS:
        raise ValueError("a column of text has no lengths")
    texts: list[Any] = []
    start = 0
    for size in sizes.tolist():
        texts.append(missing if size < 0 else text[start : start + size])
        start += max(0, size)
    if start != len(text):
        raise ValueError("a column of text has other lengths than its text")
    return texts


def _read_series(decoder: Decoder, content: Any, depth: int) -> Any:
    pd = _need("pandas")
    values, index, name = fields(content, 3)
    values = _read_column(decoder, values, depth)
    index = _read_index(decoder, index, depth)
    if len(index) != len(values):
        raise ValueError("a series has another length than its index")
    return pd.Series(values, index=index, name=decoder.node(name, depth), dtype=values.dtype)


def _read_frame(decoder: Decoder, content: Any, depth: int) -> Any:
    pd = _need("pandas")
    columns, index, names = fields(content, 3)
    if not isinstance(columns, list):
        raise ValueError("a table has no list of columns")
    arrays = [_read_column(decoder, column, depth) for column in columns]
    index = _read_index(decoder, index, depth, whole=not arrays)
    names = _read_index(decoder, names, depth)
    if len(names) != len(arrays) or any(len(array) != len(index) for array in arrays):
        raise ValueError("a table's columns have other lengths than its index")
    frame = pd.DataFrame(dict(enumerate(map(_as_it_is, arrays))), index=None if arrays else index)
    frame.index = index
    frame.columns = names
    return frame


def _as_it_is(array: Any) -> Any:
    """A column that a table takes with the dtype that it has. A Series of its own costs a hundred times what a number
    does, so only those are made that pandas would look into otherwise."""
    plain = array.dtype.kind in "biufc" and isinstance(array, _need("numpy").ndarray)
    return array if plain else _need("pandas").Series(array, dtype=array.dtype)


def _read_plain_index(decoder: Decoder, content: Any, depth: int) -> Any:
    pd = _need("pandas")
    values, name, freq = fields(content, 3)
    values = _read_column(decoder, values, depth)
    index = pd.Index(values, dtype=values.dtype, name=decoder.node(name, depth))
    if freq is not None:
        if not _FREQ.fullmatch(text_of(freq)):
            raise ValueError("an index has a frequency that is none")
        index.freq = freq
    return index


def _read_range(decoder: Decoder, content: Any, depth: int) -> Any:
    decoder.count_table()
    start, stop, step, name = fields(content, 4)
    return _need("pandas").RangeIndex(start, stop, step, name=decoder.node(name, depth))


def _read_multi(decoder: Decoder, content: Any, depth: int) -> Any:
    decoder.count_table()
    levels, codes, names = fields(content, 3)
    return _need("pandas").MultiIndex(
        levels=[_read_index(decoder, level, depth + 1, whole=True) for level in levels],
        codes=[_read_column(decoder, code, depth + 1) for code in codes],
        names=decoder.nodes(names, depth),
        verify_integrity=True,
    )


def _zone(node: Any) -> Any:
    """A time zone as pandas itself makes it of a name: to version 2, whose are pytz's, zoneinfo's are others."""
    zone = zone_of(node)
    return node if isinstance(node, str) else zone


def _read_timestamp(decoder: Decoder, content: Any, depth: int) -> Any:
    number, unit, zone = fields(content, 3)
    moment = _need("pandas").Timestamp(_need("numpy").datetime64(number, unit))
    return moment if zone is None else moment.tz_localize("UTC").tz_convert(_zone(zone))


def _read_timedelta(decoder: Decoder, content: Any, depth: int) -> Any:
    return _need("pandas").Timedelta(_need("numpy").timedelta64(*fields(content, 2)))


_READERS: dict[str, Callable[[Decoder, Any, int], Any]] = {
    "ndarray": lambda decoder, content, depth: _read_array(decoder, content),
    "scalar": lambda decoder, content, depth: _read_array(decoder, content)[()],
    "timestamp": _read_timestamp,
    "pandas.timedelta": _read_timedelta,
    "nat": lambda decoder, content, depth: _need("pandas").NaT,
    "na": lambda decoder, content, depth: _need("pandas").NA,
    "series": _read_series,
    "dataframe": _read_frame,
    "index": _read_plain_index,
    "rangeindex": _read_range,
    "multiindex": _read_multi,
}


def decode(decoder: Decoder, tag: str, content: Any, depth: int) -> Any:
    """The value of a tag of this module."""
    reader = _READERS.get(tag)
    if reader is None:
        raise ValueError("the data has a tag that is none")
    return reader(decoder, content, depth)
