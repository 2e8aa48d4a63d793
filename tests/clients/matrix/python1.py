"""Drives the `mcp` SDK 1.x, which has one era."""

# pyright: reportArgumentType=false
# It is checked against the SDK 2.x, and runs with another.

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from mcp import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from tests.clients.matrix.lines import Call, Hear, Message, drive


@asynccontextmanager
async def connect(asked: Message) -> AsyncGenerator[Call]:
    """A session as a line asks for it."""
    if "command" in asked:
        program, *words = asked["command"]
        started = StdioServerParameters(command=program, args=words, env=asked["env"])
        async with stdio_client(started) as streams, ClientSession(*streams) as session:
            await session.initialize()
            yield caller(session)
        return
    async with (
        create_mcp_http_client(headers={"Authorization": f"Bearer {asked['grant']}"}) as http,
        streamable_http_client(asked["url"], http_client=http) as streams,
        ClientSession(*streams[:2]) as session,
    ):
        await session.initialize()
        yield caller(session)


def caller(session: ClientSession) -> Call:
    """Its calls."""

    async def call(tool: str, arguments: Message, hear: Hear | None, limit: float | None) -> Message:
        patience = None if limit is None else timedelta(seconds=limit)
        result = await session.call_tool(tool, arguments, read_timeout_seconds=patience, progress_callback=hear)
        return result.model_dump(mode="json", by_alias=True)

    return call


if __name__ == "__main__":
    drive(connect)
