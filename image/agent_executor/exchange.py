"""Values in and out of a context's namespace, in the worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agent_executor import decoder, encoder, values
from agent_executor.streams import encode_error
from agent_executor.wire import MAX_BODY, Header

if TYPE_CHECKING:
    from agent_executor.worker import Control


def collect(control: Control) -> bytearray | None:
    """What the host pushes, piece by piece, each answered so that another may come; None if it gives up."""
    data = bytearray()
    while True:
        header, piece = control.receive()
        data += piece
        if header.get("eof"):
            return None if header.get("abort") else data
        control.reply({"type": "ack"})


def push(control: Control, namespace: dict[str, Any] | None, data: bytearray | None, max_size: int) -> Header:
    """Put values into the namespace."""
    try:
        if data is not None:
            _checked(namespace).update(decoder.decode(data, max_size))
    except Exception as error:  # whatever a value may need and this image lacks
        return _failed(control, error)
    return {"status": "ok"}


def pull(control: Control, namespace: dict[str, Any] | None, payload: bytes, max_size: int) -> Header:
    """Send the values of some names of the namespace."""
    try:
        names, known = json.loads(payload), _checked(namespace)
        missing = [name for name in names if name not in known]
        if missing:
            which = ", ".join(missing)
            raise ValueError(f"there is no {which} in the box; assign it there, or do not ask for it")
        data = encoder.encode_namespace({name: known[name] for name in names}, max_size=max_size)
    except Exception as error:  # a value's own class may raise anything when it is looked at
        return _failed(control, error)
    for start in range(0, len(data), MAX_BODY):
        control.tell({"type": "data"}, data[start : start + MAX_BODY])
    return {"status": "ok"}


def _checked(namespace: dict[str, Any] | None) -> dict[str, Any]:
    if namespace is None:
        raise ValueError("values cross to and from Python only; name a context whose language is python")
    return namespace


def _failed(control: Control, error: Exception) -> Header:
    text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    control.tell({"type": "error"}, encode_error(values.ERROR, text, ""))
    return {"status": "error"}
