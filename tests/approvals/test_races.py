"""Two processes, as two stores on one database, do something to one approval at the same moment.

Either may come first, and nothing else may come of it. Each race is run again and again, begun by one and the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from threading import Barrier, Event
from typing import Any

import pytest
import sqlalchemy as sa

from broker.approvals.policies import Policies
from broker.approvals.service import Approvals
from broker.approvals.sweeps import sweep
from broker.domain.answers import Answer, Status
from broker.domain.approvals import Approval, Caller, Cause, Decision, State
from broker.domain.audit import Kind
from broker.domain.calls import Escalation
from broker.domain.people import GrantRef, Person, Role
from broker.errors import AlreadyResolved, BrokerError, NotEligible, StoreError, TransitionRefused
from broker.policy.judging.decide import Policy, decide
from broker.policy.watch import InForce
from broker.store import grants, people
from broker.store.writer import Store
from tests.approvals.desk import Desk, again, hold, new_grant, saying
from tests.clock import MovableClock
from tests.domain.values import ALICE, BOB, CAROL, DEFINITION, MINUTE, QUARTER, charge, person
from tests.policy.calls import policy
from tests.servers import BOUND

ROUNDS = range(6)
SECOND = timedelta(seconds=1)
ROOT = person("root", role=Role.ADMIN)

Work = Callable[[], Coroutine[Any, Any, Any]]


async def at_once(*works: Work, turn: int = 0) -> list[Any]:
    """Begin all `works` at the same moment, each in a thread and an event loop of its own; results and errors.

    Args:
        turn: which of them is begun first, as far as that can be had.
    """
    barrier = Barrier(len(works))

    def run(work: Work) -> Any:
        barrier.wait(timeout=BOUND)
        try:
            return asyncio.run(work())  # pyright: ignore[reportUnknownVariableType]
        except BrokerError as error:
            return error

    loop, first = asyncio.get_running_loop(), turn % len(works)
    with ThreadPoolExecutor(len(works)) as pool:
        begun = {n: loop.run_in_executor(pool, run, works[n]) for n in (*range(first, len(works)), *range(first))}
        return [await begun[n] for n in range(len(works))]


@pytest.fixture
async def services(desk: Desk, other_store: Store) -> AsyncGenerator[list[Approvals]]:
    """The service in two processes, after which the record is whole and says how everything stands."""
    await save(desk, ROOT)
    yield [desk.service(), desk.service(other_store)]
    await desk.check_record()


async def save(desk: Desk, who: Person) -> None:
    await desk.store.write(lambda tx: people.save(tx, "cli:root", who.email, who.roles, who.groups))


@dataclass
class Ahead:
    """A process whose clock is ahead of the others'."""

    store: Store
    clock: MovableClock

    def sweeping(self, desk: Desk, by: timedelta) -> Work:
        """It looks what time did."""
        self.clock.advance(desk.clock.now() + by - self.clock.now())
        return lambda: sweep(desk.service(self.store))


@pytest.fixture
def ahead(store_url: str) -> Iterator[Ahead]:
    clock = MovableClock()
    store = Store(store_url, clock)
    yield Ahead(store, clock)
    store.close()


def reviewing(service: Approvals, approval: Approval, by: Person, decision: Decision = Decision.APPROVE) -> Work:
    return lambda: service.reviews.review(approval.id, by, decision, channel="web")


def withdrawing(service: Approvals, approval: Approval) -> Work:
    return lambda: service.reviews.withdraw(approval.id, ROOT)


def claiming(service: Approvals, approval: Approval) -> Work:
    return lambda: service.claims.claim(approval.id, saying(hold()), DEFINITION)


def retrying(service: Approvals, approval: Approval) -> Work:
    return lambda: service.requests.submit(again(approval.call), hold(), DEFINITION)


def finishing(service: Approvals, approval: Approval) -> Work:
    return lambda: service.claims.finish(approval.id, failed=False)


def forgetting(service: Approvals, approval: Approval) -> Work:
    return lambda: service.reviews.forget(approval.id, ALICE)


def revoking(store: Store, grant: GrantRef) -> Work:
    return lambda: store.write(lambda tx: grants.revoke(tx, "cli:root", grant.id))


