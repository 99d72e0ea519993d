"""An attack, how to tell what came of it, and the walls that stop it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Probe:
    """One attack.

    Attributes:
        number: of SECURITY.md's list.
        name: what is promised.
        code: the attack.
        denied: the words, one of which must be its end.
        without: the walls whose absence lets it through.
        reached: errors that show, in the control, that no wall stopped the call: it came as far as the kernel's own
            check of its arguments. ``done`` always does.
        cpus: of the box it runs in.
        needs: what a host must have for the control to be possible, such as version 1 of cgroups.
        outside: looks from the host at the box's container (as inspected) for damage; the attack has worked if it
            finds some.
    """

    number: int
    name: str
    code: str
    denied: str
    without: str
    reached: str = ""
    cpus: float = 1.0
    needs: str = "/"
    outside: Callable[[dict[str, Any]], bool] | None = None

    def __str__(self) -> str:
        return f"{self.number}-{self.name.replace(' ', '_')}"

    @property
    def walls(self) -> tuple[str, ...]:
        """The names in :attr:`without`."""
        return tuple(name.strip() for name in self.without.split("+"))


ALL_RIGHTS = "user + capabilities + seccomp"
"""As root with every capability and every system call: what `docker run --privileged` has, but for devices."""
