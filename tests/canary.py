"""What tells that something was unpickled."""

from __future__ import annotations

from typing import Any

CANARY: list[str] = []


def sing() -> None:
    CANARY.append("unpickled")


class Canary:
    """Unpickled, it sings."""

    def __reduce__(self) -> Any:
        return sing, ()
