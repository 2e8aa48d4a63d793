"""Held calls of clients that know MCP's tasks: answered at once, run with nobody connected, told for a day."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from broker.approvals.sweeps import sweep
from broker.approvals.tasks import LARGEST_ANSWER
from broker.domain.answers import META_KEY
from broker.domain.approvals import Decision
from broker.errors import AlreadyResolved
from broker.policy.load import parse_policy
from tests.clock import MovableClock
from tests.gateway.scene import ENVELOPE, HOLD_ACT, Scene, block, modern, playing
from tests.gateway.tasking import CAPABLE, EXTENSION, TaskClient
from tests.gateway.test_cancelling import Running
from tests.gateway.test_holding import lines
from tests.servers.scripted import Message, Scripted, result, said, tool

pytestmark = pytest.mark.timeout(60)

DAY = timedelta(days=1)
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
APPROVED = ["approval.submitted", "approval.approved"]
RAN = [*APPROVED, "approval.claimed", "approval.succeeded"]


@pytest.fixture
async def client(small: Scene) -> TaskClient:
    return TaskClient(await small.agent())


@pytest.fixture
async def timed(tmp_path: Path, server: Scripted, clock: MovableClock) -> AsyncGenerator[Scene]:
    """A broker of the test's own, on its clock."""
    async with playing(tmp_path, {"one": {"url": server.url, "policy": HOLD_ACT}}, clock=clock) as made:
        yield made


def own_block(told: dict[str, Any]) -> dict[str, Any]:
    """The broker's block in a finished task."""
    return told["result"]["_meta"][META_KEY]


# -- advertised -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theirs", [None, {}, {"extensions": {EXTENSION: {"own": 1}, "x/y": {}}}, {"extensions": None}])
async def test_the_extension_is_advertised_and_what_the_server_says_of_its_own_stays(
    small: Scene, server: Scripted, client: TaskClient, theirs: Any
) -> None:
    said_of_itself: dict[str, Any] = {"supportedVersions": ["2026-07-28"], "other": [1]}

    async def discovered(message: Message) -> Response:
        own: dict[str, Any] = {"capabilities": {"tools": {}, **theirs}} if theirs is not None else {}
        return result(message, {**said_of_itself, **own})

    server.on["server/discover"] = discovered
    told = (await (await client.agent.send("one", modern("server/discover"))).message())["result"]
    extensions = told["capabilities"]["extensions"]
    assert extensions[EXTENSION] == ({"own": 1} if theirs and theirs["extensions"] else {})
    assert ("x/y" in extensions) is bool(theirs and theirs["extensions"])
    assert {key: told[key] for key in said_of_itself} == said_of_itself


async def test_a_server_that_does_not_discover_is_not_spoken_for(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    async def refuse(message: Message) -> Response:
        error = {"code": -32603, "message": "not now"}
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "error": error}, 500)

    server.on["server/discover"] = refuse
    told = await (await client.agent.send("one", modern("server/discover"))).message()
    assert told["error"]["message"] == "not now"


# -- held as a task ---------------------------------------------------------------------------------------------------


