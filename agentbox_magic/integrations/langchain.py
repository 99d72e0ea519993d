"""A sandbox as LangChain tools. Needs the extra ``langchain``::

with Toolset(mem="1g") as tools:
    agent = create_agent(model, langchain_tools(tools))
"""

from __future__ import annotations

import functools
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

from agentbox_magic.integrations.toolset import TOOLS, Toolset


def langchain_tools(tools: Toolset) -> list[BaseTool]:
    """The tools on a sandbox. The artifact of a tool message holds images, as ``(MIME type, bytes)``."""

    def call(name: str, **arguments: str) -> tuple[str, Any]:
        answer = tools.call(name, arguments)
        return answer.text, answer.images

    return [
        StructuredTool.from_function(
            functools.partial(call, tool.name),
            name=tool.name,
            description=tool.description,
            args_schema=tool.schema,
            infer_schema=False,
            response_format="content_and_artifact",
        )
        for tool in TOOLS
    ]
