"""From a function's signature to the JSON schema of its arguments, as tool-calling APIs of language models take it; and
whether JSON keeps to it.

An ``int`` is a number without a point: JSON Schema calls 1.0 an integer too, and a function that asked for an int would
get a float. Nor is anything read that other readers of JSON refuse or take for something else.
"""

from __future__ import annotations

import inspect
import json
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, NoReturn, Union

MAX_DIGITS = 100
"""Of a whole number: reading it takes time that grows with the square of its length."""

_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
    object: {},
    list: {"type": "array"},
    tuple: {"type": "array"},
    dict: {"type": "object"},
}


def of_type(hint: Any) -> dict[str, Any]:
    """The schema of a type hint.

    >>> of_type(list[int])
    {'type': 'array', 'items': {'type': 'integer'}}

    Raises:
        TypeError: JSON has no such type.
    """
    if hint in (None, inspect.Parameter.empty):
        return {"type": "null"} if hint is None else {}
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is None and isinstance(hint, typing.Hashable) and hint in _PLAIN:
        return dict(_PLAIN[hint])
    if origin is Literal:
        kinds = {type(arg): _PLAIN[type(arg)]["type"] for arg in args if type(arg) in (str, int, bool, type(None))}
        if not all(type(arg) in kinds for arg in args):
            raise TypeError(f"JSON cannot carry {hint!r}; use Literal of str, int, bool and None")
        names = list(kinds.values())
        return {"enum": list(args), "type": names[0] if len(names) == 1 else names}
    if origin in (Union, types.UnionType):
        return {"anyOf": [of_type(arg) for arg in args]}
    if origin in (list, Sequence):
        return {"type": "array", "items": of_type(args[0])}
    if origin is tuple:
        items = {"items": of_type(args[0])} if len(args) == 2 and args[1] is Ellipsis else {}
        return {"type": "array", **items}
    if origin in (dict, Mapping) and args[0] is str:
        return {"type": "object", "additionalProperties": of_type(args[1])}
    if typing.is_typeddict(hint):
        hints = typing.get_type_hints(hint)
        return _object({name: of_type(one) for name, one in hints.items()}, sorted(hint.__required_keys__))
    raise TypeError(f"JSON cannot carry {hint!r}; use str, int, float, bool, None, list, dict or TypedDict")


def of_arguments(function: Callable[..., Any]) -> dict[str, Any]:
    """The schema of a function's arguments, by name.

    >>> def search(query: str, limit: int = 10) -> list[str]: ...
    >>> of_arguments(search)["required"]
    ['query']

    Raises:
        TypeError: a parameter has a type that JSON cannot carry, or may only be given by position.
    """
    hints = typing.get_type_hints(function)
    properties, required, rest = {}, [], False
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise TypeError(f"parameter {name} has no name to call it by; a tool's arguments go by name")
        if parameter.kind is parameter.VAR_KEYWORD:
            rest = True
            continue
        try:
            properties[name] = of_type(hints.get(name, parameter.annotation))
        except TypeError as error:
            raise TypeError(f"parameter {name}: {error}") from None
        if parameter.default is parameter.empty:
            required.append(name)
        elif properties[name] is not None and _is_json(parameter.default):
            properties[name]["default"] = parameter.default
    schema = _object(properties, required)
    if rest:
        schema["additionalProperties"] = True
    return schema


def of_result(function: Callable[..., Any]) -> dict[str, Any]:
    """The schema of what it returns, or of each item that it yields; ``{}`` if it does not say.

    >>> def answers() -> typing.Iterator[str]: yield ""
    >>> of_result(answers)
    {'type': 'string'}
    """
    hint = typing.get_type_hints(function).get("return", inspect.Parameter.empty)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        args = typing.get_args(hint)
        hint = args[0] if args else inspect.Parameter.empty
    return of_type(hint)


def load(raw: bytes) -> Any:
    """JSON as any reader takes it: no NaN or Infinity, no number that a float cannot hold, no key twice, no half of a
    surrogate pair, whole numbers of at most :data:`MAX_DIGITS` digits.

    >>> load(b'{"n": [1, 2.5]}')
    {'n': [1, 2.5]}
    >>> load(b'{"n": 1e400}')
    Traceback (most recent call last):
    ValueError: 1e400 is more than a number can be

    Raises:
        ValueError: it is none of that; the message says what is wrong.
    """
    try:
        value = json.loads(
            raw.decode(), parse_constant=_no_constant, parse_int=_integer, parse_float=_number, object_pairs_hook=_once
        )
        if b"\\ud" in raw or b"\\uD" in raw:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except UnicodeEncodeError:
        raise ValueError("it has text with half of a surrogate pair, which is no character") from None
    return value


def fault(schema: dict[str, Any], value: Any) -> str:
    """What is wrong with a value, and where; empty if it is as the schema says.

    >>> fault({"type": "integer"}, 1.0)
    "1.0 is not of type 'integer'"
    """
    try:
        error = next(_validator()(schema).iter_errors(value), None)
    except RecursionError:
        return "nested too deeply"
    if error is None:
        return ""
    where = ".".join(map(str, error.path))
    return f"{where[:200]}: {error.message[:200]}" if where else str(error.message[:200])


@cache
def _validator() -> Any:
    import jsonschema  # here: it takes a while, and most agents have no tools

    kinds = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=kinds)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has {len(text):,} digits, more than {MAX_DIGITS}; send it as text")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is more than a number can be")
    return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _is_json(value: object) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))
