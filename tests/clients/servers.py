"""Servers as their users start them: behind the broker, or alone to compare with.

What belongs here: the settings of an upstream, the same server without a broker, and what a server shows of itself.
What does not: any one server (the conftest of its tests).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

from mcp import Client, StdioServerParameters

from tests.servers import BOUND, ROOT

HOLD: dict[str, Any] = {"default": "hold"}
ALLOW: dict[str, Any] = {"default": "allow"}


def ready_policy(name: str) -> dict[str, Any]:
    """One that comes with the broker."""
    return json.loads((ROOT / "policies" / f"{name}.json").read_text())


@contextlib.asynccontextmanager
async def alone(server: dict[str, Any], era: str, **options: Any) -> AsyncGenerator[Client]:
    """A client of the server without a broker; `server` is an upstream's settings."""
    place: Any = server.get("url")
    if place is None:
        program, *words = server["command"]
        place = StdioServerParameters(command=program, args=words, env=server.get("env"))
    async with Client(place, mode=era, read_timeout_seconds=BOUND, **options) as client:
        yield client


async def shown(client: Client) -> dict[str, Any]:
    """What a server says of itself, and everything that it lists where it has such a list."""
    has = client.server_capabilities
    said: dict[str, Any] = {
        "protocol": client.protocol_version,
        "server": client.server_info,
        "instructions": client.instructions,
        "tools": (await client.list_tools()).tools,
    }
    if has.prompts:
        said["prompts"] = (await client.list_prompts()).prompts
    if has.resources:
        said["resources"] = (await client.list_resources()).resources
        said["templates"] = (await client.list_resource_templates()).resource_templates
    return said
