"""What callers give, checked in one place and before anything is sent.

Each function takes the argument's name, for the message, and what was given, and returns that in its one form. Another
type than expected is a TypeError, a value out of range a ValueError; either says in one line what to give instead.
Numbers may be text, as command lines and environment variables have them.
"""

from __future__ import annotations

import enum
import inspect
import json
import keyword
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Number
from pathlib import Path, PurePath
from typing import NoReturn

MAX_SECONDS = 10**9
"""The longest deadline and the longest lifetime: thirty years."""
MAX_WORD = 128 * 1024 - 1
"""Bytes of a command, and of a variable with its name: the kernel takes no longer ones (``MAX_ARG_STRLEN``)."""
MAX_PATH = 4095
"""Bytes of a path (``PATH_MAX``)."""
MAX_ENVS = 48 * 1024
"""Bytes of all variables that one run may be given, as JSON: they go in the header of its request."""


class Deadline(enum.Enum):
    """A deadline that nobody has said: a box's runs have the box's own."""

    OF_BOX = "the box's own"

    def __repr__(self) -> str:
        return "<the box's own>"


OF_BOX = Deadline.OF_BOX

_SECONDS = "a number of seconds, such as 30, or 0 or None for no deadline"


def shown(value: object) -> str:
    """A value in a message: one line, and not a long one.

    >>> shown("a\\nb"), len(shown("x" * 1000))
    ("'a\\\\nb'", 60)
    """
    try:
        text = " ".join(repr(value).split())
    except Exception:  # whatever a class of the caller's does, or an int of too many digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def plain(value: object) -> str:
    """As :func:`shown`, but as it would be on a command line: text without its quotes, no more digits than it takes.

    >>> plain("many"), plain(5), plain(-1.0)
    ('many', '5', '-1')
    """
    if type(value) is float:
        return f"{value:g}"
    return shown(value)[1:-1] if type(value) is str and len(value) < 50 else shown(value)


def _wrong_type(name: str, value: object, form: str) -> NoReturn:
    """
    >>> _wrong_type("code", 5, "text")
    Traceback (most recent call last):
        ...
    TypeError: code is 5, of type int; give text
    """
    raise TypeError(f"{name} is {shown(value)}, of type {type(value).__name__}; give {form}")


def number(name: str, value: object, form: str) -> float:
    """A finite number: an int, a float, a Decimal, one of NumPy's, or text.

    >>> number("cpus", "0.5", "a number of cores")
    0.5
    >>> number("cpus", "many", "a number of cores, such as 2")
    Traceback (most recent call last):
        ...
    ValueError: cpus many is not a number; give a number of cores, such as 2
    """
    if isinstance(value, bool) or not isinstance(value, (str, Number)):
        _wrong_type(name, value, form)
    try:
        found = float(value)  # type: ignore[arg-type]  # a complex number has none, which is caught
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"{name} {plain(value)} is not a number; give {form}")
    return found


def whole(name: str, value: object, least: int, most: int, form: str) -> int:
    """A whole number within bounds.

    >>> whole("port", "8080", 1, 65535, "a whole number from 1 to 65535")
    8080
    >>> whole("port", 0.5, 1, 65535, "a whole number from 1 to 65535")
    Traceback (most recent call last):
        ...
    ValueError: port 0.5 is out of range; give a whole number from 1 to 65535
    """
    found = number(name, value, form)
    if found != int(found) or not least <= found <= most:
        raise ValueError(f"{name} {plain(value)} is out of range; give {form}")
    return int(found)


def seconds(name: str, value: object) -> float | None:
    """A deadline; 0 and None are none.

    >>> seconds("timeout", "1.5"), seconds("timeout", 0), seconds("timeout", None)
    (1.5, None, None)
    >>> seconds("timeout", -1)
    Traceback (most recent call last):
        ...
    ValueError: timeout -1 is out of range; give a number of seconds, such as 30, or 0 or None for no deadline
    """
    if value is None:
        return None
    found = number(name, value, _SECONDS)
    if not 0 <= found <= MAX_SECONDS:
        raise ValueError(f"{name} {plain(value)} is out of range; give {_SECONDS}")
    return found or None


def duration(name: str, value: object) -> float:
    """A time that passes.

    >>> duration("lifetime", 3600)
    3600.0
    >>> duration("lifetime", 0)
    Traceback (most recent call last):
        ...
    ValueError: lifetime 0 is out of range; give a number of seconds above 0, such as 3600
    """
    form = "a number of seconds above 0, such as 3600"
    found = number(name, value, form)
    if not 0 < found <= MAX_SECONDS:
        raise ValueError(f"{name} {plain(value)} is out of range; give {form}")
    return found


