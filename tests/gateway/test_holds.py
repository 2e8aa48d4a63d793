"""Held calls without a broker around them, so that time need not pass: patience, and servers that never answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from starlette.responses import Response

from broker.domain.approvals import Approval
from broker.domain.people import Grant
from broker.gateway.catalog import Catalog
from broker.gateway.execution import Execution
from broker.gateway.holds import Holds
from broker.gateway.inbound import Inbound
from broker.gateway.patience import Patience
from broker.gateway.upstreams import UpstreamReply
from broker.gateway.upstreams.http import HttpUpstream
from broker.gateway.wire import parse_message
from broker.store.approvals import ApprovalFilter, page
from broker.store.writer import Store
from tests.approvals.desk import Desk, hold
from tests.clock import NOON, MovableClock
from tests.domain.values import ALICE, DEFINITION, QUARTER
from tests.gateway.scene import block, tool_call
from tests.servers import BOUND
from tests.servers.scripted import Message, Scripted

pytestmark = pytest.mark.timeout(60)

PATIENCE = 3600.0
LONG = Patience(timedelta(seconds=PATIENCE))


async def nothing() -> None:
    """The grant is fine."""


@dataclass
class Holding:
    """A desk, and the held calls before a server."""

    desk: Desk
    holds: Holds
    execution: Execution

    def inbound(self, body: Mapping[str, Any], *, modern: bool = False, ago: float = 0) -> Inbound:
        """A request that came some seconds ago."""
        who = self.desk.grant
        grant = Grant(id=who.id, label=who.label, owner=who.owner, upstreams=frozenset({"desk"}), created_at=NOON)
        message = parse_message(json.dumps(body).encode())
        came = asyncio.get_running_loop().time() - ago
        return Inbound("POST", grant, (), modern=modern, check_grant=nothing, came=came, message=message)

    async def press(self, asked: Inbound) -> UpstreamReply:
        """Hold a call of `press`."""
        opening = self.desk.approvals.requests.submit(self.desk.call(), hold(), DEFINITION)
        return await self.holds.hold(asked, opening, self.execution.run, lambda: None)

    async def only(self) -> Approval:
        """The one approval there is."""
        (approval,) = await self.desk.store.read(lambda session: page(session, ApprovalFilter()))
        return approval


async def body(reply: UpstreamReply) -> list[dict[str, Any]]:
    """The messages of an answer."""
    async with asyncio.timeout(BOUND):
        whole = b"".join([chunk async for chunk in reply.chunks])
    return [json.loads(line[5:]) for line in whole.splitlines() if line.startswith(b"data:")]


@pytest.fixture
async def holding(store: Store, clock: MovableClock, server: Scripted) -> AsyncGenerator[Holding]:
    """One before the scripted server, which has hardly any time to answer what was cancelled."""
    desk = await Desk.open(store, clock)
    server.tools = [dict(DEFINITION)]
    upstream = HttpUpstream("desk", server.url)
    execution = Execution(upstream, Catalog(upstream), desk.approvals, lambda _: hold(), cancelled_within=0.1)
    holds = Holds(desk.approvals, desk.feed, clock, lambda approval: f"http://x/{approval}", LONG)
    telling = asyncio.create_task(desk.feed.run())
    yield Holding(desk, holds, execution)
    holds.stop()
    await upstream.close()
    await holds.end()
    telling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await telling


async def test_patience_counts_from_when_the_request_came(holding: Holding) -> None:
    late = await holding.press(holding.inbound(tool_call("press"), modern=True, ago=PATIENCE))
    (answer,) = await body(late)
    approval = await holding.only()
    assert (block(answer)["status"], block(answer)["approval_id"]) == ("pending", approval.id)
    assert (approval.state, approval.caller, approval.withdraw_at) == ("pending", "gone", None)
    await holding.desk.review(approval, ALICE)
    again = await holding.press(holding.inbound(tool_call("press"), modern=True, ago=PATIENCE))
    assert block((await body(again))[-1])["status"] == "approved"  # what is approved is used, however late it is
    wants_progress = holding.inbound(tool_call("press", progressToken=1), modern=True, ago=PATIENCE)
    waiting = await holding.press(wants_progress)
    first = await anext(waiting.chunks)
    assert b"notifications/progress" in first


class Startable(MovableClock):
    """A clock that stands still until it is started; then time passes on it."""

    started: float | None = None

    def start(self) -> None:
        self.started = asyncio.get_running_loop().time()

    def now(self) -> datetime:
        passed = 0 if self.started is None else asyncio.get_running_loop().time() - self.started
        return super().now() + timedelta(seconds=passed)


async def test_that_little_time_is_left_is_told_as_soon_as_it_is_little(holding: Holding) -> None:
    clock = Startable(NOON + QUARTER - timedelta(seconds=90.1))
    holds = Holds(holding.desk.approvals, holding.desk.feed, clock, str, LONG)
    waiting = await replace(holding, holds=holds).press(holding.inbound(tool_call("press", progressToken=1)))
    assert b"approver, 2 min left" in await anext(waiting.chunks)
    clock.start()
    async with asyncio.timeout(1):
        assert b"approver, only 2 min left" in await anext(waiting.chunks)
    holds.stop()
    await holds.end()


@pytest.mark.parametrize("deaf", [False, True], ids=["it is told", "it does not even take that"])
async def test_a_cancelled_call_that_its_server_never_answers_is_interrupted(
    holding: Holding, server: Scripted, deaf: bool
) -> None:
    began = asyncio.Event()

    async def never(message: Message) -> Response:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    server.on["tools/call"] = never
    if deaf:
        server.on["notifications/cancelled"] = never
    call: Message = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "press", "arguments": {}}}
    reply = await holding.press(holding.inbound(call))
    approval = await holding.only()
    await holding.desk.review(approval, ALICE)
    await asyncio.wait_for(began.wait(), BOUND)
    notice = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}
    stranger = holding.inbound({**notice, "params": {"requestId": 6}})
    assert not holding.holds.cancel(stranger)
    assert not holding.holds.cancel(replace(holding.inbound(notice), session="another"))
    assert holding.holds.cancel(holding.inbound(notice))
    assert await body(reply) == []
    await asyncio.wait_for(holding.holds.finish(), BOUND)
    rows = await holding.desk.approvals.history(approval.id)
    assert [(row.kind.value, row.detail.get("why")) for row in rows[-3:]] == [
        ("approval.abandoned", "cancelled"),
        ("approval.cancelled", "the server did not hear of it within 0.1 s" if deaf else "the server was told"),
        ("approval.interrupted", "The agent cancelled the call while it ran: it may or may not have run."),
    ]
    assert holding.desk.approvals.claims.executing == {}