def sweeping(service: Approvals) -> Work:
    return lambda: sweep(service)


def leaving(service: Approvals, approval: Approval) -> Work:
    return lambda: service.requests.abandon(approval.id, "cancelled")


def continuing(service: Approvals, approval: Approval) -> Work:
    return lambda: service.claims.continue_with_input(again(approval.call), "state", saying(hold()), DEFINITION)


async def left(desk: Desk, turn: int, why: str = "lost") -> Approval:
    """A call that waits for people and not for its caller."""
    approval = await desk.held(asked=desk.call(turn=turn))
    await desk.approvals.requests.abandon(approval.id, why)
    return approval


async def end(desk: Desk, approval: Approval) -> tuple[State, list[str]]:
    """Where it stands, and what happened to it since it was submitted."""
    kinds = await desk.kinds(approval)
    return (await desk.approvals.get(approval.id)).state, [kind.removeprefix("approval.") for kind in kinds[1:]]


# -- people -----------------------------------------------------------------------------------------------------------


async def test_of_an_approval_and_a_rejection_one_counts(desk: Desk, services: list[Approvals]) -> None:
    one, other = services
    for turn in ROUNDS:
        pending = await desk.held(asked=desk.call(turn=turn))
        outcomes = await at_once(
            reviewing(one, pending, ALICE), reviewing(other, pending, BOB, Decision.REJECT), turn=turn
        )
        [taken] = [each for each in outcomes if isinstance(each, Approval)]
        [late] = [each for each in outcomes if isinstance(each, AlreadyResolved)]
        assert await desk.approvals.get(pending.id) == taken
        assert str(taken.resolution.by if taken.resolution else None) in str(late)
        assert len(await desk.kinds(pending)) == 2


async def test_an_approval_and_a_withdrawal_leave_it_withdrawn(desk: Desk, services: list[Approvals]) -> None:
    for turn in ROUNDS:
        pending = await desk.held(asked=desk.call(turn=turn))
        approved, withdrawn = await at_once(
            reviewing(services[0], pending, ALICE), withdrawing(services[1], pending), turn=turn
        )
        assert isinstance(withdrawn, Approval)
        first = ["approved"] if isinstance(approved, Approval) else []
        assert first or isinstance(approved, AlreadyResolved)
        assert await end(desk, pending) == (State.WITHDRAWN, [*first, "withdrawn"])


async def test_people_who_approve_at_once_are_all_counted(desk: Desk, services: list[Approvals]) -> None:
    for turn in ROUNDS:
        pending = await desk.held(hold(quorum=3), desk.call(turn=turn))
        several = [reviewing(services[n % 2], pending, by) for n, by in enumerate((ALICE, BOB, CAROL))]
        await at_once(*several, reviewing(services[turn % 2], pending, ALICE), turn=turn)
        approved = await desk.approvals.get(pending.id)
        assert {given.by for given in approved.reviews} == {ALICE.email, BOB.email, CAROL.email}
        assert await end(desk, pending) == (State.APPROVED, ["reviewed", "reviewed", "approved"])


async def test_of_more_people_than_the_quorum_the_last_is_told_that_it_is_decided(
    desk: Desk, services: list[Approvals]
) -> None:
    for turn in ROUNDS:
        pending = await desk.held(hold(quorum=2), desk.call(turn=turn))
        several = [reviewing(services[n % 2], pending, by) for n, by in enumerate((ALICE, BOB, CAROL))]
        outcomes = await at_once(*several, turn=turn)
        assert sum(isinstance(each, AlreadyResolved) for each in outcomes) == 1
        assert await end(desk, pending) == (State.APPROVED, ["reviewed", "approved"])


async def test_who_is_asked_later_decides_after_that_and_not_before(
    desk: Desk, services: list[Approvals], ahead: Ahead
) -> None:
    dora = person("dora", "oncall")
    await save(desk, dora)
    wanted = hold(approvers=(ALICE.email,), escalate=Escalation(MINUTE, ("oncall",)))
    for turn in ROUNDS:
        pending = await desk.held(wanted, desk.call(turn=turn))
        said, _ = await at_once(reviewing(services[0], pending, dora), ahead.sweeping(desk, MINUTE), turn=turn)
        if isinstance(said, NotEligible):
            assert await end(desk, pending) == (State.PENDING, ["escalated"])
        else:
            assert await end(desk, pending) == (State.APPROVED, ["escalated", "approved"])
        await desk.approvals.reviews.withdraw(pending.id, ROOT)


