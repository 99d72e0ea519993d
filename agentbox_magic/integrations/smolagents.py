"""A sandbox where smolagents run the code they write. Needs the extra ``smolagents``::

    with SandboxExecutor(mem="1g") as executor:
        CodeAgent(tools=[], model=model, executor=executor).run("...")

What comes back is plain data: nothing is unpickled.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from smolagents.local_python_executor import CodeOutput, PythonExecutor
from smolagents.tools import Tool, get_tools_definition_code

from agentbox_magic.errors import ExecutionError, SandboxError
from agentbox_magic.sandbox import Sandbox
from agentbox_magic.text import clean

if TYPE_CHECKING:
    from typing_extensions import Self

_FINAL = "_AgentboxFinalAnswer"
_FINAL_ANSWER = f"""
class {_FINAL}(BaseException):
    pass

def final_answer(answer=None):
    global {_FINAL}_value
    {_FINAL}_value = answer
    raise {_FINAL}
"""


class SandboxExecutor(PythonExecutor):
    """One sandbox, where the agent's code runs and keeps its variables."""

    def __init__(self, **options: Any) -> None:
        """Args: as :meth:`Sandbox.create <agentbox_magic.sandbox.Sandbox.create>` takes them."""
        self.box = Sandbox.create(**options)

    def send_tools(self, tools: dict[str, Tool]) -> None:
        """Define the agent's tools in the sandbox, by their source: that is where they run."""
        others = {name: tool for name, tool in tools.items() if name != "final_answer"}
        self.box.run_code(get_tools_definition_code(others) + _FINAL_ANSWER).raise_for_status()

    def send_variables(self, variables: dict[str, Any]) -> None:
        """Give the sandbox variables. Raises TransferError for what is not plain data."""
        if variables:
            self.box.push(variables)

    def __call__(self, code_action: str) -> CodeOutput:
        """Run code. Raises SandboxError if it fails, with what it had printed, which the agent is shown."""
        run = self.box.run_code(code_action)
        logs = clean(run.stdout + run.stderr, colour=False)
        if isinstance(run.error, ExecutionError) and run.error.name == _FINAL:
            name = f"{_FINAL}_value"
            return CodeOutput(output=self.box.pull(name)[name], logs=logs, is_final_answer=True)
        if run.error is not None:
            raise SandboxError(f"{logs}{run.error}") from run.error
        text = None if run.text is None else clean(run.text, colour=False)
        return CodeOutput(output=text, logs=logs, is_final_answer=False)

    def cleanup(self) -> None:
        """End the sandbox; smolagents calls this too."""
        self.box.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cleanup()
