"""Values between host and box, as bytes: what a notebook cell takes in and gives back.

One byte string is ``b"ABV1", u32 length, head, buffers``. The head is JSON: the sizes of the buffers, and a tree. In
the tree, what JSON has stands for itself (null, true, numbers, text, lists), and an object is always ``{tag: content}``
for what JSON lacks. Long text, bytes and arrays are in the buffers. :mod:`agent_executor.arrays` has the tags of NumPy
and pandas.

:mod:`agent_executor.encoder` writes it, :mod:`agent_executor.decoder` reads it; here is what those three share.
"""

from __future__ import annotations

import re
import struct
from datetime import timedelta, timezone, tzinfo
from functools import cache
from typing import TYPE_CHECKING, Any

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
MAX_TABLES = 50_000
"""Columns and indexes of tables in one value: each costs a thousand bytes and more, however little is in it."""
MAX_BITS = 2**16
"""Longest numerator and denominator of a fraction: making one takes time that grows with the square."""
ERROR = "TransferError"
"""The name, on the wire, of the error that a value cannot cross."""
MAGIC = b"ABV1"
PREFIX = struct.Struct("!4sI")
_TEXTS = re.compile(rb'"[^"]*"')  # here, or each worker would compile it
MANY_TABLES = f"has more than {MAX_TABLES:,} columns and indexes; put it into one NumPy array"
TOO_MANY = f"holds more than {MAX_ITEMS:,} values; put numbers into a NumPy array, records into a DataFrame"


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


def class_name(value: object) -> str:
    """How a value's class is written."""
    kind = type(value)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    return name[:100]


def is_moderate(raw: bytes) -> bool:
    """Whether JSON has few enough parts to be parsed; what is inside its texts does not count."""
    bare = raw.replace(b"\\\\", b"").replace(b'\\"', b"")  # every quote that is left begins or ends a text
    if bare.count(b'"') > 4 * MAX_PARTS:
        return False
    bare = _TEXTS.sub(b"", bare)
    return sum(map(bare.count, (b",", b"[", b"{"))) <= MAX_PARTS


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


def zone_node(zone: tzinfo | None) -> Any:
    """A time zone: None, microseconds from UTC, or a name. Raises RefusedError."""
    if zone is None:
        return None
    if isinstance(zone, timezone):
        return zone.utcoffset(None) // timedelta(microseconds=1)
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)  # zoneinfo's, pytz's
    if isinstance(name, str):
        return name
    raise RefusedError(f"has a time zone of the class {class_name(zone)}; use zoneinfo.ZoneInfo or datetime.timezone")


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