# -- the clock --------------------------------------------------------------------------------------------------------


async def test_an_approval_in_the_last_moment_and_its_end_exclude_each_other(
    desk: Desk, services: list[Approvals], ahead: Ahead
) -> None:
    for turn in ROUNDS:
        pending = await desk.held(hold(timeout=QUARTER), desk.call(turn=turn))
        desk.clock.advance(QUARTER - SECOND)
        said, _ = await at_once(reviewing(services[0], pending, ALICE), ahead.sweeping(desk, SECOND), turn=turn)
        if isinstance(said, Approval):
            assert await end(desk, pending) == (State.APPROVED, ["approved"])
        else:
            assert isinstance(said, AlreadyResolved)
            assert await end(desk, pending) == (State.EXPIRED, ["expired"])


async def test_a_claim_and_the_end_of_its_time_exclude_each_other(
    desk: Desk, services: list[Approvals], ahead: Ahead
) -> None:
    for turn in ROUNDS:
        approved = await desk.approved(asked=desk.call(turn=turn))
        desk.clock.advance(QUARTER - SECOND)
        claimed, _ = await at_once(claiming(services[0], approved), ahead.sweeping(desk, SECOND), turn=turn)
        if isinstance(claimed, Approval):
            assert await end(desk, approved) == (State.EXECUTING, ["approved", "claimed"])
        else:
            assert isinstance(claimed, TransitionRefused)
            assert await end(desk, approved) == (State.EXPIRED, ["approved", "expired"])


async def test_what_time_does_is_done_once_though_two_look_at_once(desk: Desk, services: list[Approvals]) -> None:
    for turn in ROUNDS:
        pending, both = await desk.held(asked=desk.call(turn=turn)), [sweeping(service) for service in services]
        for _ in range(2):
            desk.clock.advance(QUARTER / 2)
            await at_once(*both, turn=turn)
        assert await end(desk, pending) == (State.EXPIRED, ["reminded", "expired"])


async def test_an_outcome_that_comes_when_its_lease_ends_is_never_lost(
    desk: Desk, services: list[Approvals], ahead: Ahead
) -> None:
    one = services[0]
    for turn in ROUNDS:
        approved = await desk.approved(asked=desk.call(turn=turn))
        await desk.claim(approved, one)
        await at_once(finishing(one, approved), ahead.sweeping(desk, MINUTE), turn=turn)
        state, kinds = await end(desk, approved)
        assert (state, kinds[2:]) in (
            (State.SUCCEEDED, ["succeeded"]),
            (State.INTERRUPTED, ["interrupted", "late"]),
        )


# -- the caller -------------------------------------------------------------------------------------------------------


async def test_who_comes_back_when_the_grace_ends_gets_the_old_approval_or_a_new_one(
    desk: Desk, services: list[Approvals], ahead: Ahead
) -> None:
    for turn in ROUNDS:
        approval = await left(desk, turn, "cancelled")
        desk.clock.advance(desk.approvals.rules.retry_grace - SECOND)
        held, _ = await at_once(retrying(services[0], approval), ahead.sweeping(desk, SECOND), turn=turn)
        if held.id == approval.id:
            assert await end(desk, approval) == (State.PENDING, ["abandoned", "resumed"])
        else:
            assert await end(desk, approval) == (State.WITHDRAWN, ["abandoned", "withdrawn"])
        assert (await desk.approvals.get(held.id)).caller is Caller.WAITING


async def test_who_comes_back_when_the_call_is_rejected_hears_it_and_asks_nobody_again(
    desk: Desk, services: list[Approvals]
) -> None:
    for turn in ROUNDS:
        approval = await left(desk, turn)
        told, _ = await at_once(
            retrying(services[0], approval), reviewing(services[1], approval, ALICE, Decision.REJECT), turn=turn
        )
        resumed = ["resumed"]
        if isinstance(told, Approval):
            assert told.id == approval.id
        else:
            assert (told.status, told.approval_id) == (Status.REJECTED, approval.id)
            resumed = []
        assert await end(desk, approval) == (State.REJECTED, ["abandoned", *resumed, "rejected"])


