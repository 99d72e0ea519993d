"""What a box tells of itself: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agentbox_magic.limits import Limits


@dataclass(frozen=True)
class Context:
    """A place where code keeps its state.

    Attributes:
        id: its name in the box.
        language: ``"python"`` or ``"bash"``.
        cwd: where it started.
    """

    id: str
    language: str
    cwd: str


@dataclass(frozen=True)
class Metrics:
    """What a box uses now, counted by the kernel; None where the kernel does not count it.

    Attributes:
        timestamp: when, in UTC.
        memory: bytes in use, files included.
        memory_peak: the most since the start.
        memory_limit: bytes.
        cpu_seconds: CPU time since the start.
        cpu_count: cores it may use.
        pids: processes and threads.
    """

    timestamp: datetime
    memory: int | None
    memory_peak: int | None
    memory_limit: int
    cpu_seconds: float | None
    cpu_count: float
    pids: int | None


class Pulled(dict[str, Any]):
    """What :meth:`Sandbox.pull` gives.

    Attributes:
        size: the bytes that crossed.
    """

    def __init__(self, values: dict[str, Any], size: int) -> None:
        super().__init__(values)
        self.size = size


@dataclass(frozen=True)
class SandboxInfo:
    """A box on the engine.

    Attributes:
        sandbox_id: the id of its container.
        state: ``"running"``, ``"paused"``, or what else the engine says.
        image: what it is made of.
        limits: what it may use.
        started_at: when it was created, in UTC.
        detached: it outlives the process that made it.
        metadata: as given to :meth:`Sandbox.create`.
        walls: which of its walls the engine says it has, in one line; None where it was not asked, in
            :meth:`Sandbox.list`. ``%sandbox doctor`` does not take its word but tries them.
    """

    sandbox_id: str
    state: str
    image: str
    limits: Limits
    started_at: datetime
    detached: bool
    metadata: dict[str, str]
    walls: str | None = None
