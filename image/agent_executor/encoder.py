"""A value as bytes, in the format of :mod:`agent_executor.values`."""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from agent_executor.values import (
    MAGIC,
    MANY_TABLES,
    MAX_BITS,
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_SIZE,
    MAX_TABLES,
    PREFIX,
    TOO_MANY,
    RefusedError,
    class_name,
    is_moderate,
    key_segment,
    zone_node,
)

if TYPE_CHECKING:
    from pathlib import PurePath

LONG_TEXT = 1024
"""Text from here on is kept in a buffer."""

_INFINITY = float("inf")


def encode(value: object, *, name: str = "value", max_size: int = MAX_SIZE) -> bytes:
    """A value as bytes.

    >>> from agent_executor.decoder import decode
    >>> decode(encode({"n": [1, 2.5, None], 3: {4}}))
    {'n': [1, 2.5, None], 3: {4}}
    >>> encode({"f": [len]}, name="x")
    Traceback (most recent call last):
    ValueError: x['f'][0] is a function; code does not cross: define it in the cell that uses it

    Args:
        name: what the value is called in errors.
        max_size: bytes.

    Raises:
        ValueError: it cannot cross; the message says where in it, why, and what to do instead.
    """
    encoder = Encoder(max_size)
    try:
        return encoder.finish(encoder.node(value))
    except RefusedError as error:
        raise _refusal(name, error) from None


def encode_namespace(values: Mapping[str, object], *, max_size: int = MAX_SIZE) -> bytes:
    """Named values as the encoding of one dict, with errors that begin with the name.

    >>> encode_namespace({"df": [len]})
    Traceback (most recent call last):
    ValueError: df[0] is a function; code does not cross: define it in the cell that uses it
    """
    encoder = Encoder(max_size)
    name = ""
    nodes: list[Any] = []
    try:
        for name, value in values.items():  # noqa: B007  # the name is for the error
            nodes.append(encoder.node(value))
        return encoder.finish({"dict": [list(values), nodes]})
    except RefusedError as error:
        raise _refusal(name, error) from None


def _refusal(name: str, error: RefusedError) -> ValueError:
    path = "".join(error.path)
    return ValueError(f"{name}{path if len(path) <= 200 else '...' + path[-197:]} {error}")