async def test_who_comes_back_when_a_rejection_is_forgotten_hears_it_or_asks_anew(
    desk: Desk, services: list[Approvals]
) -> None:
    one, other = services
    for turn in ROUNDS:
        rejected = await desk.review(await desk.held(asked=desk.call(turn=turn)), ALICE, Decision.REJECT)
        told, _ = await at_once(retrying(one, rejected), forgetting(other, rejected), turn=turn)
        assert isinstance(told, Approval) or (told.status, told.approval_id) == (Status.REJECTED, rejected.id)
        assert isinstance(await retrying(one, rejected)(), Approval)
        assert await end(desk, rejected) == (State.REJECTED, ["rejected", "forgotten"])


async def test_a_caller_that_cancels_while_its_call_is_claimed_leaves_it_unclaimed_or_running(
    desk: Desk, services: list[Approvals]
) -> None:
    for turn in ROUNDS:
        approved = await desk.approved(asked=desk.call(turn=turn))
        claimed, _ = await at_once(claiming(services[0], approved), leaving(services[1], approved), turn=turn)
        if isinstance(claimed, Approval):
            assert await end(desk, approved) == (State.EXECUTING, ["approved", "claimed", "abandoned"])
        else:
            assert isinstance(claimed, TransitionRefused)
            assert await end(desk, approved) == (State.APPROVED, ["approved", "abandoned"])


# -- the run ----------------------------------------------------------------------------------------------------------


async def test_of_several_that_claim_one_executes(desk: Desk, services: list[Approvals]) -> None:
    for turn in ROUNDS:
        approved = await desk.approved(hold(charge(who=f"{turn}")), desk.call(turn=turn))
        outcomes = await at_once(*(claiming(service, approved) for service in services * 2), turn=turn)
        [claimed] = [each for each in outcomes if isinstance(each, Approval)]
        assert sum(isinstance(each, TransitionRefused) for each in outcomes) == 3
        assert await desk.approvals.get(approved.id) == claimed
        assert await end(desk, approved) == (State.EXECUTING, ["approved", "claimed"])


async def test_a_claim_and_a_withdrawal_exclude_each_other(desk: Desk, services: list[Approvals]) -> None:
    for turn in ROUNDS:
        approved = await desk.approved(asked=desk.call(turn=turn))
        claimed, withdrawn = await at_once(
            claiming(services[0], approved), withdrawing(services[1], approved), turn=turn
        )
        assert isinstance(claimed, Approval) is isinstance(withdrawn, TransitionRefused)
        assert isinstance(withdrawn, Approval) is isinstance(claimed, TransitionRefused)
        ended = (State.EXECUTING, "claimed") if isinstance(claimed, Approval) else (State.WITHDRAWN, "withdrawn")
        assert await end(desk, approved) == (ended[0], ["approved", ended[1]])


async def test_nothing_is_claimed_after_its_grant_was_revoked(desk: Desk, services: list[Approvals]) -> None:
    for turn in ROUNDS:
        desk.grant = await desk.store.write(new_grant)
        approved = await desk.approved(asked=desk.call(turn=turn))
        claimed, _ = await at_once(claiming(services[1], approved), revoking(desk.store, desk.grant), turn=turn)
        assert isinstance(claimed, Approval)
        if claimed.state is State.EXECUTING:
            assert await desk.last_kinds(2) == [Kind.APPROVAL_CLAIMED, Kind.GRANT_REVOKED]
        else:
            assert await desk.last_kinds(2) == [Kind.GRANT_REVOKED, Kind.APPROVAL_WITHDRAWN]
            assert claimed.resolution is not None
            assert claimed.resolution.cause is Cause.GRANT


