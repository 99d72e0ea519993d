"""``agentbox mcp``: a sandbox for any client that speaks the Model Context Protocol, over stdin and stdout.

The sandbox is this server's own: made at the first call, ended with the server. Its limits, image and network are what
the command line says. Needs the extra ``mcp``.
"""

from __future__ import annotations

import base64

import anyio.to_thread
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ImageContent,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)

import agentbox_magic
from agentbox_magic.integrations.toolset import TOOLS, Toolset


def server(tools: Toolset) -> Server:
    """The protocol's side of a toolset."""

    async def list_tools(context: ServerRequestContext, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(
            tools=[Tool(name=tool.name, description=tool.description, input_schema=tool.schema) for tool in TOOLS]
        )

    async def call_tool(context: ServerRequestContext, params: CallToolRequestParams) -> CallToolResult:
        # Abandoned when the client leaves: the end of the sandbox ends the thread.
        answer = await anyio.to_thread.run_sync(tools.call, params.name, params.arguments or {}, abandon_on_cancel=True)
        content: list[TextContent | ImageContent] = [TextContent(text=answer.text)]
        for mime, data in answer.images:
            content.append(ImageContent(data=base64.b64encode(data).decode(), mime_type=mime))
        return CallToolResult(content=[*content], is_error=answer.failed)

    return Server(
        "agentbox", version=agentbox_magic.__version__, on_list_tools=list_tools, on_call_tool=call_tool
    )  # fmt: skip


async def serve(tools: Toolset) -> None:
    """Serve stdin and stdout, to their end."""
    one = server(tools)
    async with stdio_server() as (read, write):
        await one.run(read, write, one.create_initialization_options())
