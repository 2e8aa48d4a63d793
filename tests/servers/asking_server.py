"""A stdio server built on the SDK that speaks of its own accord: it asks its client, logs, and tells of changes.

`python -m tests.servers.asking_server`
"""

from __future__ import annotations

import asyncio
import itertools
import warnings
from typing import Annotated

from mcp.server.mcpserver import Context, Elicit, MCPServer, Resolve
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp.types import SamplingMessage, TextContent
from pydantic import BaseModel

warnings.simplefilter("ignore", MCPDeprecationWarning)
server = MCPServer("asking-server", version="1.0.0")
_later: set[asyncio.Task[None]] = set()


class Colour(BaseModel):
    """What is asked of the user."""

    colour: str


@server.tool()
async def ask(ctx: Context) -> str:
    """Ask the client's model, its user, and for its roots."""
    question = SamplingMessage(role="user", content=TextContent(type="text", text="Which word?"))
    word = await ctx.session.create_message([question], max_tokens=5)  # pyright: ignore[reportDeprecated]
    chosen = await ctx.elicit("Which colour?", Colour)
    roots = await ctx.session.list_roots()  # pyright: ignore[reportDeprecated]
    assert isinstance(word.content, TextContent)
    assert chosen.action == "accept"
    return f"{word.content.text} {chosen.data.colour} {roots.roots[0].uri}"


class Name(BaseModel):
    """What else is."""

    name: str


def _who() -> Elicit[Name]:
    return Elicit("Who paints?", Name)


def _with_what(who: Annotated[Name, Resolve(_who)]) -> Elicit[Colour]:
    return Elicit(f"Which colour, {who.name}?", Colour)


_goes = itertools.count(1)


@server.tool()
async def paint(thing: str, who: Annotated[Name, Resolve(_who)], what: Annotated[Colour, Resolve(_with_what)]) -> str:
    """Ask two things of the user, one after the other, and then do it."""
    return f"{who.name} painted the {thing} {what.colour}, in {next(_goes)} go"


@server.tool()
async def log(line: str, ctx: Context) -> str:
    """Log a line while the call is under way."""
    await ctx.info(line)  # pyright: ignore[reportDeprecated]
    return "logged"


@server.tool()
async def change(ctx: Context) -> str:
    """Tell subscribers of changed tools and prompts, and the client of a session after the call has ended."""
    await ctx.notify_tools_changed()
    await ctx.notify_prompts_changed()
    told = asyncio.ensure_future(_tell(ctx))
    _later.add(told)
    return "changed"


async def _tell(ctx: Context) -> None:
    await asyncio.sleep(0)
    await ctx.session.send_tool_list_changed()


if __name__ == "__main__":
    server.run("stdio")
