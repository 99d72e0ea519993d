"""Tool calls as OpenAI's API makes them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from agentbox_magic.integrations.openai import schemas, tool_message
from agentbox_magic.integrations.toolset import TOOLS, Toolset


def test_schemas_are_what_the_api_takes() -> None:
    for one in schemas():
        assert one["type"] == "function"
        parameters = json.loads(json.dumps(one["function"]["parameters"]))
        assert set(parameters["required"]) <= set(parameters["properties"])
        assert parameters["additionalProperties"] is False
    assert len(schemas()) == len(TOOLS)


def test_a_conversation() -> None:
    """The calls that a model makes one after the other, as dicts and as the library's objects."""
    with Toolset(timeout=30) as tools:
        call = {"id": "1", "function": {"name": "run_code", "arguments": '{"code": "x = 6"}'}}
        assert tool_message(tools, call)["tool_call_id"] == "1"
        function = SimpleNamespace(name="run_code", arguments='{"code": "x * 7"}')
        message = tool_message(tools, SimpleNamespace(id="2", function=function))
        assert (message["role"], message["content"].splitlines()[1]) == ("tool", "42")
        for arguments in ("{", "[]", "[" * 100_000):
            wrong = {"id": "3", "function": {"name": "run_code", "arguments": arguments}}
            assert tool_message(tools, wrong)["content"] == "The arguments are not a JSON object."


def test_a_sandbox_that_ended_is_replaced() -> None:
    with Toolset(timeout=30) as tools:
        tools.call("run_code", {"code": "x = 1"})
        tools.box.kill()
        assert "NameError" in tools.call("run_code", {"code": "x"}).text


HALF = "\ud800"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("run_code", {"code": HALF}), ("run_command", {"command": f"ls {HALF}"}), ("read_file", {"path": HALF}),
     ("write_file", {"path": "x", "content": HALF}), ("list_files", {"path": HALF}), (HALF, {}),
     ("run_code", {HALF: "1"})],
)  # fmt: skip
def test_half_a_surrogate_pair_is_the_model_s_mistake(name: str, arguments: dict[str, str]) -> None:
    """It is told so, before there is a box."""
    tools = Toolset()
    answer = tools.call(name, arguments)
    assert answer.failed
    answer.text.encode()
    assert tools._box is None
    message = tool_message(tools, {"id": "1", "function": {"name": name, "arguments": json.dumps(arguments)}})
    json.dumps(message, ensure_ascii=False).encode()
