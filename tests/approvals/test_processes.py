"""Several processes that serve from one store: which of them live, and what becomes of what a dead one left."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from broker.approvals.processes import LEASE, Process
from broker.approvals.service import Approvals
from broker.approvals.sweeps import leave, recover, sweep
from broker.domain.approvals import Approval, Caller, State
from broker.domain.audit import Kind
from broker.domain.canonical import Keyring
from broker.errors import SettingsError, TransitionRefused
from broker.store import notices
from broker.store.writer import Store
from tests.approvals.desk import Desk, again, hold, saying
from tests.approvals.office import Office
from tests.clock import NOON
from tests.domain.values import DEFINITION, MINUTE

OLD, NEW, OTHER = (bytes([number]) * 32 for number in range(3))


@pytest.fixture
async def other(desk: Desk, other_store: Store) -> Approvals:
    """The service in another process; both serve."""
    other = desk.elsewhere(other_store)
    await recover(desk.approvals, alone=False)
    await recover(other, alone=False)
    return other


async def test_who_starts_leaves_the_calls_of_those_that_live_alone(desk: Desk, other: Approvals) -> None:
    pending, claimed = await desk.held(asked=desk.call(key=1)), await desk.claimed()
    await recover(desk.elsewhere(), alone=False)
    await sweep(other)
    assert await desk.approvals.get(pending.id) == pending
    assert await desk.approvals.get(claimed.id) == claimed


async def test_what_a_process_left_that_says_nothing_any_more_is_ended_when_its_lease_is_over(
    desk: Desk, other: Approvals
) -> None:
    pending, claimed = await desk.held(asked=desk.call(key=1)), await desk.claimed()
    desk.clock.advance(LEASE / 2)
    await sweep(other)
    assert await other.get(pending.id) == pending
    desk.clock.advance(LEASE / 2)
    await sweep(other)
    assert await other.get(pending.id) == replace(pending, caller=Caller.GONE, waits_at=None)
    ended = await other.get(claimed.id)
    assert (ended.state, ended.caller) == (State.INTERRUPTED, Caller.GONE)
    assert (await desk.kinds(pending))[1:] == [Kind.APPROVAL_ABANDONED]


async def test_a_retry_picks_up_what_waited_at_a_process_that_nobody_has_found_dead_yet(
    desk: Desk, other: Approvals
) -> None:
    pending = await desk.held()
    desk.clock.advance(LEASE)
    picked_up = await other.requests.submit(again(pending.call), hold(), DEFINITION)
    assert isinstance(picked_up, Approval)
    assert (picked_up.id, picked_up.waits_at) == (pending.id, other.process.id)


async def test_what_was_wrongly_taken_over_is_neither_run_nor_given_up_where_it_waited_before(
    desk: Desk, other: Approvals
) -> None:
    approved = await desk.approved()
    desk.clock.advance(LEASE)
    await other.requests.submit(again(approved.call), hold(), DEFINITION)
    with pytest.raises(TransitionRefused):
        await desk.claim(approved)
    await desk.approvals.requests.abandon(approved.id, "lost")
    claimed = await other.claims.claim(approved.id, saying(hold()), DEFINITION)
    assert isinstance(claimed, Approval)
    assert claimed.state is State.EXECUTING


async def test_who_ends_is_not_waited_for(desk: Desk, other: Approvals) -> None:
    pending = await desk.held()
    await leave(desk.approvals)
    assert (await other.get(pending.id)).caller is Caller.GONE


async def test_what_a_dead_process_was_telling_is_told_by_another_at_once(office: Office, other_store: Store) -> None:
    await office.deliver()
    desk, approval = office.desk, await office.held()
    dying = desk.elsewhere(other_store)
    await recover(dying, alone=False)
    telling = partial(notices.take, holder=dying.process.id, lease=MINUTE)
    owed = await desk.store.read(
        partial(notices.first_of_each_place, channel="slack", announced=(), untrue=False, now=NOON)
    )
    await other_store.write(lambda tx: [telling(tx.session, each.id, now=tx.now) for each in owed])
    await office.deliver()
    assert office.of(approval) == []
    await leave(dying)
    await office.deliver()
    assert await office.is_shown(approval, office.the(approval))


# -- the secret -------------------------------------------------------------------------------------------------------


def starting(desk: Desk, *secrets: bytes) -> Approvals:
    return desk.service(process=Process(Keyring(secrets)))


@pytest.mark.parametrize(
    ("running", "given"), [([OLD], [NEW]), ([OLD], [NEW, OLD]), ([NEW, OLD], [OLD, OTHER]), ([OLD, NEW], [OTHER, OLD])]
)
async def test_a_server_that_others_would_not_understand_is_refused_while_they_run(
    desk: Desk, running: list[bytes], given: list[bytes]
) -> None:
    await recover(first := starting(desk, *running), alone=False)
    with pytest.raises(SettingsError, match=r"^server\.secret: another server that uses this store now has another"):
        await recover(starting(desk, *given), alone=False)
    await leave(first)
    await recover(starting(desk, *given), alone=False)


@pytest.mark.parametrize(
    ("running", "given"), [([OLD], [OLD]), ([OLD], [OLD, NEW]), ([OLD, NEW], [NEW, OLD]), ([NEW, OLD], [NEW])]
)
async def test_a_secret_is_rotated_server_by_server(desk: Desk, running: list[bytes], given: list[bytes]) -> None:
    await recover(starting(desk, *running), alone=False)
    await recover(starting(desk, *given), alone=False)
