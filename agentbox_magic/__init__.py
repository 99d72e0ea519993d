"""Run notebook cells and agent functions in isolated, resource-limited Docker containers.

::

    %load_ext agentbox_magic          # then: %%sandbox --mem 512m

    from agentbox_magic import Sandbox
    with Sandbox.create(mem="512m") as box:
        print(box.run_code("1 + 1").text)

Importing this loads neither docker nor ipywidgets; they come with the first sandbox.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from agentbox_magic.errors import (
    BatchInterrupted,
    EngineUnavailableError,
    ExecutionError,
    ExecutionInterrupted,
    ImageError,
    LimitError,
    MemoryLimitError,
    OutcomeUnknownError,
    OutputLimitError,
    PidsLimitError,
    PolicyError,
    SandboxClosedError,
    SandboxError,
    TimeLimitError,
    TransferError,
)
from agentbox_magic.execution import Execution, Logs, Result, Usage
from agentbox_magic.limits import Limits

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from agentbox_magic.agents import Agent, agent
    from agentbox_magic.async_sandbox import AsyncSandbox
    from agentbox_magic.batch import Batch
    from agentbox_magic.commands import CommandExitException
    from agentbox_magic.jobs import Job
    from agentbox_magic.sandbox import Sandbox
    from agentbox_magic.tools import ToolCall, tool

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "AsyncSandbox",
    "Batch",
    "BatchInterrupted",
    "CommandExitException",
    "EngineUnavailableError",
    "Execution",
    "ExecutionError",
    "ExecutionInterrupted",
    "ImageError",
    "Job",
    "LimitError",
    "Limits",
    "Logs",
    "MemoryLimitError",
    "OutcomeUnknownError",
    "OutputLimitError",
    "PidsLimitError",
    "PolicyError",
    "Result",
    "Sandbox",
    "SandboxClosedError",
    "SandboxError",
    "TimeLimitError",
    "ToolCall",
    "TransferError",
    "Usage",
    "__version__",
    "agent",
    "load_ipython_extension",
    "tool",
    "unload_ipython_extension",
]

_LAZY = {  # these load docker
    "Agent": "agentbox_magic.agents",
    "AsyncSandbox": "agentbox_magic.async_sandbox",
    "Batch": "agentbox_magic.batch",
    "CommandExitException": "agentbox_magic.commands",
    "Job": "agentbox_magic.jobs",
    "Sandbox": "agentbox_magic.sandbox",
    "ToolCall": "agentbox_magic.tools",
    "agent": "agentbox_magic.agents",
    "tool": "agentbox_magic.tools",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


def load_ipython_extension(shell: InteractiveShell) -> None:
    """``%load_ext agentbox_magic``: registers the magics and does nothing else."""
    from agentbox_magic.magics import SandboxMagics

    shell.register_magics(SandboxMagics)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """``%unload_ext agentbox_magic``: takes the magics away, and ends their boxes."""
    shell.magics_manager.registry["SandboxMagics"].unload()
