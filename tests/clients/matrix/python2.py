"""Drives the `mcp` SDK 2.x, in either era."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from tests.clients.matrix.lines import Call, Hear, Message, drive


@asynccontextmanager
async def connect(asked: Message) -> AsyncGenerator[Call]:
    """A client as a line asks for it."""
    if "command" in asked:
        program, *words = asked["command"]
        started = StdioServerParameters(command=program, args=words, env=asked["env"])
        async with Client(stdio_client(started), mode=asked["era"]) as client:
            yield caller(client)
        return
    async with (
        create_mcp_http_client(headers={"Authorization": f"Bearer {asked['grant']}"}) as http,
        Client(streamable_http_client(asked["url"], http_client=http), mode=asked["era"]) as client,
    ):
        yield caller(client)


def caller(client: Client) -> Call:
    """Its calls."""

    async def call(tool: str, arguments: Message, hear: Hear | None, limit: float | None) -> Message:
        result = await client.call_tool(tool, arguments, read_timeout_seconds=limit, progress_callback=hear)
        return result.model_dump(mode="json", by_alias=True)

    return call


if __name__ == "__main__":
    drive(connect)
