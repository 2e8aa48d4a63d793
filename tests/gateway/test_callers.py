"""Agents that stop waiting and come back: told apart by how they left, given a ticket when they cannot wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from threading import Event
from typing import Any

import pytest

from broker.approvals.feed import Feed
from broker.approvals.ledger import Rules
from broker.approvals.service import Approvals
from broker.approvals.sweeps import sweep
from broker.domain.approvals import Approval, Decision, State
from broker.domain.canonical import Keyring
from broker.gateway.asker import GIVEN_UP_AFTER
from broker.store import people
from broker.store.people import CredentialKind
from broker.store.writer import Transaction
from tests.clock import MovableClock
from tests.gateway.scene import APPROVER, HOLD_ACT, LEGACY, Agent, Bare, Scene, block, playing, tool_call
from tests.servers import BOUND
from tests.servers.scripted import Scripted

pytestmark = pytest.mark.timeout(60)

GRACE = Rules().retry_grace
ERAS = ("legacy", "modern")


@pytest.fixture(scope="module")
def clock() -> MovableClock:
    """That of the module's broker."""
    return MovableClock()


@pytest.fixture(scope="module")
async def scene(
    tmp_path_factory: pytest.TempPathFactory, scripted_server: Scripted, clock: MovableClock
) -> AsyncGenerator[Scene]:
    """A broker whose clock is moved: `one` waits long for everybody, `brief` has the global patience."""
    at = {"url": scripted_server.url, "policy": HOLD_ACT}
    upstreams = {"one": {**at, "patience": "10m"}, "brief": at}
    terms = {"patience": timedelta(milliseconds=300), "max_pending": 1000, "max_per_hour": 1000}
    async with playing(tmp_path_factory.mktemp("callers"), upstreams, approvals=terms, clock=clock) as made:
        yield made


@pytest.fixture(autouse=True)
def fresh(server: Scripted) -> Scripted:
    """The server is as if new for each test."""
    return server


class Caller:
    """An agent of one era that calls `act`, and leaves."""

    def __init__(self, agent: Agent, era: str, upstream: str, session: str | None) -> None:
        self.agent = agent
        self.era = era
        self.upstream = upstream
        self.session = session
        self._last = 0

    @classmethod
    async def of(cls, agent: Agent, era: str, upstream: str = "one") -> Caller:
        return cls(agent, era, upstream, await agent.open(upstream) if era == "legacy" else None)

    async def act(self, number: int = 1, **meta: Any) -> Bare:
        """The call; what is in `meta` does not make it another one."""
        self._last += 1
        call = tool_call("act", {"n": number}, self._last, **meta)
        if self.era == "legacy":
            call["params"]["_meta"] = meta
        fields = LEGACY if self.era == "legacy" else None
        return await self.agent.send(self.upstream, call, fields, session=self.session)

    async def cancel(self) -> None:
        """Cancel the last call as legacy clients do."""
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": self._last}}
        assert (await self.agent.send(self.upstream, note, session=self.session)).status == 202


async def now(scene: Scene, approval: str) -> Approval:
    return await scene.broker.approvals.get(approval)


async def shown(scene: Scene, approval: str) -> dict[str, Any]:
    """It, as the API has it."""
    minute = timedelta(minutes=1)
    token = await scene.broker.store.write(
        lambda tx: people.issue(tx, "cli:test", CredentialKind.TOKEN, APPROVER.email, lifetime=minute)
    )
    door = {"Authorization": f"Bearer {token.secret}"}
    async with scene.http.get(f"{scene.broker.url}/api/v1/approvals/{approval}", headers=door) as answer:
        return await answer.json()


async def swept(scene: Scene, clock: MovableClock, approval: str, after: timedelta) -> Approval:
    clock.advance(after)
    await sweep(scene.broker.approvals)
    return await now(scene, approval)


# -- how they left ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("approved", [False, True])
@pytest.mark.parametrize(("era", "how"), [("legacy", "cancelled"), ("legacy", "lost"), ("modern", "cancelled")])
async def test_who_cancelled_has_a_while_to_come_back_and_who_was_lost_all_the_time(
    scene: Scene, agent: Agent, clock: MovableClock, era: str, how: str, approved: bool
) -> None:
    caller = await Caller.of(agent, era)
    held = await caller.act()
    approval = await scene.submitted(agent)
    if era == "legacy" and how == "cancelled":
        await caller.cancel()
        assert b"data:" not in await held.whole()
    else:
        held.leave()
    assert (await scene.happened("approval.abandoned", agent)).detail["why"] == how
    if approved:
        await scene.decide(approval)
    left = await now(scene, approval)
    assert (left.caller, (await shown(scene, approval))["caller"]) == ("gone", "gone")
    assert left.withdraw_at == (clock.now() + GRACE if how == "cancelled" else None)
    after = await swept(scene, clock, approval, GRACE)
    assert after.state is (State.WITHDRAWN if how == "cancelled" else left.state)
    if how == "lost":
        assert (await swept(scene, clock, approval, timedelta(minutes=15))).state is State.EXPIRED
    again = await caller.act()
    assert await scene.submitted(agent, 2) != approval
    again.leave()


