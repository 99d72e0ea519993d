"""Bytes as a value, in the format of :mod:`agent_executor.values`.

The reader treats what it reads as hostile: no name in it is imported or called, nothing is unpickled or inflated, and
sizes, counts and depth are checked before memory is taken for them; so is what a few bytes stand for (a range, an axis
beside one of length 0). Anything wrong is a ValueError.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from agent_executor.values import (
    MAGIC,
    MANY_TABLES,
    MAX_BITS,
    MAX_DEPTH,
    MAX_SIZE,
    MAX_TABLES,
    PREFIX,
    TOO_MANY,
    fields,
    is_count,
    is_moderate,
    only_item,
    text_of,
    zone_of,
)

MAX_COLLISIONS = 100
"""Keys of one dict with the same hash: more would be an attack on its speed."""

_HEX = re.compile(r"-?0x[0-9a-f]+")


def decode(data: bytes | bytearray | memoryview, max_size: int = MAX_SIZE) -> Any:
    """The value in bytes that :func:`agent_executor.encoder.encode` made, or that somebody hostile did.

    Args:
        max_size: bytes that what the data stands for, without holding it, may take.

    Raises:
        ValueError: they hold no value, or one that is not supported here.
    """
    decoder = Decoder(memoryview(data).toreadonly(), max_size)
    try:
        return decoder.value()
    except ValueError:
        raise
    except Exception as error:  # whatever hostile content makes a constructor raise
        raise ValueError(f"the data holds no value: {type(error).__name__}") from None


class Decoder:
    """Reads one encoding."""

    def __init__(self, data: memoryview, max_size: int = MAX_SIZE) -> None:
        self._left = max_size
        self._tables = MAX_TABLES
        magic, length = PREFIX.unpack_from(data) if len(data) >= PREFIX.size else (b"", 0)
        if magic != MAGIC or length > len(data) - PREFIX.size:
            raise ValueError("the data is not an encoded value, or a part of one")
        start = PREFIX.size + length
        head = _load(bytes(data[PREFIX.size : start]))
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

    def charge(self, size: int) -> None:
        """Count bytes that the value will take and the data does not have, before they are taken."""
        self._left -= size
        if self._left < 0:
            raise ValueError("the value stands for more than max_size")

    def count_table(self) -> None:
        """Count a column or an index."""
        self._tables -= 1
        if self._tables < 0:
            raise ValueError(f"the value {MANY_TABLES}")

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


def _load(raw: bytes) -> Any:
    if not is_moderate(raw):
        raise ValueError(f"the value {TOO_MANY}")
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


def _integer(content: Any) -> int:
    if not _HEX.fullmatch(text_of(content)):
        raise ValueError("a long number is not one")
    return int(content, 16)


def _moment(kind: Any, content: Any) -> Any:
    text, zone, fold = fields(content, 3)
    return kind.fromisoformat(text_of(text)).replace(tzinfo=zone_of(zone), fold=fold)


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
