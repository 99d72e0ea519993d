"""A sandbox for APIs that call tools the way OpenAI's does. Needs no library::

with Toolset(mem="1g") as tools:
    reply = client.chat.completions.create(model=..., messages=messages, tools=schemas())
    message = reply.choices[0].message
    messages += [message, *(tool_message(tools, call) for call in message.tool_calls)]
"""

from __future__ import annotations

import json
from typing import Any

from agentbox_magic.integrations.toolset import TOOLS, Answer, Toolset


def schemas() -> list[dict[str, Any]]:
    """The ``tools`` of a request.

    >>> [one["function"]["name"] for one in schemas()]
    ['run_code', 'run_command', 'read_file', 'write_file', 'list_files']
    """
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.schema},
        }
        for tool in TOOLS
    ]


def tool_message(tools: Toolset, call: Any) -> dict[str, Any]:
    """Do what a tool call of the model asks; the message that answers it. Images have no place in one and are counted.

    Args:
        tools: the sandbox.
        call: an entry of ``tool_calls``: the library's object, or the same as a dict.
    """
    function = call["function"] if isinstance(call, dict) else call.function
    name, text = (function["name"], function["arguments"]) if isinstance(call, dict) else (
        function.name, function.arguments,
    )  # fmt: skip
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        arguments = None
    if isinstance(arguments, dict):
        answer = tools.call(name, arguments)
    else:
        answer = Answer("The arguments are not a JSON object.", failed=True)
    content = answer.text + (f"\n[{len(answer.images)} images]" if answer.images else "")
    return {"role": "tool", "tool_call_id": call["id"] if isinstance(call, dict) else call.id, "content": content}