async def test_a_cancel_is_heard_while_the_tool_is_still_looked_up(
    scene: Scene, agent: Agent, server: Scripted
) -> None:
    caller = await Caller.of(agent, "legacy")
    asked, answer = server.list_tools_when_told()
    calling = asyncio.ensure_future(caller.act())
    await asyncio.wait_for(asked.wait(), BOUND)
    await caller.cancel()
    answer.set()
    assert (await scene.happened("approval.abandoned", agent)).detail["why"] == "cancelled"
    assert b"data:" not in await (await calling).whole()
    assert "notifications/cancelled" not in [message["method"] for message in server.seen]


async def test_that_a_caller_left_is_noted_though_the_tool_is_still_looked_up_for_its_run(
    scene: Scene, agent: Agent, server: Scripted
) -> None:
    """Else the identical call, which comes next, would ask people again for what they have approved."""
    caller = await Caller.of(agent, "modern")
    held = await caller.act()
    approval = await scene.submitted(agent)
    asked, answer = server.list_tools_when_told()
    await scene.decide(approval)
    await asyncio.wait_for(asked.wait(), BOUND)
    held.leave()
    await scene.happened("approval.abandoned", agent)
    del server.on["tools/list"]
    assert block(await (await caller.act()).message())["approval_id"] == approval
    answer.set()
    assert (await agent.call("one", "look")).status == 200  # a round trip later
    assert [call["params"]["name"] for call in server.calls] == ["act", "look"]


# -- how they come back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
async def test_who_comes_back_waits_on_with_all_its_time_and_progress_of_its_own(
    scene: Scene, agent: Agent, clock: MovableClock, server: Scripted, era: str
) -> None:
    caller = await Caller.of(agent, era)
    held = await caller.act(progressToken="first")
    approval = await scene.submitted(agent)
    if era == "legacy":
        await caller.cancel()
    else:
        held.leave()
    await scene.happened("approval.abandoned", agent)
    clock.advance(GRACE - timedelta(seconds=1))
    back = await caller.act(progressToken="second")
    await scene.happened("approval.resumed", agent)
    first = (await back.event())["params"]
    assert (first["progressToken"], first["progress"]) == ("second", 1)
    waiting = await swept(scene, clock, approval, GRACE)
    assert (waiting.state, waiting.caller, waiting.withdraw_at) == ("pending", "waiting", None)
    await scene.decide(approval)
    assert block(await back.message())["approval_id"] == approval
    assert len(server.calls) == 1


async def test_who_comes_back_to_a_rejection_hears_it_and_nobody_is_asked_until_it_is_forgotten(
    scene: Scene, agent: Agent, server: Scripted
) -> None:
    caller = await Caller.of(agent, "modern")
    held = await caller.act()
    approval = await scene.submitted(agent)
    held.leave()
    await scene.happened("approval.abandoned", agent)
    await scene.decide(approval, Decision.REJECT, reason="not on a Friday")
    answer = await (await caller.act()).message()
    facts = block(answer)
    assert (facts["status"], facts["retry"], facts["approval_id"]) == ("rejected", "never", approval)
    assert (facts["reason"], facts["reviewers"]) == ("not on a Friday", [APPROVER.email])
    assert APPROVER.email in answer["result"]["content"][0]["text"]
    assert (await scene.recorded(agent, "call.denied")).detail["approval"] == approval
    other = await caller.act(2)
    await scene.submitted(agent, 2)
    await scene.broker.approvals.reviews.forget(approval, APPROVER)
    anew = await caller.act()
    assert await scene.submitted(agent, 3) != approval
    assert server.calls == []
    for each in (other, anew):
        each.leave()


async def test_of_two_retries_at_once_one_picks_it_up_and_the_other_asks_anew(scene: Scene, agent: Agent) -> None:
    caller = await Caller.of(agent, "modern")
    (await caller.act()).leave()
    approval = await scene.submitted(agent)
    await scene.happened("approval.abandoned", agent)
    held = await asyncio.gather(caller.act(), caller.act())
    assert await scene.submitted(agent, 2) != approval
    for nth in (1, 2):
        await scene.review(agent, nth=nth)
    told = {block(await each.message())["approval_id"] for each in held}
    assert told == {approval, await scene.submitted(agent, 2)}
    assert (await scene.kinds(agent)).count("approval.resumed") == 1


# -- clients that do not say that they give up ------------------------------------------------------------------------


