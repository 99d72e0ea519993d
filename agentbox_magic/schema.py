"""From a function's signature to the JSON schema of its arguments, as tool-calling APIs of language models take it."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union

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
        return {"enum": list(args)}
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


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _is_json(value: object) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))
