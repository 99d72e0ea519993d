"""Tool calls as OpenAI's API makes them."""

from __future__ import annotations

import json
from types import SimpleNamespace

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
