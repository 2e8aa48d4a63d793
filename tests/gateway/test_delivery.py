"""An answer always has an end: whole, or with one clear word about what broke."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.responses import Response, StreamingResponse

from tests.gateway.scene import Agent, Scene, modern, text, told
from tests.gateway.streams import sse
from tests.servers.scripted import Message, Scripted, said

JSON, EVENTS = "application/json", "text/event-stream"
NOTE = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x"}}


def always(body: bytes, kind: str = JSON, *, dies: bool = False, status: int = 200) -> Any:
    """An answer that is these bytes, after which the server closes the connection properly or not."""

    async def answer(message: Message) -> Response:
        async def chunks() -> AsyncGenerator[bytes]:
            yield body
            if dies:
                raise ConnectionAbortedError

        return StreamingResponse(chunks(), status, media_type=kind)

    return answer


async def legacy(agent: Agent, method: str, params: dict[str, Any]) -> tuple[bytes, str]:
    """A request in a new session; its answer's body and kind."""
    session = await agent.open("one")
    answer = await agent.send("one", {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}, session=session)
    return await answer.whole(), answer.headers["content-type"]


ANSWER = sse({"jsonrpc": "2.0", "id": 1, "result": {}})
NOTHING = json.dumps({"jsonrpc": "2.0", "id": 99, "result": {}}).encode()
BROKEN = [
    pytest.param(b"", JSON, False, id="nothing"),
    pytest.param(b'{"jsonrpc": "2.0", "id": 1, "resu', JSON, False, id="half a text"),
    pytest.param(b'{"jsonrpc": "2.0", "id": 1, "resu', JSON, True, id="half a text and dead"),
    pytest.param(b"\xff\xfe\x00", JSON, False, id="no UTF-8"),
    pytest.param(NOTHING, JSON, False, id="the answer to another request"),
    pytest.param(b'{"jsonrpc": "2.0", "id": "1", "result": {}}', JSON, False, id="an id of another type"),
    pytest.param(b"[" * 1000, EVENTS, False, id="no events"),
    pytest.param(sse(NOTE), EVENTS, False, id="a stream without an answer"),
    pytest.param(sse(NOTE) + b"data: {nonsense\n\n", EVENTS, False, id="an event that is no JSON"),
    pytest.param(ANSWER + b"data: {nonsense\n\n", EVENTS, False, id="an answer together with what is no JSON"),
    pytest.param(sse(NOTE) + b'event: message\ndata: {"half', EVENTS, True, id="half an event"),
    pytest.param(sse(NOTE) + b"event: mess", EVENTS, True, id="half a field"),
    pytest.param(b"data: " + b"x" * 200_000, EVENTS, True, id="half a long event"),
]


@pytest.mark.parametrize(("body", "kind", "dies"), BROKEN)
async def test_a_call_whose_answer_is_none_is_told_as_interrupted(
    small: Scene, server: Scripted, body: bytes, kind: str, *, dies: bool
) -> None:
    server.on["tools/call"] = always(body, kind, dies=dies)
    agent = await small.agent()
    async with agent.client("one", "auto") as client:
        result = await client.call_tool("look", {})
    assert told(result)["status"] == "interrupted"
    assert text(result).count("may or may not have run") == 1
    row = await small.recorded(agent, "call.answered")
    assert row.detail["outcome"] == "interrupted"
    assert "why" in row.detail


@pytest.mark.parametrize(("body", "kind", "dies"), BROKEN)
async def test_any_other_request_whose_answer_is_none_gets_one_error(
    small: Scene, server: Scripted, body: bytes, kind: str, *, dies: bool
) -> None:
    server.on["prompts/list"] = always(body, kind, dies=dies)
    answer = await (await (await small.agent()).send("one", modern("prompts/list"))).message()
    assert (answer["id"], answer["error"]["code"]) == (1, -32603)
    assert "The MCP server" in answer["error"]["message"]


