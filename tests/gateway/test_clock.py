"""A clock that jumps while calls are held and run: nothing is lost, nothing runs twice, nothing is decided too late."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest

from broker.domain.approvals import State
from broker.domain.audit import verify
from broker.errors import AlreadyResolved, DeadlinePassed
from broker.store import audit, people
from broker.store.people import CredentialKind
from tests.clock import MovableClock
from tests.gateway.scene import APPROVER, HOLD_ACT, Scene, block, playing
from tests.servers.scripted import Scripted, Slow

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
async def scene(tmp_path: Path, server: Scripted, clock: MovableClock) -> AsyncGenerator[Scene]:
    """A broker of the test's own, on its clock; its record is whole in the end."""
    async with playing(tmp_path, {"one": {"url": server.url, "policy": HOLD_ACT}}, clock=clock) as made:
        yield made
        await made.broker.store.read(lambda session: verify(audit.stream(session), audit.head(session)))


async def still_serves(scene: Scene) -> None:
    """Probes and pages answer, for somebody with a token."""
    token = await scene.broker.store.write(
        lambda tx: people.issue(tx, "cli:test", CredentialKind.TOKEN, APPROVER.email)
    )
    for path in ("/readyz", "/", "/api/v1/approvals"):
        fields = {"Authorization": f"Bearer {token.secret}"}
        async with scene.http.get(scene.broker.url + path, headers=fields) as answer:
            assert answer.status == 200, path


async def test_what_runs_here_is_not_given_up_when_the_clock_jumps_forward(
    scene: Scene, server: Scripted, clock: MovableClock
) -> None:
    slow, runs, waits = Slow(server), await scene.agent(), await scene.agent()
    running = await runs.call("one", "act")
    approval = (await scene.review(runs)).id
    await slow.began.wait()
    waiting = await waits.call("one", "act")
    await scene.submitted(waits)
    clock.advance(DAY)
    assert block(await waiting.message())["cause"] == "unanswered"  # so the new time was seen
    assert (await scene.broker.approvals.get(approval)).state is State.EXECUTING
    await still_serves(scene)
    slow.end.set()
    assert block(await running.message())["approval_id"] == approval
    assert await scene.kinds(runs) == [f"approval.{kind}" for kind in ("submitted", "approved", "claimed", "succeeded")]
    assert len(server.calls) == 1


async def test_what_waits_is_decided_and_runs_once_when_the_clock_is_set_back(
    scene: Scene, server: Scripted, clock: MovableClock
) -> None:
    agent = await scene.agent()
    held = await agent.call("one", "act")
    before = await scene.broker.approvals.get(await scene.submitted(agent))
    clock.advance(-HOUR)
    await still_serves(scene)
    approved = await scene.decide(before.id)
    assert approved.deadline == before.deadline
    assert block(await held.message())["status"] == "approved"
    clock.advance(HOUR)
    again = await agent.call("one", "act")
    assert await scene.submitted(agent, 2) != before.id
    again.leave()
    assert len(server.calls) == 1


async def test_nothing_is_decided_after_its_deadline_however_the_clock_came_there(
    scene: Scene, server: Scripted, clock: MovableClock
) -> None:
    agent = await scene.agent()
    held = await agent.call("one", "act")
    approval = await scene.submitted(agent)
    clock.advance(DAY)
    with pytest.raises((DeadlinePassed, AlreadyResolved)):
        await scene.decide(approval)
    assert block(await held.message())["status"] == "expired"
    clock.advance(-DAY - HOUR)
    with pytest.raises(AlreadyResolved):
        await scene.decide(approval)
    assert server.calls == []
