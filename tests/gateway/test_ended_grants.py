"""A grant that was revoked or has expired ends what it has open, within a second, and nothing of anybody else's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.responses import Response

from tests.gateway.scene import HOLD_ACT, Agent, Scene, block, modern, modern_headers, playing, tool_call
from tests.servers import BOUND, RAW_STDIO, ROOT
from tests.servers.scripted import Message, Scripted, result, said

SOON = 2.5
"""Seconds: one as promised, and what a busy machine takes."""

Ending = Callable[[Scene, Agent], Awaitable[None]]


async def revoke(scene: Scene, agent: Agent) -> None:
    await scene.revoke(agent)


async def expire(scene: Scene, agent: Agent) -> None:
    """It ends by itself."""
    assert agent.grant.expires_at is not None
    left = agent.grant.expires_at - datetime.now(UTC)
    await asyncio.sleep(max(0.0, left.total_seconds()))


ENDINGS = pytest.mark.parametrize("end", [revoke, expire])


@pytest.fixture
async def scene(tmp_path: Path, server: Scripted) -> AsyncGenerator[Scene]:
    """A broker before a server of each kind."""
    raw: dict[str, Any] = {"command": list(RAW_STDIO), "env": {"PYTHONPATH": str(ROOT)}, "policy": HOLD_ACT}
    async with playing(tmp_path, {"http": {"url": server.url, "policy": HOLD_ACT}, "stdio": raw}) as made:
        yield made


async def short_lived(scene: Scene) -> Agent:
    """A grant for long enough to begin something."""
    return await scene.agent(expires_at=datetime.now(UTC) + timedelta(seconds=2))


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not holds():  # noqa: ASYNC110 - of a process or a server nobody tells
            await asyncio.sleep(0.01)


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@ENDINGS
async def test_sessions_and_their_processes_end(scene: Scene, server: Scripted, end: Ending) -> None:
    agent, other = await short_lived(scene), await scene.agent()
    await agent.open("http")
    kept = await other.open("http")
    pids: list[int] = []
    for whose in (agent, other):
        for message in ({"jsonrpc": "2.0", "id": 1, "method": "test/echo"}, modern("test/echo")):
            session = await open_raw(whose) if "params" not in message else None
            told = await (await whose.send("stdio", message, session=session)).message()
            pids.append(told["result"]["pid"])
    assert len(set(pids)) == 4
    await end(scene, agent)
    await eventually(lambda: server.sessions == {"s2"} and not any(map(runs, pids[:2])))
    assert all(map(runs, pids[2:]))
    ping = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert (await other.send("http", ping, session=kept)).status == 200


async def open_raw(agent: Agent) -> str:
    """A session of the raw server, which answers `initialize` as it answers everything."""
    opened = await agent.send("stdio", {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}})
    await opened.whole()
    return opened.headers["mcp-session-id"]


@ENDINGS
async def test_a_stream_that_is_open_ends(scene: Scene, end: Ending) -> None:
    agent = await short_lived(scene)
    stream = await agent.send("stdio", method="GET", session=await open_raw(agent))
    assert stream.status == 200
    await end(scene, agent)
    async with asyncio.timeout(SOON):
        await stream.whole()


@ENDINGS
@pytest.mark.parametrize("upstream", ["http", "stdio"])
async def test_a_request_under_way_is_answered_with_what_is_known(
    scene: Scene, server: Scripted, upstream: str, end: Ending
) -> None:
    never = asyncio.Event()

    async def hang(message: Message) -> Response:
        await never.wait()
        return said(message)

    server.on["test/hold"] = hang
    agent = await short_lived(scene)
    answer = asyncio.ensure_future(agent.send(upstream, modern("test/hold", {"name": "x"}, 3)))
    while "test/hold" not in await seen(agent, server, upstream):
        pass
    await end(scene, agent)
    async with asyncio.timeout(SOON):
        told = await (await answer).message()
    assert told["id"] == 3
    assert "grant ended" in told["error"]["message"]
    never.set()


async def seen(agent: Agent, server: Scripted, upstream: str) -> list[str]:
    """The methods that reached a server."""
    if upstream == "http":
        await asyncio.sleep(0)
        return [message["method"] for message in server.seen]
    answer = await (await agent.send(upstream, modern("test/seen"))).message()
    return [message["method"] for message in answer["result"]["seen"]]


@ENDINGS
async def test_a_held_call_is_told_that_it_was_withdrawn(scene: Scene, end: Ending) -> None:
    agent = await short_lived(scene)
    held = await agent.call("http", "act")
    await scene.submitted(agent)
    await end(scene, agent)
    async with asyncio.timeout(BOUND):
        told = block(await held.message())
    assert (told["status"], told["cause"]) == ("withdrawn", "grant")


# -- what was on its way when the grant ended ------------------------------------------------------------------------


async def test_a_call_whose_body_comes_after_the_end_of_its_grant_does_not_run(scene: Scene, server: Scripted) -> None:
    agent = await scene.agent()
    body = json.dumps(tool_call("look")).encode()
    fields = {
        "Authorization": f"Bearer {agent.token}",
        "Content-Length": str(len(body)),
        **modern_headers(tool_call("look")),
    }
    address = urlsplit(agent.at("http"))
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = [f"POST {address.path} HTTP/1.1", f"Host: {address.netloc}", *(f"{name}: {fields[name]}" for name in fields)]
    writer.write("\r\n".join([*head, "", ""]).encode() + body[:10])
    await writer.drain()
    await scene.revoke(agent)
    await asyncio.sleep(1)  # within which a revocation counts everywhere
    writer.write(body[10:])
    async with asyncio.timeout(BOUND):
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()
    assert server.calls == []
    assert await scene.of(agent) == []


@pytest.mark.parametrize("tool", ["look", "act"])
async def test_a_call_that_waited_for_the_server_does_not_run_for_a_grant_that_ended_meanwhile(
    scene: Scene, server: Scripted, tool: str
) -> None:
    asked, answer = server.list_tools_when_told() if tool == "act" else hold_back(server, "server/discover")
    agent = await scene.agent()
    call = asyncio.ensure_future(agent.call("http", tool))
    await asked.wait()
    await scene.revoke(agent)
    await asyncio.sleep(1)  # as above
    answer.set()
    late = await call
    assert late.status == 401 or block(await late.message())["status"] in ("unavailable", "interrupted")
    assert server.calls == []
    assert "approval.submitted" not in await scene.kinds(agent)


def hold_back(server: Scripted, method: str) -> tuple[asyncio.Event, asyncio.Event]:
    """Hold a method back; what is set when one came, and what lets it be answered."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def held(message: Message) -> Response:
        asked.set()
        await answer.wait()
        info: dict[str, Any] = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
        return result(message, info)

    server.on[method] = held
    return asked, answer


async def test_a_session_that_is_older_than_the_broker_ends_with_its_grant(tmp_path: Path, server: Scripted) -> None:
    upstreams = {"one": {"url": server.url, "policy": HOLD_ACT}}
    ping = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    async with playing(tmp_path, upstreams) as before:
        agent = await before.agent()
        session = await agent.open("one")
    async with playing(tmp_path, upstreams) as after:
        again = Agent(after.broker.url, agent.grant, agent.token, after.http)
        assert (await again.send("one", ping, session=session)).status == 200
        await after.revoke(again)
        await eventually(lambda: server.sessions == set())


async def test_a_server_that_is_slow_to_end_a_session_does_not_keep_other_grants_alive(
    scene: Scene, server: Scripted
) -> None:
    never = asyncio.Event()
    server.on["DELETE"] = lambda message: never.wait()  # pyright: ignore[reportArgumentType] - it never answers
    slow, other = await scene.agent(), await scene.agent()
    await slow.open("http")
    stream = await other.send("stdio", method="GET", session=await open_raw(other))
    await scene.revoke(slow)
    await asyncio.sleep(0.7)
    await scene.revoke(other)
    async with asyncio.timeout(SOON):
        await stream.whole()
    never.set()
