"""smolagents' CodeAgent, with a scripted model, running its code in a sandbox."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from smolagents import ChatMessage, CodeAgent, Model, tool
from smolagents.models import MessageRole
from smolagents.monitoring import LogLevel, TokenUsage

from agentbox_magic import SandboxError, TransferError, uids
from agentbox_magic.engine import Engine
from agentbox_magic.integrations.smolagents import SandboxExecutor


class Scripted(Model):  # type: ignore[misc]  # smolagents has no types
    """Says what it was told to say, and remembers what it was asked."""

    def __init__(self, *codes: str) -> None:
        super().__init__(model_id="scripted")
        self.codes = iter(codes)
        self.asked: list[str] = []

    def generate(self, messages: list[Any], **options: Any) -> ChatMessage:
        self.asked.append(str(messages[-1].content))
        text = f"Thought: so.\n<code>\n{next(self.codes)}\n</code>"
        return ChatMessage(MessageRole.ASSISTANT, text, token_usage=TokenUsage(1, 1))


@pytest.fixture
def executor() -> Iterator[SandboxExecutor]:
    with SandboxExecutor(timeout=30) as executor:
        yield executor


@tool  # type: ignore[untyped-decorator]
def double(n: int) -> int:
    """Twice a number.

    Args:
        n: the number.
    """
    return n * 2


def test_an_agent(executor: SandboxExecutor) -> None:
    """State and tools are in the sandbox, an error is shown to the model, and the answer is a value."""
    model = Scripted(
        "import os\nuid = os.getuid()\nprint('x is', x)",
        "print('before')\n1 / 0",
        "final_answer({'n': double(x), 'uid': uid, 'ok': [True, 1.5]})",
    )
    agent = CodeAgent(tools=[double], model=model, executor=executor, verbosity_level=LogLevel.OFF)
    answer = agent.run("double x", additional_args={"x": 21})
    assert answer.pop("uid") in uids.of(Engine.connect().traits)  # a sandbox's own
    assert answer == {"n": 42, "ok": [True, 1.5]}
    assert "x is 21" in model.asked[1]
    assert "before" in model.asked[2]
    assert "ZeroDivisionError" in model.asked[2]


def test_what_cannot_cross(executor: SandboxExecutor) -> None:
    executor.send_tools({})
    with pytest.raises(TransferError):
        executor("final_answer(object())")
    with pytest.raises(TransferError):
        executor.send_variables({"x": sys})
    with pytest.raises(SandboxError, match="NameError"):
        executor("nothing")
    assert executor("1 + 1").output == "2"


def test_nothing_is_left(boxes: Callable[[], set[str]]) -> None:
    executor = SandboxExecutor()
    assert len(boxes()) == 1
    executor.cleanup()
    assert boxes() == set()


def test_it_needs_no_torch() -> None:
    assert "torch" not in sys.modules
