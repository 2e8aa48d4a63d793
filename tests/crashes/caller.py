"""An agent that makes one call, again and again, in the way of one kind of client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.gateway.scene import Agent, block, told

_MODES = {"SDK modern": "auto", "SDK legacy": "legacy"}


@dataclass
class Caller:
    """An agent with a `modern` or `legacy` client over bare HTTP, or an `SDK modern` or `SDK legacy` one."""

    agent: Agent
    client: str = "modern"
    session: str | None = None

    @property
    def id(self) -> str:
        """What its calls are known by: its grant."""
        return self.agent.grant.id

    async def ask(self, url: str, tool: str) -> dict[str, Any]:
        """Call a tool through the broker at `url`, always with the same arguments; the broker's block of the answer."""
        self.agent.url, arguments = url, {"who": self.id}
        if self.client in _MODES:
            async with self.agent.client("one", _MODES[self.client]) as client:
                return told(await client.call_tool(tool, arguments))
        if self.client == "modern":
            return block(await (await self.agent.call("one", tool, arguments)).message())
        self.session = self.session or await self.agent.open("one")  # a session is the server's: it outlives the broker
        params = {"name": tool, "arguments": arguments}
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        return block(await (await self.agent.send("one", call, session=self.session)).message())
