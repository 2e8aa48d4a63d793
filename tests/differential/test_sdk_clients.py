"""The SDK's own client hears and gets the same from a server alone and through the broker."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import CreateMessageResult, ElicitResult, ListRootsResult, PromptReference, Root, TextContent
from pydantic import BaseModel, FileUrl

from tests.differential.client import BOUND
from tests.differential.over_stdio import command
from tests.gateway.scene import Agent
from tests.servers import ROOT
from tests.servers.every.over_http import EveryHttp
from tests.servers.every.speech import Message, Style

pytestmark = [
    pytest.mark.parametrize("transport", ["http", "stdio-plain"]),
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

FORM: Message = {"mode": "form", "message": "Who?", "requestedSchema": {"type": "object", "properties": {}}}
SAMPLING: Message = {"messages": [{"role": "user", "content": {"type": "text", "text": "ü"}}], "maxTokens": 9}


class Ear:
    """The callbacks of a client.

    Args:
        heard: what they were called with, by the callback.
    """

    def __init__(self) -> None:
        self.heard: defaultdict[str, list[str]] = defaultdict(list)
        self.got: list[str] = []
        self._news = asyncio.Condition()

    def options(self) -> dict[str, Any]:
        """What the client is made with."""
        return {
            "sampling_callback": self._sample,
            "elicitation_callback": self._elicit,
            "list_roots_callback": self._roots,
            "logging_callback": self._log,
            "message_handler": self._handle,
        }

    def take(self, result: Any) -> None:
        """Keep a result."""
        self.got.append(_written(result))

    async def until(self, kind: str, count: int) -> None:
        """Wait until a callback was called so often."""
        async with self._news:
            await asyncio.wait_for(self._news.wait_for(lambda: len(self.heard[kind]) >= count), BOUND)

    async def note(self, kind: str, value: Any) -> None:
        """A callback was called."""
        self.heard[kind].append(_written(value))
        async with self._news:
            self._news.notify_all()

    async def _sample(self, context: Any, params: Any) -> CreateMessageResult:
        await self.note("sampling", params)
        return CreateMessageResult(role="assistant", content=TextContent(type="text", text="ä"), model="m")

    async def _elicit(self, context: Any, params: Any) -> ElicitResult:
        await self.note("elicitation", params)
        return ElicitResult(action="accept", content={"n": 1})

    async def _roots(self, context: Any) -> ListRootsResult:
        await self.note("roots", context.meta)
        return ListRootsResult(roots=[Root(uri=FileUrl("file:///r"), name="r")])

    async def _log(self, params: Any) -> None:
        await self.note("logging", params)

    async def _handle(self, message: Any) -> None:
        await self.note("message", message)

    async def progress(self, progress: float, total: float | None, message: str | None) -> None:
        """Of one call."""
        await self.note("progress", (progress, total, message))


def _written(value: Any) -> str:
    """A value in words; the SDK counts its subscriptions over all clients of a process."""
    text = value.model_dump_json(by_alias=True) if isinstance(value, BaseModel) else repr(value)
    return re.sub(r"listen-[0-9]+", "listen", text)


@contextlib.asynccontextmanager
async def _alone(transport: str, server: EveryHttp, mode: str, **options: Any) -> AsyncGenerator[Client]:
    program, *words = command(Style.PLAIN)
    started = StdioServerParameters(command=program, args=words, env={"PYTHONPATH": str(ROOT)})
    way = streamable_http_client(server.url) if transport == "http" else stdio_client(started)
    async with Client(way, mode=mode, **options) as client:
        yield client


async def _what_both_eras_have(client: Client, ear: Ear) -> None:
    for value in (client.server_info, client.server_capabilities, client.instructions, client.protocol_version):
        ear.take(value)
    ear.take(first := await client.list_tools())
    ear.take(await client.list_tools(cursor=first.next_cursor))
    ear.take(await client.list_prompts())
    ear.take(await client.list_resources())
    ear.take(await client.list_resource_templates())
    ear.take(await client.get_prompt("greeting", {"who": "Ada"}))
    ear.take(await client.read_resource("test://text/1"))
    ear.take(await client.complete(PromptReference(name="greeting"), {"name": "who", "value": "A"}))
    ear.take(await client.call_tool("content", meta={"example.com/kept": [1.0]}))
    ear.take(await client.call_tool("fails"))
    with pytest.raises(MCPError) as broken:
        await client.call_tool("breaks", {"code": -32042})
    ear.take(broken.value.error)
    ear.take(await client.call_tool("steps", {"count": 3}, progress_callback=ear.progress))
    await ear.until("progress", 3)


async def _handshake_era(client: Client, ear: Ear) -> None:
    await _what_both_eras_have(client, ear)
    ear.take(await client.send_ping())  # pyright: ignore[reportDeprecated] - in the era that is tested it is not
    ear.take(await client.set_logging_level("error"))  # pyright: ignore[reportDeprecated] - as above
    ear.take(await client.call_tool("talks"))
    await ear.until("logging", 4)
    for method, params in (
        ("sampling/createMessage", SAMPLING),
        ("elicitation/create", FORM),
        ("elicitation/create", {"mode": "url", "message": "Go", "url": "https://example.com/", "elicitationId": "e"}),
        ("roots/list", {}),
        ("ping", {}),
    ):
        ear.take(await client.call_tool("asks", {"method": method, "params": params}))
    ear.take(await client.call_tool("asks_aside", {"method": "roots/list", "params": {}}))
    ear.take(await client.subscribe_resource("test://text/1"))  # pyright: ignore[reportDeprecated] - as above
    ear.take(await client.call_tool("announces", {"said": [{"method": "notifications/tools/list_changed"}]}))
    await ear.until("message", 4 + 2)


async def _stateless_era(client: Client, ear: Ear) -> None:
    await _what_both_eras_have(client, ear)
    requests: Message = {
        "first": {"method": "sampling/createMessage", "params": SAMPLING},
        "second": {"method": "elicitation/create", "params": FORM},
        "third": {"method": "roots/list"},
    }
    ear.take(await client.call_tool("wants", {"rounds": 2, "requests": requests}))
    ear.take(await client.call_tool("talks"))
    await ear.until("logging", 4)
    async with client.listen(tools_list_changed=True, resource_subscriptions=["test://text/1"]) as subscription:
        updated = {"method": "notifications/resources/updated", "params": {"uri": "test://text/1"}}
        said = [{"method": "notifications/tools/list_changed"}, updated]
        ear.take(await client.call_tool("announces", {"said": said}))
        ear.take([await anext(subscription), await anext(subscription)])
        ear.take(await client.call_tool("release", {"name": "listening"}))
        ear.take([event async for event in subscription])


@pytest.mark.parametrize(("mode", "script"), [("legacy", _handshake_era), ("auto", _stateless_era)])
async def test_every_callback_and_every_result_is_the_same(
    mode: str, script: Any, transport: str, every_server: EveryHttp, agent: Agent
) -> None:
    more = {"log_level": "error"} if mode == "auto" else {}
    alone, through = Ear(), Ear()
    every_server.reset(Style.PLAIN)
    async with _alone(transport, every_server, mode, **alone.options(), **more) as client:
        await script(client, alone)
    every_server.reset(Style.PLAIN)
    async with agent.client(transport, mode, **through.options(), **more) as client:
        await script(client, through)
    assert through.got == alone.got
    assert through.heard == alone.heard
    assert {"sampling", "elicitation", "roots", "logging", "progress"} <= set(alone.heard)