def patience(name: str, value: object) -> float | None:
    """How long somebody waits, who may go on waiting afterwards: 0 is to look, None is for as long as it takes.

    >>> patience("timeout", 0), patience("timeout", None)
    (0.0, None)
    """
    if value is None:
        return None
    form = "a number of seconds, 0 to look only, or None for as long as it takes"
    found = number(name, value, form)
    if not 0 <= found <= MAX_SECONDS:
        raise ValueError(f"{name} {plain(value)} is out of range; give {form}")
    return found


def text(name: str, value: object, form: str = "text") -> str:
    """Text that is UTF-8: code may hold anything else.

    >>> text("code", b"1 + 1")
    Traceback (most recent call last):
        ...
    TypeError: code is b'1 + 1', of type bytes; give text
    >>> text("code", "\\ud800")
    Traceback (most recent call last):
        ...
    ValueError: code holds '\\ud800', half of a surrogate pair, which is no character; give text
    """
    if not isinstance(value, str):
        _wrong_type(name, value, form)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = shown(value[error.start])
        raise ValueError(f"{name} holds {half}, half of a surrogate pair, which is no character; give {form}") from None
    return value


def word(name: str, value: object, form: str = "text") -> str:
    """Text that the kernel takes as one argument: a command, a variable.

    >>> word("cmd", "ls -l")
    'ls -l'
    >>> word("cmd", "ls\\0")
    Traceback (most recent call last):
        ...
    ValueError: cmd holds a NUL character, which the kernel does not take; give text
    """
    found = text(name, value, form)
    if "\0" in found:
        raise ValueError(f"{name} holds a NUL character, which the kernel does not take; give {form}")
    if len(found.encode()) > MAX_WORD:
        raise ValueError(f"{name} is longer than the {MAX_WORD:,} bytes that the kernel takes; put it into a file")
    return found


def optional(name: str, value: object, form: str) -> str | None:
    """Text, or None.

    >>> optional("image", None, "the name of an image, or None") is None
    True
    """
    return None if value is None else word(name, value, form)


def path(name: str, value: object) -> str:
    """A path in a box. What the box's own listing says of a name that is not UTF-8 is taken too.

    >>> path("path", Path("/workspace") / "a")
    '/workspace/a'
    >>> path("path", 5)
    Traceback (most recent call last):
        ...
    TypeError: path is 5, of type int; give a path as text or pathlib.Path
    """
    form = "a path as text or pathlib.Path"
    found = value.as_posix() if isinstance(value, PurePath) else value
    if isinstance(found, os.PathLike):
        found = os.fspath(found)
    if not isinstance(found, str):
        _wrong_type(name, value, form)
    try:
        found.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError(f"{name} {plain(value)} is not UTF-8; give {form}") from None
    if "\0" in found:
        raise ValueError(f"{name} {plain(value)} holds a NUL character, which no path does; give {form}")
    if len(found.encode("utf-8", "surrogateescape")) > MAX_PATH:
        raise ValueError(f"{name} {plain(value)} is longer than the {MAX_PATH:,} bytes that a path may have")
    return found


def local(name: str, value: object) -> Path:
    """A path on this machine.

    >>> local("local", "a").name
    'a'
    """
    form = "a path as text or pathlib.Path"
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        _wrong_type(name, value, form)
    found = Path(value)
    if "\0" in str(found):
        raise ValueError(f"{name} {plain(value)} holds a NUL character, which no path does; give {form}")
    return found


def environment(name: str, value: object, most: int | None = None) -> dict[str, str]:
    """Environment variables; None are none. With ``most`` at most so many bytes of them.

    >>> environment("env", {"PORT": "8080"}), environment("env", None)
    ({'PORT': '8080'}, {})
    >>> environment("env", {"PORT": 8080})
    Traceback (most recent call last):
        ...
    TypeError: env['PORT'] is 8080, of type int; give text, such as '8080'
    >>> environment("env", {"A=B": "1"})
    Traceback (most recent call last):
        ...
    ValueError: env has the name 'A=B'; give names that are not empty and without "="
    """
    found = labels(name, value)
    if not found:  # as in nearly every run
        return found
    for one, content in found.items():
        if not one or "=" in one:
            raise ValueError(f'{name} has the name {shown(one)}; give names that are not empty and without "="')
        word(f"{name}[{shown(one)}]", f"{one}={content}")
    size = len(json.dumps(found)) if most is not None else 0
    if most is not None and size > most:
        raise ValueError(f"{name} has {size:,} bytes, more than {most:,}; put what is long into a file of the box")
    return found


