"""Held calls: what the caller hears while it waits, and what runs when it left, or when the world changed meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.responses import Response, StreamingResponse

from broker.domain.approvals import Decision
from broker.errors import AlreadyResolved
from tests.gateway.processes import children_running
from tests.gateway.scene import APPROVER, Agent, Scene, block, playing, text, told
from tests.gateway.streams import progress, sse
from tests.servers import BOUND, ROOT, TRANSPORTS
from tests.servers.scripted import Message, Scripted, said, scripted, tool

pytestmark = pytest.mark.timeout(60)


def lines(effects: Path) -> list[str]:
    """The effects of the feature server's tools."""
    return effects.read_text().splitlines()


async def caller_gone(scene: Scene, agent: Agent, approval: str, nth: int = 1) -> None:
    await scene.happened("approval.abandoned", agent, nth)
    assert (await scene.broker.approvals.get(approval)).caller == "gone"


# -- what the caller hears --------------------------------------------------------------------------------------------


async def test_a_caller_that_asks_for_progress_hears_of_it_at_once(small: Scene) -> None:
    agent = await small.agent()
    held = await agent.call("one", "act", progressToken="token")
    async with asyncio.timeout(1):
        first = await held.event()
    approval = await small.submitted(agent)
    params = first["params"]
    assert first["method"] == "notifications/progress"
    assert (params["progressToken"], params["progress"]) == ("token", 1)
    assert params["message"].endswith(f" left: {small.broker.url}/approvals/{approval}")
    assert "an approver" in params["message"]
    assert len(params["message"]) <= 200
    await small.decide(approval)
    assert block(await held.message())["status"] == "approved"


async def test_a_caller_that_does_not_ask_for_progress_gets_comments(small: Scene) -> None:
    agent = await small.agent()
    held = await agent.call("one", "act")
    async with asyncio.timeout(1):
        assert (await held.line()).startswith(b":")
    await small.review(agent)
    body = await held.whole()
    assert b"notifications/progress" not in body
    assert body.count(b"data:") == 1


async def test_the_message_stays_short_however_many_are_asked(tmp_path: Path, server: Scripted) -> None:
    approvers = [f"person-{number}@a-long-name.example.com" for number in range(20)] + [APPROVER.email]
    policy = {"default": "hold", "tools": {"act": {"action": "hold", "approval": {"approvers": approvers}}}}
    async with playing(tmp_path, {"one": {"url": server.url, "policy": policy}}) as scene:
        agent = await scene.agent()
        held = await agent.call("one", "act", progressToken=1)
        message = (await held.event())["params"]["message"]
        assert len(message) <= 200
        assert message.endswith(f"/approvals/{await scene.submitted(agent)}")
        held.leave()


async def test_the_upstreams_progress_continues_above_the_brokers(small: Scene, server: Scripted) -> None:
    async def act(message: Message) -> Response:
        final = json.loads(bytes(said(message).body))
        body = sse(progress(message, 0.5, total=2, unknown="kept"), progress(message, 2, total=2), final)
        return Response(body, media_type="text/event-stream")

    server.on["tools/call"] = act
    agent = await small.agent()
    held = await agent.call("one", "act", progressToken="t")
    assert (await held.event())["params"]["progress"] == 1
    await small.review(agent)
    raised = [(await held.event())["params"] for _ in range(3)]
    assert raised == [
        {"progressToken": "t", "progress": 2, "message": "Approved."},
        {"progressToken": "t", "progress": 2.5, "total": 4, "unknown": "kept"},
        {"progressToken": "t", "progress": 4, "total": 4},
    ]
    assert block(await held.event())["status"] == "approved"


