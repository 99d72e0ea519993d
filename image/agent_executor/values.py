"""Values between host and box, as bytes: what a notebook cell takes in and gives back.

One byte string is ``b"ABV1", u32 length, head, buffers``. The head is JSON: the sizes of the buffers, and a tree. In
the tree, what JSON has stands for itself (null, true, numbers, text, lists), and an object is always ``{tag: content}``
for what JSON lacks. Long text, bytes and arrays are in the buffers. :mod:`agent_executor.arrays` has the tags of NumPy
and pandas.

The reader treats what it reads as hostile: no name in it is imported or called, nothing is unpickled or inflated, and
sizes, counts and depth are checked before memory is taken for them. Anything wrong is a ValueError.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
import struct
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import islice, repeat
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

if TYPE_CHECKING:
    from typing import TypeGuard  # not in Python 3.9

MAX_SIZE = 64 * 2**20
"""Longest encoding, in bytes, unless the caller says otherwise."""
MAX_ITEMS = 1_000_000
"""Values inside one value, rows of arrays and columns aside."""
MAX_PARTS = 3 * MAX_ITEMS
"""Commas, brackets and braces of a tree: each may cost a hundred bytes of memory."""
MAX_DEPTH = 100
"""Lists in lists."""
MAX_BITS = 2**16
"""Longest numerator and denominator of a fraction: making one takes time that grows with the square."""
ERROR = "TransferError"
"""The name, on the wire, of the error that a value cannot cross."""
LONG_TEXT = 1024
"""Text from here on is kept in a buffer."""
MAX_COLLISIONS = 100
"""Keys of one dict with the same hash: more would be an attack on its speed."""

_MAGIC = b"ABV1"
_PREFIX = struct.Struct("!4sI")
_TOO_MANY = f"holds more than {MAX_ITEMS:,} values; put numbers into a NumPy array, records into a DataFrame"
_INFINITY = float("inf")
_HEX = re.compile(r"-?0x[0-9a-f]+")


class RefusedError(Exception):
    """A value that cannot cross. The containers around it add where it was."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.path: list[str] = []

    def within(self, segment: str) -> RefusedError:
        """The same, one level further out."""
        self.path.insert(0, segment)
        return self


def key_segment(key: object) -> str:
    """How a key is written in the path to a value.

    >>> key_segment("a"), key_segment(3)
    ("['a']", '[3]')
    """
    try:
        text = repr(key)
    except Exception:  # a number too long for text, a class without one
        text = f"a {type(key).__name__}"
    return f"[{text}]" if len(text) <= 40 else f"[{text[:37]}...]"