class Encoder:
    """Builds one encoding."""

    def __init__(self, max_size: int) -> None:
        self._max_size = self._left = max_size
        self._items = MAX_ITEMS
        self._tables = MAX_TABLES
        self._buffers: list[bytes | memoryview] = []
        self._open: set[int] = set()

    def finish(self, tree: object) -> bytes:
        """The whole, around the tree of its value."""
        sizes = [len(buffer) for buffer in self._buffers]
        raw = json.dumps({"sizes": sizes, "tree": tree}, separators=(",", ":"), allow_nan=False).encode("ascii")
        if PREFIX.size + len(raw) + sum(sizes) > self._max_size:
            self._too_large()
        if not is_moderate(raw):
            raise RefusedError(TOO_MANY)
        return b"".join((PREFIX.pack(MAGIC, len(raw)), raw, *self._buffers))

    def charge(self, size: int) -> None:
        """Count bytes before they are made. Raises RefusedError."""
        self._left -= size
        if self._left < 0:
            self._too_large()

    def count_table(self) -> None:
        """Count a column or an index. Raises RefusedError."""
        self._tables -= 1
        if self._tables < 0:
            raise RefusedError(MANY_TABLES)

    def _too_large(self) -> NoReturn:
        size = self._max_size / 2**20
        raise RefusedError(
            f"is too large: more than {size:.4g} MiB; raise max_size (--max-transfer), or send less of it"
        )

    def buffer(self, data: bytes | memoryview) -> int:
        """Keep a buffer; its number."""
        self._buffers.append(data)
        return len(self._buffers) - 1

    def node(self, value: Any) -> Any:
        """A value as a node of the tree. Raises RefusedError."""
        self._items -= 1
        self.charge(2)
        if self._items < 0:
            raise RefusedError(TOO_MANY)
        if value is None or value is True or value is False:
            return value
        method = _EXACT.get(type(value)) or _method(value)
        return method(self, value)

    def nodes(self, owner: object, values: Iterable[Any], segments: Iterator[str] | None = None) -> list[Any]:
        """The nodes of what ``owner`` holds; ``segments`` tells how each is written in a path."""
        mark = id(owner)
        if mark in self._open:
            raise RefusedError("contains itself")
        if len(self._open) >= MAX_DEPTH:
            raise RefusedError(f"is nested more than {MAX_DEPTH} levels deep; make it flatter")
        self._open.add(mark)
        nodes: list[Any] = []
        try:
            for value in values:
                nodes.append(self.node(value))
        except RefusedError as error:
            done = len(nodes)
            raise error.within(f"[{done}]" if segments is None else next(islice(segments, done, None))) from None
        finally:
            self._open.discard(mark)
        return nodes

    def _text(self, value: str) -> Any:
        self.charge(len(value))
        if len(value) < LONG_TEXT:
            return str.__str__(value)
        raw = value.encode("utf-8", "surrogatepass")
        self.charge(len(raw) - len(value))
        return {"str": self.buffer(raw)}

    def _integer(self, value: int) -> Any:
        if -(2**63) <= value < 2**63:
            return int(value)
        self.charge(value.bit_length() // 4)
        return {"int": hex(value)}

    def _real(self, value: float) -> Any:
        value = float(value)
        return value if abs(value) < _INFINITY else {"float": repr(value)}

    def _complex(self, value: complex) -> Any:
        return {"complex": [self._real(value.real), self._real(value.imag)]}

    def _bytes(self, value: Any) -> Any:
        view = memoryview(value)
        self.charge(view.nbytes)
        return {"bytes": self.buffer(bytes(view))}

    def _list(self, value: Any) -> Any:
        return self.nodes(value, value)

    def _tuple(self, value: Any) -> Any:
        return {"tuple": self.nodes(value, value)}

    def _set(self, value: Any) -> Any:
        return {"set": self.nodes(value, value, repeat(" has an element that"))}

    def _frozenset(self, value: Any) -> Any:
        return {"frozenset": self.nodes(value, value, repeat(" has an element that"))}

    def _dict(self, value: Any) -> Any:
        items = list(dict.items(value))
        keys = self.nodes(value, (key for key, _ in items), repeat(" has a key that"))
        values = self.nodes(value, (item for _, item in items), (key_segment(key) for key, _ in items))
        return {"dict": [keys, values]}

    def _dataclass(self, value: Any) -> Any:
        names = [field.name for field in dataclasses.fields(value)]
        values = (getattr(value, name, None) for name in names)
        return {"dict": [names, self.nodes(value, values, (f".{name}" for name in names))]}

    def _datetime(self, value: datetime) -> Any:
        return {"datetime": [value.replace(tzinfo=None).isoformat(), zone_node(value.tzinfo), value.fold]}

    def _date(self, value: date) -> Any:
        return {"date": value.isoformat()}

    def _time(self, value: time) -> Any:
        return {"time": [value.replace(tzinfo=None).isoformat(), zone_node(value.tzinfo), value.fold]}

    def _timedelta(self, value: timedelta) -> Any:
        return {"timedelta": [value.days, value.seconds, value.microseconds]}

    def _decimal(self, value: Decimal) -> Any:
        text = str(value)
        self.charge(len(text))
        return {"decimal": text}

    def _fraction(self, value: Fraction) -> Any:
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
            raise RefusedError(f"has more than {MAX_BITS:,} bits; send its numerator and its denominator")
        return {"fraction": [self._integer(value.numerator), self._integer(value.denominator)]}

    def _uuid(self, value: UUID) -> Any:
        return {"uuid": value.hex}

    def _path(self, value: PurePath) -> Any:
        return self._text(str(value))


_EXACT: dict[type, Callable[[Encoder, Any], Any]] = {
    int: Encoder._integer, float: Encoder._real, complex: Encoder._complex, str: Encoder._text,
    bytes: Encoder._bytes, bytearray: Encoder._bytes, memoryview: Encoder._bytes,
    list: Encoder._list, tuple: Encoder._tuple, set: Encoder._set,
    frozenset: Encoder._frozenset, dict: Encoder._dict, datetime: Encoder._datetime, date: Encoder._date,
    time: Encoder._time, timedelta: Encoder._timedelta, Decimal: Encoder._decimal, Fraction: Encoder._fraction,
    UUID: Encoder._uuid,
}  # fmt: skip
"""Their order counts: a datetime is a date."""


def _method(value: Any) -> Callable[[Encoder, Any], Any]:
    """How to encode a value whose class is none of ours. Raises RefusedError if there is no way."""
    if isinstance(value, enum.Enum):
        raise RefusedError(
            f"is a member of the enum {class_name(value)}, and no class crosses; send its .value or .name"
        )
    if any(name in sys.modules for name in ("numpy", "pandas")):
        from agent_executor import arrays

        method = arrays.method(value)
        if method is not None:
            return method
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return Encoder._dataclass
    # Where a value is a path this has been loaded, and only there: it would take a tenth of an agent's box to load.
    if "pathlib" in sys.modules and isinstance(value, sys.modules["pathlib"].PurePath):
        return Encoder._path
    for kind, method in _EXACT.items():
        if isinstance(value, kind):  # a subclass arrives as its base: no class crosses
            return method
    raise RefusedError(_why_not(value))


def _why_not(value: object) -> str:
    """Why a value cannot cross, and what to do instead."""
    if isinstance(value, type):
        return "is a class; code does not cross: define it in the cell that uses it"
    if isinstance(value, types.ModuleType):
        return "is a module; import it in the cell that uses it"
    if callable(value) and hasattr(value, "__name__"):
        return "is a function; code does not cross: define it in the cell that uses it"
    what = f"is of the class {class_name(value)}, and only plain data crosses"
    if isinstance(value, (range, Iterator)):
        return f"{what}; make a list of it: list(...)"
    for name, advice in (
        ("to_pandas", "use its .to_pandas()"),
        ("model_dump", "use its .model_dump()"),
        ("toarray", "use its .toarray()"),
        ("__array__", "use numpy.asarray(...)"),
        ("keys", "make a dict of it: dict(...)"),
        ("__iter__", "make a list of it: list(...)"),
        ("read", "read it, and send what it holds"),
    ):
        if hasattr(type(value), name):
            return f"{what}; {advice}"
    return f"{what}; send a dict of what you need of it"
