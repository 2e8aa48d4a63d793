"""What an agent does to approvals: goes away and comes back, hears again what was rejected, asks for too much."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from broker.approvals.ledger import Rules
from broker.approvals.requests import CANCELLED
from broker.approvals.service import Approvals
from broker.approvals.sweeps import sweep
from broker.domain.answers import Answer, Status
from broker.domain.approvals import Approval, Caller, Cause, Decision, State
from broker.domain.audit import Kind, Row, timestamp
from broker.domain.calls import Call
from broker.domain.canonical import new_id
from broker.domain.people import GrantRef
from broker.store import audit, grants
from broker.store.writer import Store
from tests.approvals.desk import Desk, again, hold
from tests.approvals.test_races import at_once
from tests.domain.values import ALICE, BOB, CAROL, DEFINITION, MINUTE, QUARTER, charge

GRACE = Rules().retry_grace
MEMORY = Rules().reject_memory
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


async def left(desk: Desk, why: str, *, approved: bool = False) -> Approval:
    """An approval whose caller went away."""
    approval = await (desk.approved if approved else desk.held)()
    await desk.approvals.requests.abandon(approval.id, why)
    return await desk.approvals.get(approval.id)


async def swept(desk: Desk, approval: Approval, after: timedelta) -> Approval:
    """What time has made of it."""
    desk.clock.advance(after)
    await sweep(desk.approvals)
    return await desk.approvals.get(approval.id)


async def last_row(desk: Desk) -> Row:
    return (await desk.store.read(lambda session: list(audit.stream(session))))[-1]


async def refused(desk: Desk, asked: Call, service: Approvals | None = None) -> Answer:
    told = await (service or desk.approvals).requests.submit(asked, hold(charge(maximum=1)), DEFINITION)
    assert isinstance(told, Answer)
    return told


async def another_grant(desk: Desk) -> GrantRef:
    made = await desk.store.write(
        lambda tx: grants.create(
            tx, "cli:root", label="b", owner=BOB.email, upstreams=frozenset({"desk"}), expires_at=None
        )
    )
    return made.grant.ref


# -- going away and coming back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("approved", [False, True])
async def test_what_was_cancelled_is_withdrawn_when_the_identical_call_does_not_come_in_time(
    desk: Desk, approved: bool
) -> None:
    gone = await left(desk, CANCELLED, approved=approved)
    assert (gone.caller, gone.withdraw_at) == (Caller.GONE, desk.clock.now() + GRACE)
    assert (await swept(desk, gone, GRACE - SECOND)).state is gone.state
    ended = await swept(desk, gone, SECOND)
    assert ended.state is State.WITHDRAWN
    assert ended.resolution is not None
    assert ended.resolution.cause is Cause.CANCELLED
    assert await desk.slots() == []
    assert (await desk.held(asked=again(gone.call))).id != gone.id


@pytest.mark.parametrize("approved", [False, True])
async def test_what_was_lost_stays_until_its_time_is_over(desk: Desk, approved: bool) -> None:
    gone = await left(desk, "lost", approved=approved)
    assert (gone.caller, gone.withdraw_at) == (Caller.GONE, None)
    assert (await swept(desk, gone, QUARTER - SECOND)).state is gone.state
    assert (await swept(desk, gone, SECOND)).state is State.EXPIRED


async def test_after_its_grace_it_is_not_picked_up_even_before_it_is_swept(desk: Desk) -> None:
    gone = await left(desk, CANCELLED)
    desk.clock.advance(GRACE)
    assert (await desk.held(asked=again(gone.call))).id != gone.id


async def test_who_comes_back_has_all_its_time_again(desk: Desk) -> None:
    gone = await left(desk, CANCELLED)
    desk.clock.advance(GRACE - SECOND)
    back = await desk.held(asked=again(gone.call))
    assert (back.id, back.caller, back.withdraw_at) == (gone.id, Caller.WAITING, None)
    assert (await swept(desk, back, GRACE)).state is State.PENDING
    await desk.approvals.requests.abandon(back.id, "lost")
    assert (await swept(desk, back, GRACE)).state is State.PENDING


async def test_people_decide_though_the_agent_stopped_waiting(desk: Desk) -> None:
    gone = await left(desk, CANCELLED)
    decided = await desk.review(gone, ALICE)
    assert (decided.state, decided.caller) == (State.APPROVED, Caller.GONE)


async def test_of_several_that_nobody_waits_for_the_approved_one_is_used_first(desk: Desk) -> None:
    older = await desk.held()
    newer = await desk.held(asked=again(older.call))
    for each in (older, newer):
        await desk.approvals.requests.abandon(each.id, "lost")
    await desk.review(older, ALICE)
    assert (await desk.held(asked=again(older.call))).id == older.id
    assert (await desk.held(asked=again(older.call))).id == newer.id


@pytest.mark.parametrize("approved", [False, True])
async def test_of_two_identical_calls_at_once_one_picks_it_up_and_the_other_asks_anew(
    desk: Desk, other_store: Store, approved: bool
) -> None:
    gone = await left(desk, CANCELLED, approved=approved)
    services = [desk.service(), desk.service(other_store)]
    works = [lambda s=service: s.requests.submit(again(gone.call), hold(), DEFINITION) for service in services]
    ids = [each.id for each in await at_once(*works)]
    assert ids.count(gone.id) == 1
    assert len(set(ids)) == 2
    assert (await desk.kinds(gone)).count(Kind.APPROVAL_RESUMED) == 1
    await desk.check_record()


async def test_what_was_picked_up_in_another_session_ends_with_that_one(desk: Desk) -> None:
    first = await desk.held(asked=replace(desk.call(), session="one"))
    await desk.approvals.requests.abandon(first.id, "lost")
    back = await desk.held(asked=replace(again(first.call), session="two"))
    await desk.approvals.requests.end_session("one")
    assert (await desk.approvals.get(back.id)).state is State.PENDING
    await desk.approvals.requests.end_session("two")
    assert (await desk.approvals.get(back.id)).state is State.WITHDRAWN


async def test_a_cancel_of_what_runs_is_a_row_and_leaves_the_state(desk: Desk) -> None:
    claimed = await desk.claimed()
    await desk.approvals.requests.note_cancelled(claimed.id, "the server was told")
    row = await last_row(desk)
    assert (row.kind, row.detail["why"]) == (Kind.APPROVAL_CANCELLED, "the server was told")
    assert (await desk.approvals.get(claimed.id)).state is State.EXECUTING
    await desk.check_record()


# -- what was rejected ------------------------------------------------------------------------------------------------


async def rejected(desk: Desk, *, gone: bool = False) -> Approval:
    approval = await desk.held()
    if gone:
        await desk.approvals.requests.abandon(approval.id, "lost")
    return await desk.approvals.reviews.review(
        approval.id, ALICE, Decision.REJECT, channel="web", revision=approval.revision, reason="not on a Friday"
    )


@pytest.mark.parametrize("gone", [False, True], ids=["while it waited", "while it was away"])
async def test_what_was_rejected_is_refused_again_with_the_same_word_and_nobody_is_asked(
    desk: Desk, gone: bool
) -> None:
    said_no = await rejected(desk, gone=gone)
    desk.clock.advance(MEMORY - SECOND)
    told = await refused(desk, again(said_no.call), desk.service(rules=Rules(max_pending=0, max_per_hour=1)))
    assert (told.status, told.approval_id, told.reason) == (Status.REJECTED, said_no.id, "not on a Friday")
    assert told.reviewers == (ALICE.email,)
    assert told.sentence == (f"Rejected by {ALICE.email}: not on a Friday. Nothing ran. Do not try this call again.")
    row = await last_row(desk)
    assert (row.kind, row.approval_id) == (Kind.CALL_DENIED, None)
    assert row.detail == {"reason": "not on a Friday", "approval": said_no.id}
    assert await desk.slots() == []
    assert (await desk.held(asked=desk.call(key="another"))).id != said_no.id


async def test_after_the_memory_of_it_people_are_asked_anew(desk: Desk) -> None:
    said_no = await rejected(desk)
    desk.clock.advance(MEMORY)
    assert (await desk.held(asked=again(said_no.call))).state is State.PENDING


async def test_what_was_forgotten_is_asked_anew(desk: Desk) -> None:
    said_no = await rejected(desk)
    await desk.approvals.reviews.forget(said_no.id, BOB)
    assert (await desk.held(asked=again(said_no.call))).state is State.PENDING


async def test_another_rejection_of_the_same_call_is_remembered_by_itself(desk: Desk) -> None:
    first, second = await desk.held(), await desk.held()
    for approval, by in ((first, ALICE), (second, CAROL)):
        desk.clock.advance(MINUTE)
        await desk.review(approval, by, Decision.REJECT)
    assert (await refused(desk, again(first.call))).reviewers == (CAROL.email,)
    await desk.approvals.reviews.forget(second.id, BOB)
    assert (await refused(desk, again(first.call))).reviewers == (ALICE.email,)


async def test_only_the_very_same_call_was_rejected(desk: Desk) -> None:
    said_no = await rejected(desk)
    other = await another_grant(desk)
    for asked in (desk.call(key=1), desk.call("other"), replace(again(said_no.call), grant=other)):
        assert (await desk.held(asked=asked)).state is State.PENDING
    changed = {**DEFINITION, "description": "new"}
    held = await desk.approvals.requests.submit(again(said_no.call), hold(), changed)
    assert isinstance(held, Approval)


async def test_an_end_that_is_no_persons_word_is_not_remembered(desk: Desk) -> None:
    expired = await desk.held()
    await swept(desk, expired, QUARTER)
    assert (await desk.held(asked=again(expired.call))).state is State.PENDING


# -- too much ---------------------------------------------------------------------------------------------------------


def numbered(desk: Desk, number: int) -> Call:
    return desk.call(number=number)


async def test_only_so_many_may_be_pending_and_the_agent_hears_what_to_do(desk: Desk) -> None:
    desk.approvals = desk.service(rules=Rules(max_pending=2))
    held = [await desk.held(asked=numbered(desk, number)) for number in range(2)]
    told = await refused(desk, numbered(desk, 2))
    assert (told.status, told.rule, told.retry_after) == (Status.LIMITED, "approvals.max_pending", None)
    assert told.meta()["retry"] == "later"
    assert told.sentence == (
        "Nobody was asked: 2 calls of this agent wait for approval already, and no more may. Nothing ran. "
        "Make no call that needs approval until one of these is decided: go on without, or tell your user that you "
        "wait."
    )
    row = await last_row(desk)
    assert (row.kind, row.rule) == (Kind.CALL_LIMITED, "approvals.max_pending")
    assert await desk.slots() == []
    await desk.review(held[0], ALICE)
    assert (await desk.held(asked=numbered(desk, 2))).state is State.PENDING


async def test_what_is_picked_up_again_is_not_one_more(desk: Desk) -> None:
    gone = await left(desk, "lost")
    desk.approvals = desk.service(rules=Rules(max_pending=1, max_per_hour=1))
    assert (await desk.held(asked=again(gone.call))).id == gone.id


async def test_what_is_overdue_is_not_pending_even_before_it_is_swept(desk: Desk) -> None:
    desk.approvals = desk.service(rules=Rules(max_pending=1))
    await desk.held(asked=numbered(desk, 1))
    desk.clock.advance(QUARTER)
    assert (await desk.held(asked=numbered(desk, 2))).state is State.PENDING


async def test_only_so_many_in_an_hour_however_they_ended_and_the_agent_hears_how_long(desk: Desk) -> None:
    desk.approvals = desk.service(rules=Rules(max_per_hour=3))
    for number in range(3):
        approval = await desk.held(asked=numbered(desk, number))
        await desk.approvals.requests.abandon(approval.id, CANCELLED)
        assert (await swept(desk, approval, 5 * MINUTE)).state is State.WITHDRAWN
    desk.clock.advance(timedelta(milliseconds=1))
    told = await refused(desk, numbered(desk, 3))
    assert (told.status, told.rule, told.retry_after) == (Status.LIMITED, "approvals.max_per_hour", 45 * 60)
    assert told.sentence == (
        "Nobody was asked: this agent asked for 3 approvals within an hour, and may not ask for more. Nothing ran. "
        "Make no call that needs approval for 2700 s: go on without, or tell your user that you wait."
    )
    desk.clock.advance(timedelta(seconds=2699))
    assert (await refused(desk, numbered(desk, 3))).retry_after == 1
    desk.clock.advance(SECOND)
    assert (await desk.held(asked=numbered(desk, 3))).state is State.PENDING
    assert (await refused(desk, numbered(desk, 4))).retry_after == 300


async def test_how_long_is_known_too_when_the_cap_was_lowered(desk: Desk) -> None:
    for number in range(4):
        await desk.review(await desk.held(asked=numbered(desk, number)), ALICE, Decision.REJECT)
        desk.clock.advance(5 * MINUTE)
    lowered = desk.service(rules=Rules(max_per_hour=2))
    wait = (await refused(desk, numbered(desk, 9), lowered)).retry_after
    assert wait == 50 * 60  # until the third has left the hour, and only one is in it
    desk.clock.advance(timedelta(seconds=wait))
    assert isinstance(await lowered.requests.submit(numbered(desk, 9), hold(), DEFINITION), Approval)


async def test_each_grant_has_its_own_share(desk: Desk) -> None:
    desk.approvals = desk.service(rules=Rules(max_pending=1, max_per_hour=1))
    await desk.held()
    theirs = Call(new_id("call"), "desk", "press", {"name": "press"}, await another_grant(desk))
    assert (await desk.held(asked=theirs)).state is State.PENDING


# -- what ran before --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.EXECUTING, State.SUCCEEDED, State.FAILED, State.INTERRUPTED])
async def test_who_is_asked_again_learns_that_the_identical_call_ran_or_may_have(desk: Desk, state: State) -> None:
    """The connection broke, say, before the agent heard of it: a second yes would run it a second time."""
    first, claims = await desk.claimed(), desk.approvals.claims
    if state is State.INTERRUPTED:
        await claims.interrupt(first.id, "the server went away")
    elif state is not State.EXECUTING:
        await claims.finish(first.id, failed=state is State.FAILED)
    approved_at = desk.clock.now()
    desk.clock.advance(MINUTE)
    asked = await desk.held(asked=again(first.call))
    submitted = (await desk.approvals.history(asked.id))[0]
    assert submitted.detail["before"] == {"approval": first.id, "state": state, "at": timestamp(approved_at)}


async def test_nothing_is_said_of_an_identical_call_that_never_ran(desk: Desk) -> None:
    first = await desk.approved()
    asked = await desk.held(asked=again(first.call))
    assert "before" not in (await desk.approvals.history(asked.id))[0].detail
