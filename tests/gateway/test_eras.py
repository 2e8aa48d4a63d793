"""A modern client of a server that speaks the handshake only hears so, and falls back by itself."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from tests.gateway.scene import HOLD_ACT, Agent, Scene, modern, playing, text, tool_call
from tests.servers import ROOT
from tests.servers.scripted import Message, Scripted, result, scripted

HANDSHAKE_ONLY = [sys.executable, "-m", "tests.servers.handshake_server"]


@pytest.fixture
async def own(tmp_path: Path) -> AsyncGenerator[tuple[Scene, Scripted]]:
    """A broker that has asked its server nothing yet."""
    async with scripted() as server, playing(tmp_path, {"one": {"url": server.url, "policy": HOLD_ACT}}) as scene:
        yield scene, server


def asked(server: Scripted, method: str) -> int:
    return sum(message.get("method") == method for message in server.seen)


async def unknown(message: Message) -> Response:
    error = {"code": -32601, "message": "Method not found"}
    return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "error": error})


async def test_a_modern_request_to_a_handshake_server_is_answered_with_its_versions(
    own: tuple[Scene, Scripted],
) -> None:
    scene, server = own
    server.on["server/discover"] = unknown
    agent = await scene.agent()
    for message in (modern("server/discover", {}, 5), modern("tools/list", {}, 5), tool_call("look", {}, 5)):
        answer = await agent.send("one", message)
        assert answer.status == 400
        told = await answer.message()
        assert (told["id"], told["error"]["code"]) == (5, -32022)
        assert told["error"]["data"] == {"supported": ["2025-11-25"], "requested": "2026-07-28"}
    assert (asked(server, "server/discover"), asked(server, "initialize"), asked(server, "tools/call")) == (1, 1, 0)


async def test_a_server_is_asked_once_however_many_come_at_the_same_time(own: tuple[Scene, Scripted]) -> None:
    scene, server = own
    agents = [await scene.agent() for _ in range(3)]
    answers = await asyncio.gather(*(agent.send("one", modern("prompts/list")) for agent in agents * 4))
    assert [(await answer.message())["error"]["code"] for answer in answers] == [-32601] * 12
    assert (asked(server, "server/discover"), asked(server, "initialize")) == (1, 0)


@pytest.mark.parametrize("status", [401, 429, 500, 503])
async def test_a_server_that_cannot_tell_just_now_is_asked_again(own: tuple[Scene, Scripted], status: int) -> None:
    scene, server = own
    agent = await scene.agent()

    async def not_now(message: Message) -> Response:
        return JSONResponse({"error": "not now"}, status)

    server.on["server/discover"] = not_now
    assert (await agent.send("one", modern("prompts/list"))).status in (200, 400)
    server.on["server/discover"] = unknown
    answer = await (await agent.send("one", modern("prompts/list"))).message()
    assert answer["error"]["code"] == -32022


async def test_a_server_that_offers_only_handshake_versions_is_believed(own: tuple[Scene, Scripted]) -> None:
    scene, server = own

    async def discover(message: Message) -> Response:
        return result(message, {"supportedVersions": ["2025-06-18", "2025-03-26"], "capabilities": {}})

    server.on["server/discover"] = discover
    answer = await (await (await scene.agent()).send("one", modern("tools/list"))).message()
    assert answer["error"]["data"]["supported"] == ["2025-06-18", "2025-03-26"]
    assert asked(server, "initialize") == 0


async def test_what_a_server_says_of_its_versions_is_kept_in_bounds(own: tuple[Scene, Scripted]) -> None:
    scene, server = own

    async def discover(message: Message) -> Response:
        versions = ["x" * 1000, *(f"2020-{number}" for number in range(1000))]
        return result(message, {"supportedVersions": versions, "capabilities": {}})

    server.on["server/discover"] = discover
    answer = await (await (await scene.agent()).send("one", modern("tools/list"))).message()
    assert answer["error"]["data"]["supported"] == [f"2020-{number}" for number in range(16)]


async def test_a_handshake_server_that_does_not_let_sessions_be_ended_is_known_all_the_same(
    own: tuple[Scene, Scripted],
) -> None:
    scene, server = own
    server.on["server/discover"] = unknown

    async def refuse(message: Message) -> Response:
        raise ConnectionAbortedError

    server.on["DELETE"] = refuse
    answer = await (await (await scene.agent()).send("one", modern("tools/list"))).message()
    assert answer["error"]["data"]["supported"] == ["2025-11-25"]


async def test_what_is_no_mcp_server_at_all_answers_for_itself(own: tuple[Scene, Scripted]) -> None:
    scene, server = own
    server.on["server/discover"] = server.on["initialize"] = unknown
    answer = await (await (await scene.agent()).send("one", modern("prompts/list"))).message()
    assert answer["error"] == {"code": -32601, "message": "Method not found", "data": {"kept": True}}


async def test_a_server_that_is_away_is_told_as_that_and_asked_when_it_is_back(tmp_path: Path) -> None:
    async with scripted() as server:
        address = server.url
    async with playing(tmp_path, {"one": {"url": address, "policy": HOLD_ACT}}) as scene:
        agent = await scene.agent()
        answer = await (await agent.send("one", modern("tools/list"))).message()
        assert (answer["error"]["code"], "could not be reached" in answer["error"]["message"]) == (-32603, True)
        called = await (await agent.call("one", "look")).message()
        assert called["result"]["_meta"]["approval-broker/decision"]["status"] == "unavailable"
        async with scripted(int(address.split(":")[2].split("/")[0])):
            assert "result" in await (await agent.send("one", modern("tools/list"))).message()


@pytest.fixture
async def shaking(tmp_path: Path) -> AsyncGenerator[Agent]:
    """An agent before a command that speaks the handshake only."""
    upstream: dict[str, Any] = {"command": HANDSHAKE_ONLY, "env": {"PYTHONPATH": str(ROOT)}, "policy": HOLD_ACT}
    async with playing(tmp_path, {"one": upstream}) as scene:
        yield await scene.agent()


async def test_a_real_client_falls_back_by_itself(shaking: Agent) -> None:
    async with shaking.client("one", "auto") as client:
        assert client.protocol_version == "2025-06-18"
        assert text(await client.call_tool("look", {})) == "looked"