async def test_a_call_that_is_made_again_in_its_session_takes_the_place_of_the_first(
    scene: Scene, agent: Agent, server: Scripted
) -> None:
    caller = await Caller.of(agent, "legacy")
    first = await caller.act(progressToken="a")
    approval = await scene.submitted(agent)
    other_session = await (await Caller.of(agent, "legacy")).act(progressToken="b")
    assert await scene.submitted(agent, 2) != approval
    await asyncio.sleep(GIVEN_UP_AFTER)  # which only time tells from two calls at once
    second = await caller.act(progressToken="c")
    told = await first.message()
    assert (block(told)["status"], block(told)["approval_id"]) == ("pending", approval)
    assert "The same call came again, and waits in place of this one." in told["result"]["content"][0]["text"]
    assert (await scene.happened("approval.abandoned", agent)).detail["why"] == "it made the call again"
    await scene.happened("approval.resumed", agent)
    await scene.decide(approval)
    assert block(await second.message())["status"] == "approved"
    assert len(server.calls) == 1
    assert (await scene.kinds(agent)).count("approval.submitted") == 2
    other_session.leave()


async def test_two_identical_calls_at_once_in_one_session_are_two_approvals(scene: Scene, agent: Agent) -> None:
    caller = await Caller.of(agent, "legacy")
    calls = [await caller.act() for _ in range(2)]
    for nth in (1, 2):
        await scene.review(agent, nth=nth)
    assert [block(await call.message())["status"] for call in calls] == ["approved", "approved"]


# -- tickets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
async def test_who_does_not_ask_for_progress_gets_a_ticket_and_the_identical_call_goes_on(
    scene: Scene, agent: Agent, server: Scripted, era: str
) -> None:
    caller = await Caller.of(agent, era, "brief")
    asked_for_progress = await caller.act(2, progressToken="t")
    patient = await (await Caller.of(agent, era)).act(3)
    for _ in range(2):
        held = await caller.act(1)
        approval = await scene.submitted(agent, 3)
        answer = await held.message()
        facts = block(answer)
        assert (facts["status"], facts["retry"], facts["approval_id"]) == ("pending", "same", approval)
        assert facts["review_url"] == f"{scene.broker.url}/approvals/{approval}"
        pending = await now(scene, approval)
        assert facts["deadline"] == pending.deadline.isoformat(timespec="microseconds").replace("+00:00", "Z")
        assert (pending.state, pending.caller, pending.withdraw_at) == ("pending", "gone", None)
        words = answer["result"]["content"][0]["text"]
        assert answer["result"]["isError"] is True
        assert "Repeat the identical call now, with exactly the same arguments" in words
    await scene.review(agent, nth=3)
    assert block(await (await caller.act(1)).message())["status"] == "approved"
    assert [call["params"]["arguments"] for call in server.calls] == [{"n": 1}]
    assert (await scene.kinds(agent)).count("approval.submitted") == 3
    for nth, held in ((1, asked_for_progress), (2, patient)):  # these two still wait
        await scene.review(agent, nth=nth)
        assert block(await held.message())["status"] == "approved"


@pytest.mark.parametrize("approved", [False, True])
async def test_who_waits_at_a_broker_that_was_taken_for_dead_is_told_to_repeat_the_call_and_it_runs_once(
    scene: Scene, agent: Agent, server: Scripted, approved: bool
) -> None:
    broker, held = scene.broker, await agent.call("one", "act", {"n": 1})
    approval_id, go_on = await scene.submitted(agent), Event()
    other = Approvals(broker.store, broker.clock, Keyring([b"s" * 32]), Feed(broker.store), Rules())

    def take_over(tx: Transaction) -> None:
        other.process.begin(tx, other.journal, alone=True)
        other.process.end(tx, other.journal)

    broker.store.submit(lambda tx: go_on.wait(BOUND))  # what follows is one commit
    doing = [broker.approvals.change(take_over), *([scene.decide(approval_id)] if approved else [])]
    both = asyncio.gather(*doing)
    await asyncio.wait([both], timeout=0)
    go_on.set()
    await both
    told = block(await held.message())
    assert (told["status"], told["approval_id"]) == ("unavailable" if approved else "pending", approval_id)
    assert server.calls == []
    retry = await agent.call("one", "act", {"n": 1})
    if not approved:
        await scene.decide(approval_id)
    assert block(await retry.message())["approval_id"] == approval_id
    assert len(server.calls) == 1


async def test_a_call_with_a_ticket_that_was_rejected_hears_so(scene: Scene, agent: Agent) -> None:
    caller = await Caller.of(agent, "modern", "brief")
    assert block(await (await caller.act()).message())["status"] == "pending"
    await scene.review(agent, Decision.REJECT)
    assert block(await (await caller.act()).message())["status"] == "rejected"


# -- too much ---------------------------------------------------------------------------------------------------------


async def test_a_held_call_that_is_too_large_to_look_at_is_refused_with_what_to_do(
    scene: Scene, agent: Agent, server: Scripted
) -> None:
    answer = await (await agent.call("one", "act", {"text": "x" * (256 * 1024)})).message()
    assert (block(answer)["status"], block(answer)["retry"]) == ("denied", "never")
    words = answer["result"]["content"][0]["text"]
    assert "and a person is shown at most 262144: split it into smaller calls, or tell your operator." in words
    fits = await agent.call("one", "act", {"text": "x" * (255 * 1024)})
    await scene.submitted(agent)
    assert await scene.kinds(agent) == ["call.denied", "approval.submitted"]
    fits.leave()
