"""Processes that die with a container created and not started, and those that wait for their death."""

from __future__ import annotations

import psutil

BETWEEN = """
import contextlib, os, signal, sys
from agentbox_magic import Sandbox, owner, will
from agentbox_magic.engine import Engine
def start(self, container):
    print(container, flush=True)
    sys.stdin.readline()
    {then}
Engine.start = start
{before}
Sandbox.create({options})
"""
"""A process that waits between the creation of a container and its start."""


def wills(pid: int) -> list[psutil.Process]:
    """The processes that wait for this one's death, or have heard of it."""

    def words(process: psutil.Process) -> list[str]:
        try:
            return list(process.cmdline())
        except psutil.Error:
            return []

    def is_its(line: list[str]) -> bool:
        return line[-2:-1] == ["agentbox_magic.reaper"] and line[-1].split()[2] == str(pid)

    return [process for process in psutil.process_iter() if is_its(words(process))]
