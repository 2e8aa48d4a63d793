"""Two processes, as two stores on one database, do something to one approval at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest

from broker.approvals.service import Approvals
from broker.approvals.sweeps import sweep
from broker.domain.approvals import Approval, Decision, State
from broker.domain.audit import Kind
from broker.domain.people import Person
from broker.errors import AlreadyResolved, BrokerError, TransitionRefused
from broker.store.writer import Store
from tests.approvals.desk import Desk, again, hold, saying
from tests.clock import MovableClock
from tests.domain.values import ALICE, BOB, CAROL, DEFINITION, QUARTER, charge

ROUNDS = range(5)

Work = Callable[[], Coroutine[Any, Any, Any]]


async def at_once(*works: Work) -> list[Any]:
    """Begin all `works` at the same moment, each in a thread and an event loop of its own; results and errors."""
    barrier = Barrier(len(works))

    def run(work: Work) -> Any:
        barrier.wait(timeout=10)
        try:
            return asyncio.run(work())  # pyright: ignore[reportUnknownVariableType]
        except BrokerError as error:
            return error

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(len(works)) as pool:
        return await asyncio.gather(*(loop.run_in_executor(pool, run, work) for work in works))


@pytest.fixture
def services(desk: Desk, other_store: Store) -> list[Approvals]:
    """The service in two processes."""
    return [desk.service(), desk.service(other_store)]


def reviewing(service: Approvals, approval: Approval, person: Person, decision: Decision) -> Work:
    return lambda: service.reviews.review(approval.id, person, decision, channel="web")


@pytest.mark.parametrize("turn", ROUNDS)
async def test_of_two_that_claim_one_executes(desk: Desk, services: list[Approvals], turn: int) -> None:
    approved = await desk.approved(hold(charge(who=f"{turn}")))
    works: list[Work] = [
        lambda s=service: s.claims.claim(approved.id, saying(hold()), DEFINITION) for service in services * 2
    ]
    outcomes = await at_once(*works)
    claimed = [each for each in outcomes if isinstance(each, Approval)]
    assert [each.state for each in claimed] == [State.EXECUTING]
    assert sum(isinstance(each, TransitionRefused) for each in outcomes) == 3
    assert await desk.approvals.get(approved.id) == claimed[0]
    assert (await desk.kinds(approved)).count(Kind.APPROVAL_CLAIMED) == 1
    await desk.check_record()


@pytest.mark.parametrize("turn", ROUNDS)
async def test_of_an_approval_and_a_rejection_one_counts(desk: Desk, services: list[Approvals], turn: int) -> None:
    pending = await desk.held()
    outcomes = await at_once(
        reviewing(services[turn % 2], pending, ALICE, Decision.APPROVE),
        reviewing(services[1 - turn % 2], pending, BOB, Decision.REJECT),
    )
    [taken] = [each for each in outcomes if isinstance(each, Approval)]
    [late] = [each for each in outcomes if isinstance(each, AlreadyResolved)]
    assert await desk.approvals.get(pending.id) == taken
    assert str(taken.resolution.by if taken.resolution else None) in str(late)
    assert len(await desk.kinds(pending)) == 2
    await desk.check_record()


@pytest.mark.parametrize("turn", ROUNDS)
async def test_people_who_approve_at_once_are_all_counted(desk: Desk, services: list[Approvals], turn: int) -> None:
    pending = await desk.held(hold(quorum=3))
    several = [reviewing(services[n % 2], pending, by, Decision.APPROVE) for n, by in enumerate((ALICE, BOB, CAROL))]
    await at_once(*several, reviewing(services[turn % 2], pending, ALICE, Decision.APPROVE))
    approved = await desk.approvals.get(pending.id)
    assert approved.state is State.APPROVED
    assert {given.by for given in approved.reviews} == {ALICE.email, BOB.email, CAROL.email}
    assert (await desk.kinds(pending)).count(Kind.APPROVAL_REVIEWED) == 2
    await desk.check_record()


@pytest.mark.parametrize("turn", ROUNDS)
async def test_an_approval_in_the_last_moment_and_its_end_exclude_each_other(
    desk: Desk, store_url: str, turn: int
) -> None:
    ahead = Store(store_url, MovableClock(desk.clock.now() + QUARTER))
    desk.clock.advance(-timedelta(seconds=turn))  # how far the clocks are apart makes no difference
    pending = await desk.held(hold(timeout=QUARTER))
    outcomes = await at_once(
        reviewing(desk.service(), pending, ALICE, Decision.APPROVE), lambda: sweep(desk.service(ahead))
    )
    ahead.close()
    ended = await desk.approvals.get(pending.id)
    if isinstance(outcomes[0], Approval):
        assert ended.reviews[0].by == ALICE.email
        assert ended.state in (State.APPROVED, State.EXPIRED)  # unused by the clock that is ahead
    else:
        assert isinstance(outcomes[0], AlreadyResolved)
        assert (ended.state, ended.reviews) == (State.EXPIRED, ())
    await desk.check_record()


@pytest.mark.parametrize("turn", ROUNDS)
async def test_of_two_that_pick_up_one_call_one_gets_it_and_the_other_asks_anew(
    desk: Desk, services: list[Approvals], turn: int
) -> None:
    left = await desk.held()
    await desk.approvals.requests.abandon(left.id, "lost")
    works: list[Work] = [
        lambda s=service: s.requests.submit(again(left.call), hold(), DEFINITION) for service in services
    ]
    held = await at_once(*works)
    assert sorted(each.id == left.id for each in held) == [False, True]
    await desk.check_record()


@pytest.mark.parametrize("turn", ROUNDS)
async def test_a_claim_and_the_end_of_its_time_exclude_each_other(desk: Desk, store_url: str, turn: int) -> None:
    ahead = Store(store_url, MovableClock(desk.clock.now() + QUARTER))
    approved = await desk.approved()
    outcomes = await at_once(
        lambda: desk.service().claims.claim(approved.id, saying(hold()), DEFINITION), lambda: sweep(desk.service(ahead))
    )
    kinds = await desk.kinds(approved)
    assert (Kind.APPROVAL_CLAIMED in kinds) is isinstance(outcomes[0], Approval)
    assert (Kind.APPROVAL_CLAIMED in kinds) is not (Kind.APPROVAL_EXPIRED in kinds)
    ahead.close()
    await desk.check_record()