async def test_a_text_that_breaks_off_after_much_is_never_taken_for_whole(small: Scene, server: Scripted) -> None:
    server.on["tools/call"] = always(b'{"x": "' + b"y" * 1_000_000, dies=True)
    agent = await small.agent()
    answer = await agent.call("one", "look")
    with pytest.raises(Exception, match=r"(?i)payload"):
        await answer.whole()
    assert (await small.recorded(agent, "call.answered")).detail["outcome"] == "interrupted"


async def test_a_stream_that_can_be_resumed_ends_without_an_error(small: Scene, server: Scripted) -> None:
    """The client comes back for the rest (2025-11-25, Resumability and Redelivery)."""
    body = b"id: 7\nretry: 5\ndata:\n\n"
    for dies in (False, True):
        server.on["prompts/list"] = always(body, EVENTS, dies=dies)
        assert await legacy(await small.agent(), "prompts/list", {}) == (body, EVENTS + "; charset=utf-8")


async def test_a_stream_that_breaks_after_the_answer_gets_no_second_one(small: Scene, server: Scripted) -> None:
    async def answer(message: Message) -> Response:
        async def chunks() -> AsyncGenerator[bytes]:
            yield sse(json.loads(bytes(said(message).body)))
            raise ConnectionAbortedError

        return StreamingResponse(chunks(), media_type=EVENTS)

    server.on["tools/call"] = answer
    agent = await small.agent()
    whole = await (await agent.call("one", "look")).whole()
    assert whole.count(b"data:") == 1
    assert (await small.recorded(agent, "call.answered")).detail["outcome"] == "succeeded"


async def test_a_refusal_of_the_server_passes_as_it_is(small: Scene, server: Scripted) -> None:
    refusal = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no"},"odd":1e0}'
    server.on["tools/call"] = always(refusal, status=400)
    answer = await (await small.agent()).call("one", "look")
    assert (answer.status, await answer.whole()) == (400, refusal)


async def test_a_number_that_json_does_not_have_is_left_to_the_client(small: Scene, server: Scripted) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"structuredContent":{"mean":NaN}}}'
    server.on["tools/call"] = always(body)
    agent = await small.agent()
    assert await (await agent.call("one", "look")).whole() == body
    assert (await small.recorded(agent, "call.answered")).detail["outcome"] == "succeeded"


async def test_a_small_answer_passes_byte_for_byte_with_its_length(small: Scene, server: Scripted) -> None:
    body = b' {"id" : 1, "jsonrpc":"2.0",\n"result":{"content":[],"\\u0041":1e2, "n":12345678901234567890123}}\n'
    server.on["tools/call"] = always(body)
    answer = await (await small.agent()).call("one", "look")
    assert (await answer.whole(), answer.headers["content-length"]) == (body, str(len(body)))


async def test_a_call_that_is_left_while_its_answer_is_read_is_noted_as_cancelled(
    small: Scene, server: Scripted
) -> None:
    async def answer(message: Message) -> Response:
        async def chunks() -> AsyncGenerator[bytes]:
            yield b'{"jsonrpc"'
            caller.cancel()
            await caller_left.wait()

        return StreamingResponse(chunks(), media_type=JSON)

    caller_left = asyncio.Event()
    server.on["tools/call"] = answer
    agent = await small.agent()
    caller = asyncio.ensure_future(agent.call("one", "look"))
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert (await small.recorded(agent, "call.answered")).detail["outcome"] == "cancelled"
    caller_left.set()


async def test_a_call_whose_caller_leaves_with_the_answer_before_the_stream_ends_has_succeeded(
    small: Scene, server: Scripted
) -> None:
    async def answer(message: Message) -> Response:
        async def chunks() -> AsyncGenerator[bytes]:
            yield sse(json.loads(bytes(said(message).body)))
            await caller_left.wait()

        return StreamingResponse(chunks(), media_type=EVENTS)

    caller_left = asyncio.Event()
    server.on["tools/call"] = answer
    agent = await small.agent()
    called = await agent.call("one", "look")
    assert (await called.event())["id"] == 1
    called.leave()
    assert (await small.recorded(agent, "call.answered")).detail["outcome"] == "succeeded"
    caller_left.set()
