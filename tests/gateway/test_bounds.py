"""What goes up is what was shown, what an agent cannot take from others, and answers when nothing goes as it should."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text as sql
from starlette.responses import JSONResponse, Response

from broker.domain.approvals import Decision
from tests.gateway.scene import HOLD_ACT, Scene, block, playing, tool_call
from tests.servers.scripted import Message, Scripted

pytestmark = pytest.mark.timeout(60)

# -- what goes up -----------------------------------------------------------------------------------------------------


async def test_nothing_is_sent_beside_what_the_reviewer_saw(small: Scene, server: Scripted) -> None:
    agent = await small.agent()
    smuggled = "io.modelcontextprotocol/anything"
    asked = tool_call("act", {"x": 1})
    asked["params"]["_meta"] |= {smuggled: {"sudo": True}, "com.example/note": 1}
    held = await agent.send("one", {**asked, "extension": {"as": "root"}}, {"X-Tenant": "another"})
    approval = await small.broker.approvals.get(await small.submitted(agent))
    assert approval.call.params["_meta"] == {smuggled: {"sudo": True}, "com.example/note": 1}  # shown on the card
    await small.decide(approval.id)
    await held.message()
    (sent,) = server.calls
    assert set(sent) == {"jsonrpc", "id", "method", "params"}
    assert "x-tenant" not in server.sent[-1]


async def test_a_retry_with_another_envelope_member_of_meta_is_another_call(small: Scene, server: Scripted) -> None:
    agent = await small.agent()
    first = await agent.call("one", "act", {"x": 1})
    approval = await small.submitted(agent)
    first.leave()
    await small.happened("approval.abandoned", agent)
    again = await agent.call("one", "act", {"x": 1}, **{"io.modelcontextprotocol/anything": 1})
    assert await small.submitted(agent, 2) != approval
    again.leave()


# -- what one agent may take ------------------------------------------------------------------------------------------


async def test_an_agent_that_asks_for_too_much_is_told_to_wait(tmp_path: Path, server: Scripted) -> None:
    upstreams = {"one": {"url": server.url, "policy": HOLD_ACT}}
    async with playing(tmp_path, upstreams, approvals={"max_pending": 2, "max_per_hour": 3}) as scene:
        agent = await scene.agent()
        first, second = [await agent.call("one", "act", {"n": n}) for n in range(2)]
        await scene.submitted(agent, 2)
        refused = block(await (await agent.call("one", "act", {"n": 3})).message())
        assert (refused["status"], refused["retry"]) == ("limited", "later")
        assert "2 calls of this agent wait for approval already" in refused["reason"]
        for nth in (1, 2):
            await scene.review(agent, decision=Decision.REJECT, nth=nth)
        await asyncio.gather(first.message(), second.message())
        third = await agent.call("one", "act", {"n": 4})
        await scene.review(agent, decision=Decision.REJECT, nth=3)
        await third.message()
        fourth = block(await (await agent.call("one", "act", {"n": 5})).message())
        assert "3 approvals within an hour" in fourth["reason"]
    assert server.calls == []


async def test_what_no_person_can_look_at_is_not_held(small: Scene, server: Scripted) -> None:
    agent = await small.agent()
    told = block(await (await agent.call("one", "act", {"text": "x" * 300_000})).message())
    assert told["status"] == "denied"
    assert "a person is shown at most 262144" in told["reason"]
    assert server.calls == []


# -- when nothing goes as it should -----------------------------------------------------------------------------------


async def test_the_caller_hears_at_once_although_the_server_takes_its_time_to_list_its_tools(
    small: Scene, server: Scripted
) -> None:
    _, listed = server.list_tools_when_told()
    agent = await small.agent()
    async with asyncio.timeout(1):
        held = await agent.call("one", "act", progressToken="t")
        first = await held.event()
    assert first["params"] == {"progressToken": "t", "progress": 1, "message": "Looking up the tool"}
    listed.set()
    await small.review(agent)
    answer = await held.message()
    assert block(answer)["status"] == "approved"
    assert len(server.calls) == 1


async def test_a_caller_that_leaves_while_the_tools_are_listed_leaves_an_approval_that_knows(
    small: Scene, server: Scripted
) -> None:
    _, listed = server.list_tools_when_told()
    agent = await small.agent()
    held = await agent.call("one", "act")
    await held.line()
    held.leave()
    listed.set()
    approval = await small.submitted(agent)
    await small.happened("approval.abandoned", agent)
    await small.decide(approval)
    assert server.calls == []


async def test_a_session_that_its_client_ends_takes_its_held_calls_along(small: Scene, server: Scripted) -> None:
    agent = await small.agent()
    session = await agent.open("one")
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "act"}}
    held = await agent.send("one", call, session=session)
    await small.submitted(agent)
    assert (await agent.send("one", method="DELETE", session=session)).status == 200
    told = block(await held.message())
    assert (told["status"], told["cause"]) == ("withdrawn", "session")
    assert server.calls == []


async def test_a_server_that_answers_with_a_page_is_told_as_that(small: Scene, server: Scripted) -> None:
    async def page(message: Message) -> Response:
        return Response("<h1>hi</h1>", media_type="text/html")

    server.on["tools/call"] = page
    agent = await small.agent()
    for tool in ("look", "act"):
        answer = await agent.call("one", tool)
        if tool == "act":
            await small.review(agent)
        message = await answer.message()
        assert block(message)["status"] == "interrupted"
        assert "answered with HTTP 200 and text/html" in message["result"]["content"][0]["text"]


async def test_a_refusal_without_an_id_is_the_answer_to_the_approved_call(small: Scene, server: Scripted) -> None:
    error: dict[str, Any] = {"code": -32000, "message": "Too busy"}

    async def busy(message: Message) -> Response:
        return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, 400)

    server.on["tools/call"] = busy
    agent = await small.agent()
    held = await agent.call("one", "act")
    approval = await small.submitted(agent)
    await small.decide(approval)
    answer = await held.message()
    assert (answer["id"], answer["error"]) == (1, error)
    assert (await small.broker.approvals.get(approval)).state == "failed"


async def test_a_row_that_cannot_be_read_keeps_nobody_waiting(tmp_path: Path, server: Scripted) -> None:
    copied = "call_id, approval_id, upstream, tool, grant_id, verdict, rule, arguments_digest, detail, prev, digest"
    async with playing(tmp_path, {"one": {"url": server.url, "policy": HOLD_ACT}}) as scene:
        agent = await scene.agent()
        held = await agent.call("one", "act")
        approval = await scene.submitted(agent)

        def spoil(tx: Any) -> None:
            row = f"INSERT INTO audit (seq, at, kind, actor, {copied}) SELECT seq + 1, at, 'no.such', actor, {copied} "
            tx.connection.execute(sql(row + "FROM audit ORDER BY seq DESC LIMIT 1"))
            tx.connection.execute(sql("UPDATE chain_head SET seq = seq + 1"))

        await scene.broker.store.write(spoil)
        await scene.decide(approval)
        assert block(await held.message())["status"] == "approved"


async def test_a_server_that_fails_to_list_its_tools_after_a_while_is_told_on_the_stream(
    small: Scene, server: Scripted
) -> None:
    _, listed = server.list_tools_when_told()
    server.tools = [{"name": "act", "description": "\ud800"}]  # half a character has no place in a record
    agent = await small.agent()
    held = await agent.call("one", "act")
    assert await held.line() == b": keep-alive"
    listed.set()
    told = block(await held.message())
    assert (told["status"], server.calls) == ("unavailable", [])