async def test_what_else_the_upstream_says_during_an_approved_call_passes(small: Scene, server: Scripted) -> None:
    note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "hello"}}
    strange = {"jsonrpc": "2.0", "method": "notifications/unknown", "extra": [1]}

    async def act(message: Message) -> Response:
        final = json.loads(bytes(said(message, unknown={"kept": True}).body))
        return Response(sse(note, strange, final), media_type="text/event-stream")

    server.on["tools/call"] = act
    agent = await small.agent()
    held = await agent.call("one", "act")
    await small.review(agent)
    assert [await held.event(), await held.event()] == [note, strange]
    assert (await held.event())["result"]["unknown"] == {"kept": True}


async def test_an_error_of_the_upstream_is_told_as_it_is_and_the_approval_failed(
    small: Scene, server: Scripted
) -> None:
    error = {"code": -32602, "message": "no such display", "data": {"kept": 1}}

    async def act(message: Message) -> Response:
        return Response(
            json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}), media_type="application/json"
        )

    server.on["tools/call"] = act
    agent = await small.agent()
    held = await agent.call("one", "act")
    approval = (await small.review(agent)).id
    assert (await held.message())["error"] == error
    assert (await small.broker.approvals.get(approval)).state == "failed"


@pytest.mark.parametrize("depth", [1, 200, 700, 980, 1020])
@pytest.mark.parametrize("words", ["whole", "half \\ud800"])
async def test_a_call_that_ran_is_never_left_without_an_answer_however_odd_its_result(
    small: Scene, server: Scripted, depth: int, words: str
) -> None:
    """It ran: an agent that hears nothing does it again."""
    body = '{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"%s"}],"deep":%s}}'
    whole = body % (words, "[" * depth + "]" * depth)

    async def act(message: Message) -> Response:
        return Response(whole, media_type="application/json")

    server.on["tools/call"] = act
    agent = await small.agent()
    held = await agent.call("one", "act")
    approval = (await small.review(agent)).id
    answer = await held.message()
    assert (await small.broker.approvals.get(approval)).state in ("succeeded", "interrupted")
    assert block(answer)["status"] in ("approved", "interrupted")


# -- a caller that leaves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decision", list(Decision))
async def test_for_a_caller_that_closed_its_connection_nothing_runs(
    small: Scene, server: Scripted, decision: Decision
) -> None:
    agent = await small.agent()
    held = await agent.call("one", "act")
    approval = await small.submitted(agent)
    held.leave()
    await caller_gone(small, agent, approval)
    decided = await small.decide(approval, decision)
    assert decided.caller == "gone"
    await agent.call("one", "look")  # a whole round trip later
    assert [call["params"]["name"] for call in server.calls] == ["look"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_legacy_caller_that_cancels_gets_no_answer_and_nothing_runs(
    scene: Scene, agent: Agent, effects: Path, transport: str
) -> None:
    upstream = f"held-{transport}"
    session = await agent.open(upstream)
    line = f"cancelled {transport}"
    call = {
        "jsonrpc": "2.0",
        "id": "c1",
        "method": "tools/call",
        "params": {"name": "append_line", "arguments": {"line": line}},
    }
    held = await agent.send(upstream, call, session=session)
    approval = await scene.submitted(agent)
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "c1"}}
    assert (await agent.send(upstream, note, session=session)).status == 202
    assert b"data:" not in await held.whole()
    row = await scene.happened("approval.abandoned", agent)
    assert row.detail["why"] == "cancelled"
    await caller_gone(scene, agent, approval)
    await scene.decide(approval)
    await agent.send(upstream, {"jsonrpc": "2.0", "id": 2, "method": "ping"}, session=session)
    assert line not in lines(effects)


async def test_another_grants_cancellation_does_not_end_a_held_call(scene: Scene, agent: Agent) -> None:
    mine = await agent.open("held-http")
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "x"}}}
    held = await agent.send("held-http", call, session=mine)
    approval = await scene.submitted(agent)
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    other = await scene.agent()
    await other.send("held-http", note, session=await other.open("held-http"))
    await agent.send("held-http", note, session=await agent.open("held-http"))  # another session of the same grant
    await scene.decide(approval)
    assert block(await held.message())["status"] == "approved"


