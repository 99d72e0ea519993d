"""Places where code keeps its state, as the supervisor knows them."""

from __future__ import annotations

from collections import deque

from agent_executor import commands
from agent_executor.children import Child
from agent_executor.runs import Run

DEFAULT = "default"


class Context:
    """Where code keeps its state: a language, a directory, a worker, and a queue of runs that take turns.

    ``failures`` counts workers that were asked for in vain, one after the other.
    """

    def __init__(self, name: str, language: str, cwd: str) -> None:
        self.name = name
        self.language = language
        self.cwd = cwd
        self.queue: deque[Run] = deque()
        self.worker: Child | None = None
        self.failures = 0


def languages() -> list[str]:
    """What code can be in, in this image."""
    return ["python", *(["bash"] if commands.bash() else [])]
