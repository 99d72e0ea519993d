"""Values that cross between host and box, as the host sees them: what comes out of a box is hostile.

The format is :mod:`agent_executor.values`, and all its checks are in :mod:`agent_executor.decoder`; both ends use them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_executor import decoder, encoder, values
from agentbox_magic import arguments
from agentbox_magic.errors import TransferError
from agentbox_magic.limits import format_size
from agentbox_magic.text import clean_traceback

MAX_SIZE = values.MAX_SIZE
"""Bytes of an encoding that cross at most, unless the caller says otherwise: 64 MiB."""


def encode(value: object, max_size: int = MAX_SIZE, *, name: str = "value") -> bytes:
    """A value as bytes.

    Raises:
        TransferError: it cannot cross; the message says where in it, why, and what to do instead.
    """
    try:
        return encoder.encode(value, name=name, max_size=max_size)
    except ValueError as error:
        raise TransferError(str(error)) from None


def encode_namespace(named: Mapping[str, object], max_size: int = MAX_SIZE) -> bytes:
    """Named values as the bytes of one dict. Raises as :func:`encode`, and ValueError for a name that is none."""
    arguments.names("values", named)
    try:
        return encoder.encode_namespace(named, max_size=max_size)
    except ValueError as error:
        raise TransferError(str(error)) from None


def decode(data: bytes | bytearray, max_size: int = MAX_SIZE) -> Any:
    """The value in bytes from a box.

    Raises:
        TransferError: they are too many, or stand for more, or hold no value, or one that needs a package which is not
            installed here.

    Example:
        >>> decode(encode({"score": 0.5}))
        {'score': 0.5}
    """
    if len(data) > max_size:
        raise TransferError(f"the value has {format_size(len(data))}, more than max_size {format_size(max_size)}")
    try:
        return decoder.decode(data, max_size)
    except ValueError as error:
        raise TransferError(clean_traceback(f"what came from the box cannot be taken: {error}")) from None