CLIENT_PROCESS = """
import asyncio, sys
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
async def main(url, token, mode, line):
    http = create_mcp_http_client(headers={"Authorization": "Bearer " + token})
    async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
        await client.call_tool("append_line", {"line": line})
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_for_a_client_that_was_killed_nothing_runs(
    scene: Scene, agent: Agent, effects: Path, mode: str, transport: str
) -> None:
    """Since 2026-07-28 its closed stream is a cancel; before, it was lost and may come back all the time."""
    line = f"killed {mode} {transport}"
    upstream = f"held-{transport}"
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT_PROCESS, agent.at(upstream), agent.token, mode, line, cwd=ROOT
    )
    try:
        approval = await scene.submitted(agent)
    finally:
        os.kill(client.pid, signal.SIGKILL)
        await client.wait()
    await caller_gone(scene, agent, approval)
    left = await scene.broker.approvals.get(approval)
    assert (left.withdraw_at is not None) is (mode == "auto")
    await scene.decide(approval)
    again = await agent.call(upstream, "echo", {"text": "a round trip"})
    await scene.review(agent, nth=2)
    await again.message()
    assert line not in lines(effects)
    assert (await scene.broker.approvals.get(approval)).state == "approved"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_identical_call_picks_up_what_its_gone_caller_asked(
    small: Scene, server: Scripted, when: str
) -> None:
    agent = await small.agent()
    held = await agent.call("one", "act", {"n": 1}, progressToken="first")
    approval = await small.submitted(agent)
    held.leave()
    await caller_gone(small, agent, approval)
    if when == "before":
        await small.decide(approval)
    other = await agent.call("one", "act", {"n": 2})  # not identical: an approval of its own
    assert await small.submitted(agent, 2) != approval
    other.leave()
    again = await agent.call("one", "act", {"n": 1}, progressToken="second")
    if when == "after":
        await small.happened("approval.resumed", agent)
        await small.decide(approval)
    answer = await again.message()
    assert block(answer)["approval_id"] == approval
    assert [call["params"]["arguments"] for call in server.calls] == [{"n": 1}]
    assert server.calls[0]["params"]["_meta"]["progressToken"] == "second"
    third = await agent.call("one", "act", {"n": 1})  # it was used once: a new call asks anew
    assert await small.submitted(agent, 3) != approval
    third.leave()


async def test_two_identical_calls_that_wait_together_are_two_approvals(small: Scene, server: Scripted) -> None:
    agent = await small.agent()
    calls = [await agent.call("one", "act", {"same": True}) for _ in range(2)]
    ids = [await small.submitted(agent, nth) for nth in (1, 2)]
    assert ids[0] != ids[1]
    await small.decide(ids[1])
    assert block(await calls[1].message())["approval_id"] == ids[1]
    assert len(server.calls) == 1
    await small.decide(ids[0], Decision.REJECT)
    assert block(await calls[0].message())["status"] == "rejected"
    assert len(server.calls) == 1


async def test_another_grant_does_not_pick_up_what_this_one_was_approved(small: Scene, server: Scripted) -> None:
    agent, other = await small.agent(), await small.agent()
    held = await agent.call("one", "act")
    approval = await small.submitted(agent)
    held.leave()
    await caller_gone(small, agent, approval)
    await small.decide(approval)
    theirs = await other.call("one", "act")
    assert await small.submitted(other) != approval
    assert server.calls == []
    theirs.leave()


async def test_a_caller_that_leaves_between_the_approval_and_its_claim_gets_nothing_run(
    small: Scene, server: Scripted
) -> None:
    """The tool list, asked for before the claim, is answered only when the caller has left."""
    agent = await small.agent()
    held = await agent.call("one", "act")
    approval = await small.submitted(agent)
    asked, answer = server.list_tools_when_told()
    await small.decide(approval)
    await asyncio.wait_for(asked.wait(), BOUND)
    held.leave()
    await agent.call("one", "look")  # the broker has seen the other connection close by then
    del server.on["tools/list"]
    answer.set()
    await caller_gone(small, agent, approval)
    assert (await small.broker.approvals.get(approval)).state == "approved"
    assert [call["params"]["name"] for call in server.calls] == ["look"]
    again = await agent.call("one", "act")
    assert block(await again.message())["approval_id"] == approval
    assert [call["params"]["name"] for call in server.calls] == ["look", "act"]


async def test_an_approval_that_ends_between_the_decision_and_its_claim_is_told_as_it_ended(
    tmp_path: Path, server: Scripted
) -> None:
    policy = {"default": "hold"}
    upstreams = {"one": {"url": server.url, "policy": policy}}
    async with playing(tmp_path, upstreams, approvals={"execute_within": "1s"}) as scene:
        agent = await scene.agent()
        held = await agent.call("one", "act")
        approval = await scene.submitted(agent)
        _, answer = server.list_tools_when_told()
        await scene.decide(approval)
        await scene.happened("approval.expired", agent)
        answer.set()
        said = await held.message()
        assert (block(said)["status"], block(said)["cause"]) == ("expired", "unused")
        assert block(said)["retry"] == "ask"
        assert server.calls == []


# -- decisions --------------------------------------------------------------------------------------------------------


async def test_a_second_decision_changes_nothing_and_hears_who_decided(small: Scene, server: Scripted) -> None:
    agent = await small.agent()
    held = await agent.call("one", "act")
    approval = await small.submitted(agent)
    await small.decide(approval, Decision.REJECT)
    with pytest.raises(AlreadyResolved, match=APPROVER.email):
        await small.decide(approval)
    assert block(await held.message())["status"] == "rejected"
    assert server.calls == []


async def test_two_held_calls_are_answered_in_the_order_of_their_decisions(small: Scene, server: Scripted) -> None:
    agent = await small.agent()
    first, second = await agent.call("one", "act", {"n": 1}), await agent.call("one", "act", {"n": 2})
    await small.review(agent, nth=2)
    assert block(await second.message())["status"] == "approved"
    assert [call["params"]["arguments"] for call in server.calls] == [{"n": 2}]
    await small.review(agent, nth=1)
    assert block(await first.message())["status"] == "approved"
    assert [call["params"]["arguments"] for call in server.calls] == [{"n": 2}, {"n": 1}]


# -- a world that changes ---------------------------------------------------------------------------------------------


async def test_when_the_grant_is_revoked_nothing_runs_and_the_caller_hears_why(small: Scene, server: Scripted) -> None:
    agent = await small.agent()
    held = await agent.call("one", "act")
    approval = await small.submitted(agent)
    await small.revoke(agent)
    facts = block(answer := await held.message())
    assert (facts["status"], facts["cause"], facts["retry"]) == ("withdrawn", "grant", "ask")
    assert "the agent's grant ended" in answer["result"]["content"][0]["text"]
    with pytest.raises(AlreadyResolved):
        await small.decide(approval)
    assert server.calls == []


@pytest.mark.parametrize("change", ["description", "schema", "annotations"])
async def test_when_the_tool_changed_after_it_was_approved_nothing_runs(
    small: Scene, server: Scripted, change: str
) -> None:
    agent = await small.agent()
    held = await agent.call("one", "act")
    approval = await small.submitted(agent)
    server.tools = {
        "description": [tool("act", "Deletes everything.")],
        "schema": [{**tool("act"), "inputSchema": {"type": "object", "properties": {"x": {}}}}],
        "annotations": [tool("act", annotations={"destructiveHint": True})],
    }[change]
    await small.decide(approval)
    facts = block(await held.message())
    assert (facts["status"], facts["cause"]) == ("withdrawn", "tool")
    assert server.calls == []
    server.tools = [tool("act")]


async def test_when_the_tool_vanished_nothing_runs(small: Scene, server: Scripted) -> None:
    agent = await small.agent()
    held = await agent.call("one", "act")
    server.tools = []
    await small.review(agent)
    facts = block(await held.message())
    assert (facts["status"], facts["cause"]) == ("withdrawn", "tool")
    assert server.calls == []


# -- a server that goes away ------------------------------------------------------------------------------------------


async def test_when_the_server_dies_in_the_middle_the_agent_hears_that_it_may_have_run(
    small: Scene, server: Scripted
) -> None:
    async def act(message: Message) -> Response:
        async def broken() -> AsyncGenerator[bytes]:
            yield sse(progress(message, 1))
            raise ConnectionAbortedError

        return StreamingResponse(broken(), media_type="text/event-stream")

    server.on["tools/call"] = act
    agent = await small.agent()
    held = await agent.call("one", "act", progressToken="t")
    approval = (await small.review(agent)).id
    answer = await held.message()
    assert (block(answer)["status"], block(answer)["retry"]) == ("interrupted", "check")
    assert "may or may not have run" in answer["result"]["content"][0]["text"]
    assert (await small.broker.approvals.get(approval)).state == "interrupted"
    again = await agent.call("one", "act", progressToken="t")  # never run again by itself
    assert await small.submitted(agent, 2) != approval
    assert len(server.calls) == 1
    again.leave()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"nonsense", "application/json"),
        (b"<html>", "text/html"),
        (b"", "text/event-stream"),
        (b"data: {}\n\n", "text/event-stream"),
        (b'{"jsonrpc":"2.0","id":99,"result":{}}', "application/json"),
    ],
)
@pytest.mark.parametrize("status", [200, 500])
async def test_an_answer_that_is_none_leaves_the_outcome_open(
    small: Scene, server: Scripted, body: bytes, kind: str, status: int
) -> None:
    async def act(message: Message) -> Response:
        return Response(body, status, media_type=kind)

    server.on["tools/call"] = act
    agent = await small.agent()
    held = await agent.call("one", "act")
    await small.review(agent)
    assert block(await held.message())["status"] == "interrupted"
    assert len(server.calls) == 1


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_when_the_process_of_a_stdio_server_dies_in_the_middle_too(scene: Scene, agent: Agent, mode: str) -> None:
    started = asyncio.Event()

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        if message == "step 3":
            started.set()

    async with agent.client("held-stdio", mode) as client:
        calling = asyncio.ensure_future(client.call_tool("slow", {"name": "dies"}, progress_callback=heard))
        approval = (await scene.review(agent)).id
        await asyncio.wait_for(started.wait(), BOUND)
        for pid in children_running("feature_server --stdio"):
            os.kill(pid, signal.SIGKILL)
        facts = await asyncio.wait_for(calling, BOUND)
    assert told(facts)["status"] == "interrupted"
    assert "may or may not have run" in text(facts)
    assert (await scene.broker.approvals.get(approval)).state == "interrupted"


async def test_an_approval_survives_a_server_that_is_away_and_the_identical_call_runs_it_once(tmp_path: Path) -> None:
    async with scripted() as server:
        port = urlsplit(server.url).port or 0
    upstreams = {"one": {"url": server.url, "policy": {"default": "hold"}}}
    async with playing(tmp_path, upstreams) as scene:
        agent = await scene.agent()
        async with scripted(port):
            held = await agent.call("one", "act", {"n": 1})
            approval = await scene.submitted(agent)
        await scene.decide(approval)
        answer = await held.message()
        assert (block(answer)["status"], block(answer)["approval_id"]) == ("unavailable", approval)
        assert "repeat the identical call" in answer["result"]["content"][0]["text"]
        refused = await agent.call("one", "act", {"n": 1})
        assert block(await refused.message())["status"] == "unavailable"
        assert (await scene.broker.approvals.get(approval)).state == "approved"
        async with scripted(port) as server:
            again = await agent.call("one", "act", {"n": 1})
            assert block(await again.message())["approval_id"] == approval
            assert len(server.calls) == 1
