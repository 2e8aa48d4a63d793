"""Held calls and those who decide them: what the waiting caller hears of whose word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest

from broker.approvals.sweeps import sweep
from broker.domain.approvals import Decision
from broker.domain.people import Person, Role
from tests.clock import MovableClock
from tests.gateway.scene import APPROVER, Scene, block, playing
from tests.servers import BOUND
from tests.servers.scripted import Scripted, tool

pytestmark = pytest.mark.timeout(60)

ROOT = Person("root@example.com", frozenset({Role.ADMIN}))
SECOND = Person("second@example.com", frozenset({Role.APPROVER}), frozenset({"oncall"}))
LATER = {"after": "5m", "to": ["oncall"]}
APPROVALS: dict[str, dict[str, Any]] = {
    "pair": {"quorum": 2},
    "late": {"approvers": [APPROVER.email], "escalate": LATER},
    "joint": {"approvers": [APPROVER.email], "quorum": 2, "escalate": LATER},
    "crowd": {"approvers": [APPROVER.email, SECOND.email], "quorum": 3, "escalate": LATER},
    "chat": {"channels": ["slack:#desk"]},
}
POLICY: dict[str, Any] = {
    "default": "allow",
    "tools": {name: {"action": "hold", "approval": approval} for name, approval in APPROVALS.items()},
}


@pytest.fixture(scope="module")
async def theirs(tmp_path_factory: pytest.TempPathFactory, scripted_server: Scripted) -> AsyncGenerator[Scene]:
    """A broker of those people, on a clock that stands still."""
    upstreams = {"one": {"url": scripted_server.url, "policy": POLICY}}
    async with playing(tmp_path_factory.mktemp("theirs"), upstreams, clock=MovableClock()) as made:
        for person in (SECOND, ROOT):
            await made.person(person)
        yield made


@pytest.fixture
def strict(theirs: Scene, server: Scripted) -> Scene:
    """The same, before a server with these tools."""
    server.tools = [tool(name) for name in (*APPROVALS, "look")]
    return theirs


async def vote(scene: Scene, approval: str, person: Person, decision: Decision = Decision.APPROVE) -> None:
    await scene.broker.approvals.reviews.review(approval, person, decision, channel="api")


async def test_nothing_is_answered_and_nothing_runs_before_the_quorum(strict: Scene, server: Scripted) -> None:
    agent = await strict.agent()
    held = await agent.call("one", "pair")
    answer = asyncio.ensure_future(held.message())
    approval = await strict.submitted(agent)
    for _ in range(2):  # saying it again does not make it two
        await vote(strict, approval, APPROVER)
    await strict.happened("approval.reviewed", agent)
    await agent.call("one", "look")  # a round trip: whoever was woken has read the approval by now
    assert [call["params"]["name"] for call in server.calls] == ["look"]
    assert not answer.done()
    await vote(strict, approval, SECOND)
    facts = block(await answer)
    assert (facts["status"], facts["reviewers"]) == ("approved", [APPROVER.email, SECOND.email])
    assert [call["params"]["name"] for call in server.calls] == ["look", "pair"]


async def test_one_rejection_answers_at_once_whatever_was_said_before(strict: Scene, server: Scripted) -> None:
    agent = await strict.agent()
    held = await agent.call("one", "pair")
    approval = await strict.submitted(agent)
    await vote(strict, approval, APPROVER)
    await vote(strict, approval, SECOND, Decision.REJECT)
    facts = block(await held.message())
    assert (facts["status"], facts["reviewers"]) == ("rejected", [APPROVER.email, SECOND.email])
    assert server.calls == []


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("crowd", f"the approval of {APPROVER.email}, {SECOND.email} or, after 5m, oncall (3 of them)"),
        ("chat", "a decision in slack:#desk"),
    ],
)
async def test_a_call_that_nobody_could_decide_is_answered_at_once_with_what_is_wanted(
    strict: Scene, name: str, wanted: str
) -> None:
    agent = await strict.agent()
    answer = await (await agent.call("one", name)).message()
    facts = block(answer)
    assert (facts["status"], facts["retry"], facts["rule"]) == ("denied", "never", f"tools.{name}.action")
    assert f"this call needs {wanted}, and " in answer["result"]["content"][0]["text"]
    assert await strict.kinds(agent) == ["call.denied"]


async def test_an_agent_hears_who_is_asked_by_now(strict: Scene) -> None:
    agent, broker = await strict.agent(), strict.broker
    held = await agent.call("one", "late", progressToken=1)
    assert f"approval by {APPROVER.email}, 15 min" in (await held.event())["params"]["message"]
    assert isinstance(broker.clock, MovableClock)
    broker.clock.advance(timedelta(minutes=5))
    await sweep(broker.approvals)
    held.leave()
    await strict.happened("approval.abandoned", agent)
    again = await agent.call("one", "late", progressToken=2)
    assert f"approval by {APPROVER.email}, oncall, 10 min" in (await again.event())["params"]["message"]
    again.leave()


async def test_what_happens_is_told_at_once_and_not_at_the_next_sign_of_life(strict: Scene) -> None:
    agent, clock = await strict.agent(), strict.broker.clock
    assert isinstance(clock, MovableClock)
    held = await agent.call("one", "joint", progressToken="t")
    approval, told = await strict.submitted(agent), list[dict[str, Any]]()

    async def hears() -> str:
        async with asyncio.timeout(1):
            told.append((await held.event())["params"])
        return told[-1]["message"].partition(" left: ")[0]

    assert await hears() == f"Waiting for approval by {APPROVER.email}, 15 min"
    await vote(strict, approval, APPROVER)
    assert await hears() == "1 of 2 approved, waiting for another approver, 15 min"
    clock.advance(timedelta(minutes=5))
    await sweep(strict.broker.approvals)
    assert await hears() == "Escalated. 1 of 2 approved, waiting for oncall, 10 min"
    clock.advance(timedelta(minutes=9))
    await sweep(strict.broker.approvals)
    assert await hears() == "Escalated. 1 of 2 approved, waiting for oncall, only 60 s"
    await vote(strict, approval, SECOND)
    assert await hears() == "Approved."
    assert [each["progress"] for each in told] == [1, 2, 3, 4, 5]
    assert block(await held.message())["status"] == "approved"


async def test_the_caller_of_a_call_that_is_withdrawn_hears_it_at_once(strict: Scene, server: Scripted) -> None:
    agent = await strict.agent()
    held = await agent.call("one", "pair")
    approval = await strict.submitted(agent)
    await vote(strict, approval, APPROVER)
    await strict.broker.approvals.reviews.withdraw(approval, ROOT)
    async with asyncio.timeout(BOUND / 4):
        answer = await held.message()
    facts = block(answer)
    assert (facts["status"], facts["cause"], facts["retry"]) == ("withdrawn", "administrator", "ask")
    assert "withdrawn (by an administrator)" in answer["result"]["content"][0]["text"]
    assert server.calls == []