def encode(value: object, *, name: str = "value", max_size: int = MAX_SIZE) -> bytes:
    """A value as bytes.

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


def decode(data: bytes | bytearray | memoryview) -> Any:
    """The value in bytes that :func:`encode` made, or that somebody hostile did.

    Raises:
        ValueError: they hold no value, or one that is not supported here.
    """
    decoder = Decoder(memoryview(data).toreadonly())
    try:
        return decoder.value()
    except ValueError:
        raise
    except Exception as error:  # whatever hostile content makes a constructor raise
        raise ValueError(f"the data holds no value: {type(error).__name__}") from None


class Encoder:
    """Builds one encoding."""

    def __init__(self, max_size: int) -> None:
        self._max_size = self._left = max_size
        self._items = MAX_ITEMS
        self._buffers: list[bytes | memoryview] = []
        self._open: set[int] = set()

    def finish(self, tree: object) -> bytes:
        """The whole, around the tree of its value."""
        sizes = [len(buffer) for buffer in self._buffers]
        raw = json.dumps({"sizes": sizes, "tree": tree}, separators=(",", ":"), allow_nan=False).encode("ascii")
        if _PREFIX.size + len(raw) + sum(sizes) > self._max_size:
            self._too_large()
        if not _is_moderate(raw):
            raise RefusedError(_TOO_MANY)
        return b"".join((_PREFIX.pack(_MAGIC, len(raw)), raw, *self._buffers))

    def charge(self, size: int) -> None:
        """Count bytes before they are made. Raises RefusedError."""
        self._left -= size
        if self._left < 0:
            self._too_large()

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
            raise RefusedError(_TOO_MANY)
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


def zone_node(zone: tzinfo | None) -> Any:
    """A time zone: None, microseconds from UTC, or a name. Raises RefusedError."""
    if zone is None:
        return None
    if isinstance(zone, timezone):
        return zone.utcoffset(None) // timedelta(microseconds=1)
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)  # zoneinfo's, pytz's
    if isinstance(name, str):
        return name
    raise RefusedError(f"has a time zone of the class {_class_name(zone)}; use zoneinfo.ZoneInfo or datetime.timezone")


_EXACT: dict[type, Callable[[Encoder, Any], Any]] = {
    int: Encoder._integer, float: Encoder._real, complex: Encoder._complex, str: Encoder._text,
    bytes: Encoder._bytes, bytearray: Encoder._bytes, memoryview: Encoder._bytes,
    list: Encoder._list, tuple: Encoder._tuple, set: Encoder._set,
    frozenset: Encoder._frozenset, dict: Encoder._dict, datetime: Encoder._datetime, date: Encoder._date,
    time: Encoder._time, timedelta: Encoder._timedelta, Decimal: Encoder._decimal, Fraction: Encoder._fraction,
    UUID: Encoder._uuid, PurePath: Encoder._path,
}  # fmt: skip
"""Their order counts: a datetime is a date."""


def _method(value: Any) -> Callable[[Encoder, Any], Any]:
    """How to encode a value whose class is none of ours. Raises RefusedError if there is no way."""
    if isinstance(value, enum.Enum):
        raise RefusedError(
            f"is a member of the enum {_class_name(value)}, and no class crosses; send its .value or .name"
        )
    if any(name in sys.modules for name in ("numpy", "pandas")):
        from agent_executor import arrays

        method = arrays.method(value)
        if method is not None:
            return method
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return Encoder._dataclass
    for kind, method in _EXACT.items():
        if isinstance(value, kind):  # a subclass arrives as its base: no class crosses
            return method
    raise RefusedError(_why_not(value))


def _class_name(value: object) -> str:
    kind = type(value)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    return name[:100]


def _why_not(value: object) -> str:
    """Why a value cannot cross, and what to do instead."""
    if isinstance(value, type):
        return "is a class; code does not cross: define it in the cell that uses it"
    if isinstance(value, types.ModuleType):
        return "is a module; import it in the cell that uses it"
    if callable(value) and hasattr(value, "__name__"):
        return "is a function; code does not cross: define it in the cell that uses it"
    what = f"is of the class {_class_name(value)}, and only plain data crosses"
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


class Decoder:
    """Reads one encoding."""

    def __init__(self, data: memoryview) -> None:
        magic, length = _PREFIX.unpack_from(data) if len(data) >= _PREFIX.size else (b"", 0)
        if magic != _MAGIC or length > len(data) - _PREFIX.size:
            raise ValueError("the data is not an encoded value, or a part of one")
        start = _PREFIX.size + length
        head = _load(bytes(data[_PREFIX.size : start]))
        sizes = head.get("sizes") if isinstance(head, dict) else None
        if not isinstance(sizes, list) or head.keys() != {"sizes", "tree"}:
            raise ValueError("the data has no list of sizes and a tree")
        self._tree = head["tree"]
        self._buffers: dict[int, memoryview] = {}
        for number, size in enumerate(sizes):
            if not is_count(size) or size > len(data) - start:
                raise ValueError("the sizes are not those of the data")
            self._buffers[number] = data[start : start + size]
            start += size
        if start != len(data):
            raise ValueError("the sizes are not those of the data")

    def value(self) -> Any:
        """The value. Raises ValueError and, where content is hostile, anything."""
        value = self.node(self._tree, 0)
        if self._buffers:
            raise ValueError("the data has buffers that no value uses")
        return value

    def buffer(self, number: object) -> memoryview:
        """A buffer, once: used often, one would be a bomb."""
        if not is_count(number) or number not in self._buffers:
            raise ValueError("the data names a buffer that is not there")
        return self._buffers.pop(number)

    def node(self, node: Any, depth: int) -> Any:
        """The value of a node of the tree."""
        if depth > MAX_DEPTH + 2:  # the parts of what the deepest list holds
            raise ValueError(f"the value is nested more than {MAX_DEPTH} levels deep")
        if isinstance(node, list):
            return [self.node(one, depth + 1) for one in node]
        if not isinstance(node, dict):
            return node
        tag, content = only_item(node)
        if tag in _TAGS:
            return _TAGS[tag](self, content, depth + 1)
        from agent_executor import arrays

        return arrays.decode(self, tag, content, depth + 1)

    def nodes(self, content: Any, depth: int) -> list[Any]:
        """The values of a list of nodes."""
        if not isinstance(content, list):
            raise ValueError("the data has no list where one should be")
        return [self.node(one, depth) for one in content]

    def unique(self, content: Any, depth: int) -> list[Any]:
        """Values that will be keys or elements: hashable, and not made to collide."""
        values = self.nodes(content, depth)
        if len(values) > MAX_COLLISIONS and max(Counter(map(hash, values)).values()) > MAX_COLLISIONS:
            raise ValueError("the value has keys that collide")
        return values

    def _dict(self, content: Any, depth: int) -> Any:
        keys, values = fields(content, 2)
        keys, values = self.unique(keys, depth), self.nodes(values, depth)
        if len(keys) != len(values):
            raise ValueError("a dict has more keys than values, or fewer")
        return dict(zip(keys, values))

    def _fraction(self, content: Any, depth: int) -> Fraction:
        numerator, denominator = self.nodes(fields(content, 2), depth)
        for number in (numerator, denominator):
            if type(number) is not int or number.bit_length() > MAX_BITS:
                raise ValueError("a fraction is not made of two whole numbers")
        return Fraction(numerator, denominator)

    def _complex(self, content: Any, depth: int) -> complex:
        real, imaginary = self.nodes(fields(content, 2), depth)
        return complex(real, imaginary)


def _is_moderate(raw: bytes) -> bool:
    """Whether JSON has few enough parts to be parsed; what is inside its texts does not count."""
    bare = raw.replace(b"\\\\", b"").replace(b'\\"', b"")  # every quote that is left begins or ends a text
    if bare.count(b'"') > 4 * MAX_PARTS:
        return False
    bare = re.sub(rb'"[^"]*"', b"", bare)
    return sum(map(bare.count, (b",", b"[", b"{"))) <= MAX_PARTS


def _load(raw: bytes) -> Any:
    if not _is_moderate(raw):
        raise ValueError(f"the value {_TOO_MANY}")
    try:
        return json.loads(raw.decode("ascii"), parse_int=_parse_int, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"the value is nested more than {MAX_DEPTH} levels deep") from None


def _parse_int(text: str) -> int:
    if len(text) > 20:  # the time it takes to read a longer one grows with the square of its length
        raise ValueError("a number is too long")
    return int(text)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def is_count(value: object) -> TypeGuard[int]:
    """Whether it is a whole number from 0.

    >>> is_count(0), is_count(True), is_count(-1)
    (True, False, False)
    """
    return type(value) is int and value >= 0


def only_item(node: Any) -> tuple[str, Any]:
    """Tag and content of a node."""
    if not isinstance(node, dict) or len(node) != 1:
        raise ValueError("the data has an object that is not one tag and its content")
    item: tuple[str, Any] = next(iter(node.items()))
    return item


def fields(content: Any, count: int) -> list[Any]:
    """A list of so many things."""
    if not isinstance(content, list) or len(content) != count:
        raise ValueError(f"the data has no {count} fields where they should be")
    return content


def text_of(content: Any) -> str:
    """Text, and nothing else."""
    if not isinstance(content, str):
        raise ValueError("the data has no text where it should be")
    return content


def _integer(content: Any) -> int:
    if not _HEX.fullmatch(text_of(content)):
        raise ValueError("a long number is not one")
    return int(content, 16)


def _moment(kind: Any, content: Any) -> Any:
    text, zone, fold = fields(content, 3)
    return kind.fromisoformat(text_of(text)).replace(tzinfo=zone_of(zone), fold=fold)


def zone_of(node: Any) -> tzinfo | None:
    """The time zone of a node."""
    if node is None:
        return None
    if type(node) is int:
        return timezone(timedelta(microseconds=node))
    if text_of(node) not in _zones():  # so that no name reaches the file system or the import system
        raise ValueError(f"there is no time zone {node[:40]!r} here; if it should be, pip install tzdata")
    from zoneinfo import ZoneInfo

    return ZoneInfo(node)


@cache
def _zones() -> set[str]:
    from zoneinfo import available_timezones

    return available_timezones()


_TAGS: dict[str, Callable[[Decoder, Any, int], Any]] = {
    "str": lambda decoder, content, depth: bytes(decoder.buffer(content)).decode("utf-8", "surrogatepass"),
    "int": lambda decoder, content, depth: _integer(content),
    "float": lambda decoder, content, depth: float(text_of(content)),
    "complex": Decoder._complex,
    "bytes": lambda decoder, content, depth: bytes(decoder.buffer(content)),
    "tuple": lambda decoder, content, depth: tuple(decoder.nodes(content, depth)),
    "set": lambda decoder, content, depth: set(decoder.unique(content, depth)),
    "frozenset": lambda decoder, content, depth: frozenset(decoder.unique(content, depth)),
    "dict": Decoder._dict,
    "datetime": lambda decoder, content, depth: _moment(datetime, content),
    "date": lambda decoder, content, depth: date.fromisoformat(text_of(content)),
    "time": lambda decoder, content, depth: _moment(time, content),
    "timedelta": lambda decoder, content, depth: timedelta(*fields(content, 3)),
    "decimal": lambda decoder, content, depth: Decimal(text_of(content)),
    "fraction": Decoder._fraction,
    "uuid": lambda decoder, content, depth: UUID(text_of(content)),
}