def labels(name: str, value: object) -> dict[str, str]:
    """Text by name; None is nothing.

    >>> labels("metadata", {"owner": "fox"})
    {'owner': 'fox'}
    >>> labels("metadata", 5)
    Traceback (most recent call last):
        ...
    TypeError: metadata is 5, of type int; give a dict of text, such as {'NAME': 'value'}
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        _wrong_type(name, value, "a dict of text, such as {'NAME': 'value'}")
    found = {}
    for one, content in value.items():
        if not isinstance(one, str):
            raise TypeError(f"{name} has the name {shown(one)}, of type {type(one).__name__}; give names as text")
        if not isinstance(content, str):
            _wrong_type(f"{name}[{shown(one)}]", content, f"text, such as {shown(_quoted(content))}")
        text(f"{name}[{shown(one)}]", one + content)
        found[one] = content
    return found


def _quoted(value: object) -> str:
    return str(value) if isinstance(value, (int, float)) else "value"


def flag(name: str, value: object) -> bool:
    """True or False, and nothing that merely counts as one of them: ``"no"`` would be true.

    >>> flag("detach", "no")
    Traceback (most recent call last):
        ...
    TypeError: detach is 'no', of type str; give True or False
    """
    if not isinstance(value, bool):
        _wrong_type(name, value, "True or False")
    return value


def choice(name: str, value: object, known: Sequence[str]) -> str:
    """One of some words.

    >>> choice("format", "json", ("text", "bytes"))
    Traceback (most recent call last):
        ...
    ValueError: format 'json' is not known; give text or bytes
    """
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} {shown(value)} is not known; give {' or '.join(known)}")
    return value


def callback(name: str, value: object) -> None:
    """A function that is called here, or None.

    >>> callback("on_stdout", print)
    >>> callback("on_stdout", "print")
    Traceback (most recent call last):
        ...
    TypeError: on_stdout is 'print', of type str; give a function, or None
    """
    if value is None:
        return
    if not callable(value):
        _wrong_type(name, value, "a function, or None")
    if inspect.iscoroutinefunction(value):
        raise TypeError(f"{name} is a coroutine function, which nobody would await; give an ordinary function")


def context(value: object) -> str:
    """Where code keeps its state: what ``create_code_context`` gives, or its id; None is the default one.

    >>> context(None), context("context:0123")
    ('default', 'context:0123')
    """
    found = "default" if value is None else getattr(value, "id", value)
    return name_of("context", found, "what create_code_context() gives, or its id")


def name_of(name: str, value: object, form: str) -> str:
    """A name of something: text, and not a long one.

    >>> name_of("language", "bash", "the name of a language, such as python")
    'bash'
    """
    found = word(name, value, form)
    if len(found) > 1000:
        raise ValueError(f"{name} {shown(value)} is no name; give {form}")
    return found


def names(name: str, value: object) -> list[str]:
    """Names of variables: one, or several.

    >>> names("names", "x"), names("names", ("x", "y"))
    (['x'], ['x', 'y'])
    >>> names("names", ["x y"])
    Traceback (most recent call last):
        ...
    ValueError: names: 'x y' is no name of a variable
    """
    form = "the name of a variable, or a list of them"
    if isinstance(value, str):
        value = [value]
    elif not isinstance(value, Iterable):
        _wrong_type(name, value, form)
    found = list(value)
    for one in found:
        if not isinstance(one, str):
            raise TypeError(f"{name} has the name {shown(one)}, of type {type(one).__name__}; give names as text")
        if not one.isidentifier() or keyword.iskeyword(one):
            raise ValueError(f"{name}: {shown(one)} is no name of a variable")
    return found


def texts(name: str, value: object, form: str) -> list[str]:
    """A list of texts.

    >>> texts("packages", ("polars",), "a list of names")
    ['polars']
    >>> texts("packages", [5], "a list of names")
    Traceback (most recent call last):
        ...
    TypeError: packages has 5, of type int; give a list of names
    """
    if not isinstance(value, Iterable):
        _wrong_type(name, value, form)
    found = list(value)
    for one in found:
        if not isinstance(one, str):
            raise TypeError(f"{name} has {shown(one)}, of type {type(one).__name__}; give {form}")
    return found
