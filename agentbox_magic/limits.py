"""What a box may use: parsed, checked, printed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from numbers import Number

from agentbox_magic import arguments

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_NAMES = ("B", "KiB", "MiB", "GiB")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?", re.IGNORECASE)

MIN_MEM = 64 * 2**20
"""A box needs about 30 MiB for itself; below this, code has nothing left."""
MIN_PIDS = 4


def parse_size(text: str | int) -> int:
    """A size as ``docker run`` takes it, in bytes: a number with k, m, g or t (powers of 1024).

    >>> parse_size("512m"), parse_size("1.5g")
    (536870912, 1610612736)

    Raises:
        ValueError: the text is not a size.
    """
    match = _SIZE.fullmatch(str(text).strip())
    if not match or len(match[1]) > 20:  # beyond what any computer counts
        raise ValueError(f"{str(text)[:60]} is not a size; give a number with a unit, such as 512m or 2g")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def size_of(name: str, value: object) -> int:
    """:func:`parse_size` of an argument.

    >>> size_of("max_size", 1024)
    1024

    Raises:
        TypeError, ValueError: it is none; the message names the argument.
    """
    if isinstance(value, bool) or not isinstance(value, (str, Number)):
        said = f"{arguments.shown(value)}, of type {type(value).__name__}"
        raise TypeError(f"{name} is {said}; give a number with a unit, such as '512m' or '2g'")
    try:
        return parse_size(str(value))
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def format_size(size: float) -> str:
    """A size for people.

    >>> format_size(300 * 2**20), format_size(1536), format_size(2**31)
    ('300 MiB', '1.5 KiB', '2 GiB')
    """
    power = min(3, int(math.log(size, 1024))) if size >= 1 else 0
    number = size / 1024**power
    return f"{number:.3g} {_NAMES[power]}" if number < 1000 else f"{number:.0f} {_NAMES[power]}"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one box and of each run in it. :meth:`of` takes them as people write them.

    Attributes:
        mem: bytes of memory, tmpfs files included; there is no swap.
        cpus: cores, such as 0.5.
        pids: processes and threads together.
        timeout: seconds for one run; None for no deadline (which :meth:`of` takes 0 for, too).
        network: ``"none"``: loopback only.
    """

    mem: int = 512 * 2**20
    cpus: float = 1.0
    pids: int = 50
    timeout: float | None = 300.0
    network: str = "none"

    @classmethod
    def of(
        cls,
        mem: object = "512m",
        cpus: float | str = 1,
        pids: int | str = 50,
        timeout: float | str | None = 300,
        network: str = "none",
    ) -> Limits:
        """Check and convert.

        >>> Limits.of(mem="300m", cpus=0.5).mem
        314572800

        Raises:
            TypeError, ValueError: a value that no box can have; the message has the accepted form.
        """
        size = size_of("mem", mem)
        if size > 2**60:
            raise ValueError(f"mem {arguments.plain(mem)} is out of range; give what a machine has, such as 512m")
        if size < MIN_MEM:
            raise ValueError(f"mem {mem} is too little; a box needs at least {MIN_MEM // 2**20}m, such as 512m")
        cores = arguments.number("cpus", cpus, "a number of cores above 0, such as 0.5 or 2")
        if not 0.01 <= cores <= 4096:
            raise ValueError(f"cpus {cpus} is out of range; give a number of cores from 0.01, such as 0.5 or 2")
        count = arguments.whole("pids", pids, MIN_PIDS, 2**22, f"a whole number from {MIN_PIDS}, such as 50")
        seconds = arguments.seconds("timeout", timeout)
        if network != "none":
            raise ValueError(f"network {arguments.plain(network)} is not known; the only network is none")
        return cls(mem=size, cpus=cores, pids=count, timeout=seconds, network=network)