async def test_a_held_call_is_a_task_at_once_and_its_result_is_there_when_it_was_approved(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    created = await client.begin(arguments={"n": 1})
    assert created["status"] == "working"
    approval = await small.broker.approvals.get(created["taskId"])
    assert (approval.state, approval.caller, approval.call.arguments) == ("pending", "task", {"n": 1})
    assert server.calls == []
    told = await client.get(created["taskId"])
    assert {**told, "resultType": "task"} == created
    await small.decide(created["taskId"])
    told = await client.until(created["taskId"], "completed")
    assert told["result"]["content"][0]["text"] == "done"
    assert (own_block(told)["status"], own_block(told)["approval_id"]) == ("approved", created["taskId"])
    assert await client.get(created["taskId"]) == told
    assert await small.kinds(client.agent) == RAN
    assert len(server.calls) == 1


async def test_what_is_awaited_is_told_in_words_for_a_person(small: Scene, client: TaskClient) -> None:
    created = await client.begin()
    card = f"{small.broker.url}/approvals/{created['taskId']}"
    assert created["statusMessage"] == f"Waiting for approval by an approver, 15 min left: {card}"
    assert created["ttlMs"] == (timedelta(minutes=30) + DAY) / timedelta(milliseconds=1)
    assert created["pollIntervalMs"] == 5000


async def test_a_call_that_need_not_be_held_is_answered_as_ever_and_keeps_the_capability(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    answer = (await (await client.call("look")).message())["result"]
    assert (answer["resultType"], answer["content"][0]["text"]) == ("complete", "done")
    assert server.calls[0]["params"]["_meta"][CAPABILITIES] == CAPABLE[CAPABILITIES]


async def test_a_held_call_is_sent_as_it_was_asked_but_for_the_capability_and_the_progress_token(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    numbered = {"n": {"type": "string", "x-mcp-header": "N"}}
    server.tools = [tool("act", inputSchema={"type": "object", "properties": numbered})]
    capabilities = {"sampling": {}, "extensions": {EXTENSION: {}, "x/y": {"z": 1}}}
    meta = {CAPABILITIES: capabilities, "progressToken": "p", "traceparent": "00-1-2-03", "own": 1}
    params = {"name": "act", "arguments": {"n": "7"}, "other": True, "_meta": meta}
    answer = await client.agent.send("one", modern("tools/call", params), {"Mcp-Param-N": "7", "X-Else": "1"})
    task_id = (await answer.message())["result"]["taskId"]
    await small.decide(task_id)
    await client.until(task_id, "completed")
    (sent,) = server.calls
    assert {key: value for key, value in sent["params"].items() if key != "_meta"} == {
        key: value for key, value in params.items() if key != "_meta"
    }
    left = {**capabilities, "extensions": {"x/y": {"z": 1}}}
    assert sent["params"]["_meta"] == {**ENVELOPE, CAPABILITIES: left, "traceparent": "00-1-2-03", "own": 1}
    fields = server.sent[server.seen.index(sent)]
    assert (fields["mcp-param-n"], fields["mcp-name"], fields["mcp-method"]) == ("7", "act", "tools/call")
    assert fields["mcp-protocol-version"] == "2026-07-28"
    assert "x-else" not in fields


async def test_a_task_runs_at_a_server_that_is_a_process_with_nobody_connected(scene: Scene, effects: Path) -> None:
    client = TaskClient(await scene.agent(), "open-stdio")
    line = f"by a task {client.agent.grant.id}"
    task = (await client.begin("append_line", {"line": line}))["taskId"]
    assert line not in lines(effects)
    await scene.decide(task)
    told = await client.until(task, "completed")
    assert (own_block(told)["status"], told["result"]["isError"]) == ("approved", False)
    assert lines(effects).count(line) == 1


async def test_two_identical_calls_are_two_tasks(small: Scene, server: Scripted, client: TaskClient) -> None:
    first, second = await client.begin(), await client.begin()
    assert first["taskId"] != second["taskId"]
    await small.decide(second["taskId"])
    await client.until(second["taskId"], "completed")
    assert (await client.get(first["taskId"]))["status"] == "working"
    assert len(server.calls) == 1


async def test_a_call_that_waits_on_a_line_never_takes_a_task_over(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    task = await client.begin()
    held = await client.agent.call("one", "act")
    assert await small.submitted(client.agent, 2) != task["taskId"]
    held.leave()


@pytest.mark.parametrize("approved", [False, True])
async def test_the_identical_call_makes_a_task_of_what_a_caller_that_went_away_left(
    small: Scene, server: Scripted, client: TaskClient, approved: bool
) -> None:
    held = await client.agent.call("one", "act")
    approval = await small.submitted(client.agent)
    held.leave()
    await small.happened("approval.abandoned", client.agent)
    if approved:
        await small.decide(approval)
    assert (await client.begin())["taskId"] == approval
    if not approved:
        await small.decide(approval)
    await client.until(approval, "completed")
    assert len(server.calls) == 1


async def test_an_agent_that_leaves_before_it_is_told_the_id_has_no_task_and_nothing_runs_for_it(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    asked, answer = server.list_tools_when_told()
    calling = asyncio.ensure_future(client.call())
    await asked.wait()
    calling.cancel()
    await asyncio.wait([calling])
    answer.set()
    await small.happened("approval.abandoned", client.agent)
    approval = await small.submitted(client.agent)
    await small.decide(approval)
    assert (await client.ask("tasks/get", approval))["error"]["code"] == -32602
    assert (await client.begin())["taskId"] == approval  # which picks it up, as any identical call does
    await client.until(approval, "completed")


async def test_what_is_refused_is_refused_as_for_any_client(small: Scene, client: TaskClient) -> None:
    task = await client.begin()
    await small.decide(task["taskId"], Decision.REJECT, reason="not today")
    told = await client.until(task["taskId"], "completed")
    assert told["result"]["isError"] is True
    assert (own_block(told)["status"], own_block(told)["reason"]) == ("rejected", "not today")
    again = await (await client.call()).message()  # remembered
    assert (again["result"]["resultType"], block(again)["status"]) == ("complete", "rejected")


async def test_before_2026_a_client_is_never_given_a_task_and_its_core_tasks_pass(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    agent = client.agent
    session = await agent.open("one")
    capable = {CAPABILITIES: CAPABLE[CAPABILITIES]}
    params = {"name": "act", "arguments": {}, "_meta": capable}
    fields = {"MCP-Protocol-Version": None, "Mcp-Method": None, "Mcp-Name": None}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    held = await agent.send("one", call, fields, session=session)
    assert held.headers["content-type"] == "text/event-stream"
    task = await small.submitted(agent)
    held.leave()
    get = {"jsonrpc": "2.0", "id": 2, "method": "tasks/get", "params": {"taskId": task}}
    answer = await (await agent.send("one", get, fields, session=session)).message()
    assert answer["error"]["data"] == {"kept": True}  # the server's own word


# -- how it ends ------------------------------------------------------------------------------------------------------


async def test_a_tools_own_error_completes_a_task_and_a_protocol_error_fails_it(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    answers: list[Response] = []

    async def answer(message: Message) -> Response:
        if not answers:
            answers.append(said(message, "no", isError=True))
            return answers[0]
        error = {"code": -32000, "message": "broken", "data": {"why": [1]}}
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "error": error})

    server.on["tools/call"] = answer
    first = await client.begin()
    await small.decide(first["taskId"])
    told = await client.until(first["taskId"], "completed")
    assert told["result"]["isError"] is True
    assert own_block(told)["status"] == "approved"
    second = await client.begin()
    await small.decide(second["taskId"])
    told = await client.until(second["taskId"], "failed")
    assert told["error"] == {"code": -32000, "message": "broken", "data": {"why": [1]}}
    assert "statusMessage" in told


async def test_an_answer_that_is_too_large_to_keep_is_said_to_be_gone(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    async def answer(message: Message) -> Response:
        return said(message, "x" * LARGEST_ANSWER)

    server.on["tools/call"] = answer
    task = await client.begin()
    await small.decide(task["taskId"])
    told = await client.until(task["taskId"], "completed")
    assert "the server's answer cannot be given any more" in told["result"]["content"][0]["text"]
    assert (own_block(told)["status"], own_block(told)["retry"]) == ("interrupted", "check")


async def test_a_task_that_nobody_answers_is_completed_with_that(
    timed: Scene, server: Scripted, clock: MovableClock
) -> None:
    client = TaskClient(await timed.agent())
    task = await client.begin()
    clock.advance(timedelta(minutes=15))
    await sweep(timed.broker.approvals)
    told = await client.get(task["taskId"])
    assert (told["status"], own_block(told)["status"], own_block(told)["cause"]) == (
        "completed",
        "expired",
        "unanswered",
    )
    assert server.calls == []


async def test_a_task_is_known_for_a_day_after_its_end_and_then_nothing_of_it_is_left(
    timed: Scene, server: Scripted, clock: MovableClock
) -> None:
    client = TaskClient(await timed.agent())
    task = await client.begin()
    await timed.decide(task["taskId"])
    told = await client.until(task["taskId"], "completed")
    clock.advance(timedelta(milliseconds=told["ttlMs"] - 1))
    await sweep(timed.broker.approvals)
    assert await client.get(task["taskId"]) == told
    clock.advance(timedelta(milliseconds=1))
    assert (await client.ask("tasks/get", task["taskId"]))["error"]["code"] == -32602
    await sweep(timed.broker.approvals)
    with timed.broker.store.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM tasks").scalar_one() == 0


async def test_a_server_that_cannot_be_reached_is_tried_again_while_the_approval_lasts(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    task = await client.begin()
    tries: list[Message] = []

    async def not_yet(message: Message) -> Response:
        tries.append(message)
        return Response(status_code=503) if len(tries) == 1 else result(message, {"tools": server.tools})

    server.on["tools/list"] = not_yet
    await small.decide(task["taskId"])
    assert (await client.until(task["taskId"], "completed"))["result"]["content"][0]["text"] == "done"
    assert len(server.calls) == 1


async def test_a_policy_that_denies_it_meanwhile_ends_it(small: Scene, client: TaskClient) -> None:
    policy = small.broker.policies["one"].policy
    task = await client.begin()
    deny = parse_policy(json.dumps({"version": "1", "default": "deny", "tools": {}}), "deny.json")
    try:
        small.broker.policies["one"].policy = deny
        await small.decide(task["taskId"])
        told = await client.until(task["taskId"], "completed")
    finally:
        small.broker.policies["one"].policy = policy
    assert (own_block(told)["status"], own_block(told)["cause"]) == ("withdrawn", "policy")


async def test_a_revoked_grants_task_does_not_run(small: Scene, server: Scripted, client: TaskClient) -> None:
    task = await client.begin()
    await small.revoke(client.agent)
    with suppress(AlreadyResolved):  # somebody looked already
        await small.decide(task["taskId"])
    row = await small.happened("approval.withdrawn", client.agent)
    assert row.detail["cause"] == "grant"
    assert server.calls == []


# -- cancelling -------------------------------------------------------------------------------------------------------


async def test_a_task_that_waits_for_people_is_withdrawn_when_it_is_cancelled(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    task = await client.begin()
    await client.cancel(task["taskId"])
    assert (await client.get(task["taskId"]))["status"] == "cancelled"
    row = await small.happened("approval.withdrawn", client.agent)
    assert (row.detail["cause"], row.actor) == ("task", f"agent:{client.agent.grant.id}")
    await client.cancel(task["taskId"])  # once more changes nothing
    assert await small.kinds(client.agent) == ["approval.submitted", "approval.withdrawn"]


async def test_a_task_that_runs_is_cancelled_at_its_server_and_nobody_claims_to_know_its_outcome(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    running = Running(server)
    task = await client.begin()
    await small.decide(task["taskId"])
    await running.began.wait()
    await client.cancel(task["taskId"])
    told = await client.until(task["taskId"], "cancelled")
    assert re.fullmatch(
        r"Cancelled\. act was started at [-0-9]+ [:0-9]+ UTC, and may or may not have run\.", told["statusMessage"]
    )
    ended = ["approval.claimed", "approval.cancelled", "approval.interrupted"]
    assert await small.kinds(client.agent) == [*APPROVED, *ended]
    running.end.set()


async def test_cancelling_what_has_ended_is_acknowledged_and_changes_nothing(small: Scene, client: TaskClient) -> None:
    task = await client.begin()
    await small.decide(task["taskId"])
    told = await client.until(task["taskId"], "completed")
    await client.cancel(task["taskId"])
    assert await client.get(task["taskId"]) == told


async def test_an_approved_task_whose_server_is_away_is_withdrawn_when_it_is_cancelled(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    task = await client.begin()
    asked, answer = server.list_tools_when_told()
    await small.decide(task["taskId"])
    await asked.wait()
    await client.cancel(task["taskId"])
    answer.set()
    assert (await client.until(task["taskId"], "cancelled"))["statusMessage"] == "Cancelled; nothing ran."
    assert server.calls == []


# -- an upstream's own ------------------------------------------------------------------------------------------------


async def test_an_upstreams_own_tasks_pass_untouched(small: Scene, server: Scripted, client: TaskClient) -> None:
    own = {"taskId": "t-1", "status": "working", "createdAt": "x", "lastUpdatedAt": "x", "ttlMs": None}

    async def created(message: Message) -> Response:
        return result(message, {**own, "resultType": "task", "unknown": 1})

    async def told(message: Message) -> Response:
        return result(message, {**own, "unknown": message["method"]})

    server.on["tools/call"] = created
    assert (await (await client.call("look")).message())["result"] == {**own, "resultType": "task", "unknown": 1}
    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        server.on[method] = told
        answer = await client.ask(method, "t-1", inputResponses={"k": {}})
        assert answer["result"] == {"resultType": "complete", **own, "unknown": method}
        assert server.seen[-1]["params"]["taskId"] == "t-1"
        assert server.sent[-1]["mcp-name"] == "t-1"


async def test_a_name_field_that_says_another_task_is_refused(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    task = await client.begin()
    for named in (task["taskId"], "t-1"):
        message = modern("tasks/get", {"taskId": named, "_meta": CAPABLE})
        answer = await client.agent.send("one", message, {"Mcp-Name": "t-2"})
        assert (answer.status, (await answer.message())["error"]["code"]) == (400, -32020)
    assert "tasks/get" not in [message.get("method") for message in server.seen]