async def test_input_and_the_end_of_its_time_exclude_each_other(
    desk: Desk, services: list[Approvals], ahead: Ahead
) -> None:
    for turn in ROUNDS:
        asking = await desk.claim(await desk.approved(asked=desk.call(turn=turn)), services[0])
        await services[0].claims.await_input(asking, "state")
        desk.clock.advance(QUARTER - SECOND)
        outcome, _ = await at_once(continuing(services[0], asking), ahead.sweeping(desk, SECOND), turn=turn)
        if isinstance(outcome, Approval):
            assert await end(desk, asking) == (State.EXECUTING, ["approved", "claimed", "asked", "continued"])
        else:
            assert isinstance(outcome, Answer)
            assert await end(desk, asking) == (State.INTERRUPTED, ["approved", "claimed", "asked", "interrupted"])


# -- the policy -------------------------------------------------------------------------------------------------------

HOLDS, DENIES = (policy(tools={"press": {"action": action}}) for action in ("hold", "deny"))


@contextmanager
def kept_waiting(store: Store) -> Generator[None]:
    """Whatever is to be written comes into one commit at the end, in this order."""
    go_on = Event()
    store.submit(lambda tx: go_on.wait(BOUND))
    yield
    go_on.set()


def claiming_by(service: Approvals, approval: Approval, in_force: InForce) -> Work:
    return lambda: service.claims.claim(approval.id, lambda call: decide(in_force.policy, call), DEFINITION)


def adopting(service: Approvals, in_force: InForce, wanted: Policy) -> Work:
    return lambda: Policies(service, service.store).adopt(in_force, wanted)


async def test_nothing_is_claimed_that_the_policy_in_force_denies_at_its_commit(
    desk: Desk, services: list[Approvals]
) -> None:
    """The policy is that of one process, which has one store; here it is edited and asked by two."""
    for turn in ROUNDS:
        in_force = InForce("desk", HOLDS, desk.clock.now())
        approved = await desk.approved(asked=desk.call(turn=turn))
        claimed, _ = await at_once(
            claiming_by(services[0], approved, in_force), adopting(services[1], in_force, DENIES), turn=turn
        )
        if isinstance(claimed, Approval) and claimed.state is State.EXECUTING:
            assert await desk.last_kinds(2) == [Kind.APPROVAL_CLAIMED, Kind.POLICY_LOADED]
        else:
            assert await desk.last_kinds(2) == [Kind.POLICY_LOADED, Kind.APPROVAL_WITHDRAWN]
            assert await end(desk, approved) == (State.WITHDRAWN, ["approved", "withdrawn"])


@pytest.mark.parametrize(
    ("first", "ends"), [("claim", State.EXECUTING), ("policy", State.WITHDRAWN)], ids=["claim first", "policy first"]
)
async def test_a_claim_is_judged_by_what_is_in_force_where_it_stands_in_the_record(
    desk: Desk, first: str, ends: State
) -> None:
    """Both were on their way before anything was written."""
    in_force = InForce("desk", HOLDS, desk.clock.now())
    approved = await desk.approved()
    works = [claiming_by(desk.approvals, approved, in_force), adopting(desk.approvals, in_force, DENIES)]
    with kept_waiting(desk.store):
        doing = [asyncio.ensure_future(work()) for work in (works if first == "claim" else works[::-1])]
        await asyncio.wait(doing, timeout=0)
    await asyncio.gather(*doing)
    assert (await desk.approvals.get(approved.id)).state is ends
    assert in_force.policy is DENIES


async def test_a_policy_that_could_not_be_recorded_is_not_in_force_until_it_can(desk: Desk) -> None:
    loaded_at = desk.clock.now()
    in_force = InForce("desk", HOLDS, loaded_at)
    desk.clock.advance(MINUTE)
    await desk.store.write(lambda tx: tx.connection.execute(sa.text("ALTER TABLE audit RENAME TO gone")))
    with pytest.raises(StoreError):
        await adopting(desk.approvals, in_force, DENIES)()
    assert (in_force.policy, in_force.loaded_at) == (HOLDS, loaded_at)
    await desk.store.write(lambda tx: tx.connection.execute(sa.text("ALTER TABLE gone RENAME TO audit")))
    await adopting(desk.approvals, in_force, DENIES)()
    assert (in_force.policy, in_force.loaded_at) == (DENIES, loaded_at + MINUTE)
    assert await desk.last_kinds(1) == [Kind.POLICY_LOADED]
