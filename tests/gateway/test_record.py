"""What the audit log tells of a story, and what it must never hold."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.responses import Response

from broker.domain.approvals import Decision
from broker.domain.audit import verify
from broker.domain.calls import UNIT, Action, Verdict
from broker.errors import UpstreamUnreachable
from broker.gateway.outcome import Outcome
from broker.gateway.record import Record
from broker.store import audit
from broker.store.writer import Store
from tests.clock import MovableClock
from tests.domain.values import KEYRING, MINUTE, call, charge
from tests.gateway.scene import APPROVER, HOLD_ACT, Agent, Scene, block, playing
from tests.servers.scripted import Message, Scripted, said


async def played(scene: Scene, agent: Agent) -> dict[str, dict[str, Any]]:
    """A story with one call of each kind; the answers by what they are."""
    allowed = await (await agent.call("one", "look", {"word": "seen"})).message()
    rejected = await agent.call("one", "act", {"word": "no"})
    await scene.review(agent, Decision.REJECT, reason="not now")
    approved = await agent.call("one", "act", {"word": "yes"})
    await scene.review(agent, nth=2)
    answers = {"allowed": allowed, "rejected": await rejected.message(), "approved": await approved.message()}
    gone = await agent.call("one", "act", {"word": "gone"})
    await scene.submitted(agent, 3)
    gone.leave()
    await scene.happened("approval.abandoned", agent)
    await scene.recorded(agent, "call.answered")
    return answers


async def test_each_call_has_its_rows_in_order_with_who_did_it(small: Scene) -> None:
    agent = await small.agent()
    answers = await played(small, agent)
    rows = [row for row in await small.of(agent) if row.kind.value != "call.answered"]
    me = f"agent:{agent.grant.id}"
    assert [(row.kind.value, row.actor) for row in rows] == [
        ("call.allowed", me),
        ("approval.submitted", me),
        ("approval.rejected", APPROVER.email),
        ("approval.submitted", me),
        ("approval.approved", APPROVER.email),
        ("approval.claimed", me),
        ("approval.succeeded", "broker"),
        ("approval.submitted", me),
        ("approval.abandoned", me),
    ]
    assert {(row.upstream, row.grant) for row in rows} == {("one", agent.grant.id)}
    assert {row.tool for row in rows} == {"look", "act"}
    assert rows[2].detail["reason"] == "not now"
    assert {row.approval_id for row in rows[3:7]} == {block(answers["approved"])["approval_id"]}
    assert len({row.call_id for row in rows}) == 4
    assert len({row.arguments_digest for row in rows}) == 4
    answered = await small.recorded(agent, "call.answered")
    assert (answered.call_id, answered.detail["outcome"]) == (rows[0].call_id, "succeeded")


async def test_arguments_and_results_lie_beside_the_chain(small: Scene) -> None:
    agent = await small.agent()
    answers = await played(small, agent)
    rows = await small.of(agent)
    calls = list(dict.fromkeys(row.call_id for row in rows if row.call_id))
    kept = [await small.broker.store.read(lambda session, one=one: audit.contents(session, one)) for one in calls]
    words = [contents["arguments"]["arguments"]["word"] for contents in kept]
    assert words == ["seen", "no", "yes", "gone"]
    assert ["result" in contents for contents in kept] == [True, False, True, False]
    assert kept[2]["result"]["content"] == answers["approved"]["result"]["content"]
    chain = json.dumps([dict(row.detail) for row in rows])
    assert not any(word in chain for word in ("seen", "yes", "gone"))


async def test_the_chain_verifies_after_every_story_of_this_run(scene: Scene, small: Scene) -> None:
    for one in (scene, small):
        await played_briefly(one)
        head = await one.broker.store.read(lambda session: verify(audit.stream(session), audit.head(session)))
        assert head.seq > 0


async def played_briefly(scene: Scene) -> None:
    agent = await scene.agent()
    upstream = next(iter(agent.grant.upstreams & {"one", "open-http"}))
    await (await agent.call(upstream, "look")).message()


def whole_store(folder: Path) -> bytes:
    """Every byte of the database and of what belongs to it."""
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.name.startswith("broker.db"))


async def test_no_secret_of_an_agent_or_of_a_server_is_anywhere_in_the_store(tmp_path: Path, server: Scripted) -> None:
    upstreams = {"one": {"url": server.url, "headers": {"X-Key": "key-of-the-server"}, "policy": HOLD_ACT}}
    async with playing(tmp_path, upstreams) as scene:
        agent = await scene.agent()
        await played(scene, agent)
        session = await agent.open("one")
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "act"}}
        held = await agent.send("one", call, session=session)
        await scene.review(agent, nth=4)
        await held.message()
        assert server.sent[-1]["x-key"] == "key-of-the-server"
    stored = whole_store(tmp_path)
    assert agent.grant.id.encode() in stored  # so it is the store that is searched
    for secret in (agent.token, agent.token.removeprefix("bg_"), "key-of-the-server", session, "s" * 64):
        assert secret.encode() not in stored


async def test_a_result_that_failed_is_recorded_as_failed(small: Scene, server: Scripted) -> None:
    async def fail(message: Message) -> Response:
        return said(message, "no", isError=True)

    server.on["tools/call"] = fail
    agent = await small.agent()
    await (await agent.call("one", "look")).message()
    held = await agent.call("one", "act")
    await small.review(agent)
    assert (await held.message())["result"]["isError"] is True
    assert (await small.recorded(agent, "call.answered")).detail["outcome"] == "failed"
    assert (await small.recorded(agent, "approval.failed")).actor == "broker"


async def test_a_call_whose_caller_left_is_recorded_as_cancelled(small: Scene, server: Scripted) -> None:
    began, end = asyncio.Event(), asyncio.Event()

    async def wait(message: Message) -> Response:
        began.set()
        await end.wait()
        return said(message)

    server.on["tools/call"] = wait
    agent = await small.agent()
    calling = asyncio.ensure_future(agent.call("one", "look"))
    await began.wait()
    calling.cancel()
    assert (await small.recorded(agent, "call.answered")).detail["outcome"] == "cancelled"
    end.set()


# -- what is counted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "never_ran", "left"),
    [
        (Outcome("succeeded"), False, 2),
        (Outcome("failed"), False, 2),
        (Outcome("failed", errored=True), False, 1),
        (Outcome("interrupted"), False, 2),
        (Outcome("cancelled"), False, 2),
        (Outcome("answered"), False, 2),
        (Outcome("unreachable"), True, 0),
    ],
)
async def test_what_is_refunded_is_given_back_when_the_server_answered_an_error_and_all_when_it_never_ran(
    store: Store, outcome: Outcome, never_ran: bool, left: int
) -> None:
    record = Record(store, KEYRING, keep_results=False)
    charges = (replace(charge(), refund=True), charge(counter="kept"))
    admission = record.admission(call(), Verdict(Action.ALLOW, "default", charges=charges))
    assert await admission.write() is None
    admission.ended(outcome, never_ran=never_ran)
    await record.drain()
    counted = sa.text("SELECT sum(amount) FROM counts")
    assert await store.read(lambda session: session.connection().execute(counted).scalar_one()) == left * UNIT


async def test_a_late_call_that_cannot_be_recorded_is_not_sent_and_gives_back_nothing_of_others(
    store: Store, clock: MovableClock
) -> None:
    record = Record(store, KEYRING, keep_results=False)
    admission = record.admission(call(), Verdict(Action.ALLOW, "default", charges=(charge(maximum=2),)))
    assert await admission.write() is None
    clock.advance(MINUTE / 2)
    assert not admission.spend()
    store.close()
    with pytest.raises(UpstreamUnreachable, match="The call was not sent"):
        await admission.renew()
    assert admission.told is None
    assert admission.spend()  # it has nothing left that it could give back
