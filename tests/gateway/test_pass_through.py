"""What the broker does not judge passes as it is, in both eras, over stdio and HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import PromptReference
from starlette.responses import Response, StreamingResponse

from tests.gateway.scene import ERAS, Agent, Scene, block, modern, playing, text, told
from tests.gateway.streams import sse
from tests.servers import BOUND, TRANSPORTS
from tests.servers.scripted import Message, Scripted, result, tool

BOTH = [pytest.mark.parametrize("transport", TRANSPORTS), pytest.mark.parametrize("era", ERAS)]


def both(test: Any) -> Any:
    """Run a test in both eras over both transports."""
    for mark in BOTH:
        test = mark(test)
    return test


# -- real clients and a real server -----------------------------------------------------------------------------------


@both
async def test_the_tools_are_listed_without_those_that_are_hidden(agent: Agent, era: str, transport: str) -> None:
    async with agent.client(f"open-{transport}", era) as client:
        names = {found.name for found in (await client.list_tools()).tools}
    assert {"echo", "slow", "append_line", "failing"} <= names
    assert "secret" not in names


@both
async def test_prompts_resources_and_completions_pass(agent: Agent, era: str, transport: str) -> None:
    async with agent.client(f"open-{transport}", era) as client:
        assert [prompt.name for prompt in (await client.list_prompts()).prompts] == ["greeting"]
        prompt = await client.get_prompt("greeting", {"name": "Ada"})
        assert "Greet Ada." in prompt.model_dump_json()
        assert (await client.list_resource_templates()).resource_templates[0].uri_template == "note://{name}"
        note = await client.read_resource("note://Ada")
        assert "note of Ada" in note.model_dump_json()
        completed = await client.complete(PromptReference(name="greeting"), {"name": "name", "value": "A"})
        assert completed.completion.values == ["Anna"]
        assert client.server_info is not None
        assert client.server_info.name == "feature-server"


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_only_the_handshake_era_has_passes_too(agent: Agent, transport: str) -> None:
    async with agent.client(f"open-{transport}", "legacy") as client:
        assert client.protocol_version == "2025-11-25"
        await client.send_ping()  # pyright: ignore[reportDeprecated] - in the era that is tested it is not
        with pytest.raises(MCPError, match="Method not found"):  # the server's own word: it has no logging
            await client.set_logging_level("debug")  # pyright: ignore[reportDeprecated] - as above


@both
async def test_an_error_of_the_server_is_the_clients_error(agent: Agent, era: str, transport: str) -> None:
    async with agent.client(f"open-{transport}", era) as client:
        with pytest.raises(MCPError) as refused:
            await client.get_prompt("nothing", {})
        assert refused.value.error.message != ""
        bad = await client.call_tool("large", {"size": "no number"})
        assert bad.is_error
        assert "approval-broker/decision" not in (bad.meta or {})


@both
async def test_progress_comes_before_the_call_ends_and_other_calls_go_on_meanwhile(
    agent: Agent, era: str, transport: str
) -> None:
    started, heard = asyncio.Event(), list[str | None]()

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)
        if message == "step 3":
            started.set()

    name = f"{era} {transport}"
    async with agent.client(f"open-{transport}", era) as client:
        slow = asyncio.ensure_future(client.call_tool("slow", {"name": name}, progress_callback=hear))
        await asyncio.wait_for(started.wait(), BOUND)
        assert not slow.done()
        echoes = await asyncio.gather(*(client.call_tool("echo", {"text": str(number)}) for number in range(8)))
        assert [text(echo) for echo in echoes] == [str(number) for number in range(8)]
        await client.call_tool("release", {"name": name})
        assert text(await asyncio.wait_for(slow, BOUND)) == f"{name} done"
    assert heard == ["step 1", "step 2", "step 3"]


@both
async def test_a_held_call_does_not_block_an_allowed_one(scene: Scene, agent: Agent, era: str, transport: str) -> None:
    async with agent.client(f"open-{transport}", era) as client:
        held = asyncio.ensure_future(client.call_tool("append_line", {"line": f"beside {era} {transport}"}))
        approval = await scene.submitted(agent)
        assert text(await client.call_tool("echo", {"text": "through"})) == "through"
        assert not held.done()
        await scene.decide(approval)
        assert told(await asyncio.wait_for(held, BOUND))["approval_id"] == approval


@both
async def test_a_large_result_arrives_whole(agent: Agent, era: str, transport: str) -> None:
    size = 5 * 1024 * 1024
    async with agent.client(f"open-{transport}", era) as client:
        whole = await client.call_tool("large", {"size": size})
    assert text(whole) == "x" * size


@both
async def test_a_large_result_of_an_approved_call_arrives_whole_and_is_not_kept(
    scene: Scene, agent: Agent, era: str, transport: str
) -> None:
    size = 5 * 1024 * 1024
    async with agent.client(f"held-{transport}", era) as client:
        calling = asyncio.ensure_future(client.call_tool("large", {"size": size}))
        await scene.review(agent)
        whole = await calling
    assert text(whole) == "x" * size
    assert told(whole)["status"] == "approved"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_cancelled_call_that_is_under_way_is_cancelled_at_the_server(
    agent: Agent, effects: Any, transport: str
) -> None:
    upstream, name = f"open-{transport}", f"gone {transport}"
    session = await agent.open(upstream)
    call = {
        "jsonrpc": "2.0",
        "id": 9,
        "method": "tools/call",
        "params": {"name": "slow", "arguments": {"name": name}, "_meta": {"progressToken": 9}},
    }
    under_way = await agent.send(upstream, call, {"MCP-Protocol-Version": "2025-11-25"}, session=session)
    await under_way.event()
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}}
    assert (await agent.send(upstream, note, session=session)).status == 202
    async with asyncio.timeout(BOUND):
        while f"cancelled {name}" not in effects.read_text():
            await agent.send(upstream, {"jsonrpc": "2.0", "id": 10, "method": "ping"}, session=session)
    under_way.leave()


# -- the wire ---------------------------------------------------------------------------------------------------------


async def test_a_list_of_tools_keeps_its_pages_its_order_and_what_nobody_knows(small: Scene, server: Scripted) -> None:
    shown = [tool("zeta", unknown={"kept": [1.5, None, 2**70]}), tool("act"), {"odd": True}, 7]

    async def listed(message: Message) -> Response:
        assert message["params"].get("cursor") == "page 1"
        return result(message, {"tools": shown, "nextCursor": "page 2", "x-more": {"kept": 1}}, beside="kept")

    server.on["tools/list"] = listed
    answer = await (await (await small.agent()).send("one", modern("tools/list", {"cursor": "page 1"}, "id"))).message()
    assert answer == {
        "jsonrpc": "2.0",
        "id": "id",
        "result": {"resultType": "complete", "tools": shown, "nextCursor": "page 2", "x-more": {"kept": 1}},
        "beside": "kept",
    }


async def test_methods_and_notifications_that_nobody_knows_pass_with_all_they_carry(
    small: Scene, server: Scripted
) -> None:
    agent = await small.agent()
    session = await agent.open("one")
    strange = {"jsonrpc": "2.0", "id": "ü", "method": "x/unheard", "params": {"a": [1, None]}, "beside": {"k": 1}}
    note = {"jsonrpc": "2.0", "method": "notifications/unheard", "params": {"b": "\0"}}
    reply: dict[str, Any] = {"jsonrpc": "2.0", "id": 77, "result": {"roots": []}}
    assert (await (await agent.send("one", strange, session=session)).message())["error"]["data"] == {"kept": True}
    assert (await agent.send("one", note, session=session)).status == 202
    assert (await agent.send("one", reply, session=session)).status == 202
    assert server.seen[-3:] == [strange, note, reply]


async def test_an_upstream_never_sees_the_grant_nor_the_session_id_of_the_client(
    small: Scene, server: Scripted
) -> None:
    agent = await small.agent()
    session = await agent.open("one")
    await agent.send(
        "one", {"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"Cookie": "a=b", "X-Own": "passes"}, session=session
    )
    sent = server.sent[-1]
    assert agent.token not in json.dumps(server.sent)
    assert session not in json.dumps(server.sent)
    assert (sent["mcp-session-id"], sent["x-own"]) == ("s1", "passes")
    assert {"authorization", "cookie", "origin"}.isdisjoint(sent)


async def test_a_stream_passes_byte_for_byte(small: Scene, server: Scripted) -> None:
    body = b': hello\r\n\r\nid: 7\nretry: 10\nevent: message\ndata: {"jsonrpc":"2.0",\ndata: "method":"n"}\n\n'
    final: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {"content": [], "resultType": "complete", "odd": 1e-7},
    }

    async def look(message: Message) -> Response:
        return Response(body + sse(final), media_type="text/event-stream")

    server.on["tools/call"] = look
    answer = await (await small.agent()).call("one", "look")
    assert await answer.whole() == body + sse(final)


async def test_a_resumed_stream_does_not_show_what_is_hidden(tmp_path: Any, server: Scripted) -> None:
    """A legacy client that lost its connection asks for the events again (2025-11-25, Resumability)."""
    listed = {"jsonrpc": "2.0", "id": 4, "result": {"tools": [tool("act"), tool("look")]}}
    server.stream = b"id: 1\n" + sse(listed)
    policy = {"default": "allow", "hide": ["act"]}
    async with playing(tmp_path, {"one": {"url": server.url, "policy": policy}}) as own:
        agent = await own.agent()
        session = await agent.open("one")
        stream = await agent.send("one", method="GET", headers={"Last-Event-ID": "0"}, session=session)
        assert stream.headers["content-type"].startswith("text/event-stream")
        replayed = await stream.event()
    assert replayed == {**listed, "result": {"tools": [tool("look")]}}


async def test_a_server_that_goes_away_is_told_as_an_error_and_the_next_request_passes(
    small: Scene, server: Scripted
) -> None:
    async def break_off(message: Message) -> Response:
        return Response(status_code=302, headers={"location": "http://127.0.0.1:1/"})

    server.on["prompts/list"] = break_off
    agent = await small.agent()
    answer = await (await agent.send("one", modern("prompts/list", {}, 5))).message()
    assert (answer["id"], answer["error"]["code"]) == (5, -32603)
    del server.on["prompts/list"]
    assert (await (await agent.send("one", modern("prompts/list"))).message())["error"]["code"] == -32601


async def test_an_allowed_call_whose_server_dies_in_the_middle_is_told_as_interrupted(
    small: Scene, server: Scripted
) -> None:
    async def die(message: Message) -> Response:
        async def broken() -> AsyncGenerator[bytes]:
            yield sse({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}) + b'data: {"half'
            raise ConnectionAbortedError

        return StreamingResponse(broken(), media_type="text/event-stream")

    server.on["tools/call"] = die
    agent = await small.agent()
    answer = await (await agent.call("one", "look")).message()
    assert (block(answer)["status"], block(answer)["retry"]) == ("interrupted", "check")
    assert (await small.recorded(agent, "call.answered")).detail["outcome"] == "interrupted"
