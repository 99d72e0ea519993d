"""The LangChain tools, called by a scripted chat model."""

from __future__ import annotations

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from agentbox_magic.integrations.langchain import langchain_tools
from agentbox_magic.integrations.toolset import Toolset


def asks(name: str, **arguments: str) -> AIMessage:
    """What a model says that wants a tool called."""
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": name, "type": "tool_call"}])


def test_a_model_that_calls_tools() -> None:
    plot = "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])\nplt.show()"
    model = GenericFakeChatModel(
        messages=iter(
            [
                asks("write_file", path="n.txt", content="6"),
                asks("run_code", code="int(open('n.txt').read()) * 7"),
                asks("run_code", code=plot),
                AIMessage("42"),
            ]
        )
    )
    with Toolset(timeout=60) as box:
        tools = {tool.name: tool for tool in langchain_tools(box)}
        messages: list[BaseMessage] = [HumanMessage("6 times 7?")]
        while True:
            said = model.invoke(messages)
            messages.append(said)
            if not said.tool_calls:
                break
            messages += [tools[call["name"]].invoke(call) for call in said.tool_calls]
    answers = [message for message in messages if isinstance(message, ToolMessage)]
    assert said.content == "42"
    assert str(answers[1].content).splitlines()[1] == "42"
    assert answers[2].artifact[0][0] == "image/png"


def test_models_are_told_the_schema() -> None:
    by_name = {tool.name: tool for tool in langchain_tools(Toolset())}
    assert by_name["write_file"].tool_call_schema["required"] == ["path", "content"]
    assert "no network" in by_name["run_code"].description
