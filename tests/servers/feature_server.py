"""A small MCP server built on the SDK, over stdio or Streamable HTTP, whose effects can be seen from outside.

`python -m tests.servers.feature_server --stdio | --http`; the latter prints its URL as the first line. Lines are
appended to the file that `FEATURE_SERVER_FILE` names.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import Completion, CompletionArgument
from pydantic import Field

server = MCPServer("feature-server", version="1.0.0")
_released: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


@server.tool()
async def echo(text: str) -> str:
    """Give `text` back."""
    return text


@server.tool()
async def slow(name: str, ctx: Context, steps: int = 3) -> str:
    """Report progress `steps` times, then wait until `release` names it."""
    try:
        for step in range(1, steps + 1):
            await ctx.report_progress(step, steps, f"step {step}")
        await _released[name].wait()
    except asyncio.CancelledError:
        _append(f"cancelled {name}")
        raise
    return f"{name} done"


@server.tool()
async def release(name: str) -> str:
    """Let the slow call of that name end."""
    _released[name].set()
    return "released"


@server.tool()
async def failing() -> str:
    """Fail."""
    raise ValueError("this tool fails")


@server.tool()
async def append_line(line: str) -> str:
    """Append a line to the file of effects."""
    _append(line)
    return "appended"


@server.tool()
async def label(text: str, region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    """Give both back; `region` is mirrored in a header."""
    return f"{region}: {text}"


@server.tool()
async def secret() -> str:
    """What a policy hides in the tests."""
    return "secret"


@server.tool()
async def large(size: int) -> str:
    """Give a text of `size` letters."""
    return "x" * size


@server.prompt()
async def greeting(name: str) -> str:
    """Greet somebody."""
    return f"Greet {name}."


@server.resource("note://{name}")
async def note(name: str) -> str:
    """A note."""
    return f"note of {name}"


@server.completion()
async def complete(ref: Any, argument: CompletionArgument, context: Any) -> Completion:
    """Complete a name."""
    return Completion(values=[f"{argument.value}nna"])


def _append(line: str) -> None:
    with Path(os.environ["FEATURE_SERVER_FILE"]).open("a") as file:
        file.write(line + "\n")


def _serve_http() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp\n")
    sys.stdout.flush()
    uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="warning")).run(sockets=[listening])


if __name__ == "__main__":
    if "--http" in sys.argv:
        _serve_http()
    else:
        server.run("stdio")
