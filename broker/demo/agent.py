"""The scripted agent: a real MCP client that knows its grant and the broker's address, and nothing of approvals."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, TextContent

from broker.domain.answers import META_KEY

LONGEST_WAIT = 600.0
"""Seconds without a sign of life after which the agent gives up; the broker gives one every ten."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the agent was told of a call: the text, and the broker's decision if there was one."""

    text: str
    failed: bool
    decision: dict[str, Any]


class Agent:
    """An agent with an open MCP session."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, tool: str, arguments: dict[str, Any], on_progress: Callable[[str], None]) -> Outcome:
        """Call a tool and wait for the answer, however long it takes."""

        async def progressed(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001 - the SDK's
            on_progress(message or "")

        return _outcome(await self._client.call_tool(tool, arguments, progress_callback=progressed))


@asynccontextmanager
async def connected_agent(url: str, token: str) -> AsyncGenerator[Agent]:
    """An agent that is connected to the MCP endpoint at `url` with its grant's token."""
    timeout = httpx2.Timeout(30.0, read=LONGEST_WAIT)
    headers = {"Authorization": f"Bearer {token}"}
    # A proxy that the environment names does not reach this machine's loopback.
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        yield Agent(client)


def _outcome(result: CallToolResult) -> Outcome:
    text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
    return Outcome(text, bool(result.is_error), (result.meta or {}).get(META_KEY) or {})
