"""The life of approvals, on a real store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.approvals.claims import LEASE, RESULT_CAP
from broker.approvals.ledger import Rules
from broker.approvals.sweeps import recover, sweep
from broker.domain.answers import Answer, Status
from broker.domain.approvals import Approval, Caller, Cause, Decision, State
from broker.domain.audit import Kind
from broker.domain.calls import UNIT, Action, arguments_digest
from broker.domain.canonical import Keyring
from broker.domain.people import GrantRef
from broker.errors import (
    AlreadyResolved,
    AlreadyVoted,
    Changed,
    DeadlinePassed,
    NotEligible,
    NotFound,
    SelfApproval,
    TransitionRefused,
    WrongChannel,
)
from broker.store import audit, grants, people
from tests.approvals.desk import OUTSIDER, Desk, again, hold, saying
from tests.domain.values import ALICE, BOB, CAROL, DEFINITION, KEYRING, MINUTE, OLGA, QUARTER, charge

SECOND = timedelta(seconds=1)
DENY = replace(hold(), action=Action.DENY)


async def contents(desk: Desk, approval: Approval) -> dict[str, Any]:
    return await desk.store.read(lambda session: audit.contents(session, approval.call.id))


# -- holding ----------------------------------------------------------------------------------------------------------


async def test_a_held_call_is_pending_with_everything_that_its_reviewers_need(desk: Desk) -> None:
    asked = desk.call(key=1)
    approval = await desk.held(hold(timeout=MINUTE), asked)
    assert await desk.approvals.get(approval.id) == approval
    assert (approval.state, approval.caller, approval.call) == (State.PENDING, Caller.WAITING, asked)
    assert approval.deadline == desk.clock.now() + MINUTE
    assert (approval.definition, approval.reason) == (DEFINITION, "moves a desk")
    assert await contents(desk, approval) == {"arguments": dict(asked.params)}
    assert await desk.kinds(approval) == [Kind.APPROVAL_SUBMITTED]


async def test_without_a_time_of_its_own_it_has_the_configured_one(desk: Desk) -> None:
    assert (await desk.held()).deadline == desk.clock.now() + QUARTER


@pytest.mark.parametrize(
    "wanted",
    [
        {"approvers": ("nobody",)},
        {"approvers": (OUTSIDER.email,)},
        {"approvers": (OLGA.email,)},
        {"quorum": 4},
        {"approvers": (ALICE.email, OLGA.email), "quorum": 2},
    ],
)
async def test_when_too_few_may_decide_nothing_is_held_and_no_slot_is_taken(desk: Desk, wanted: Any) -> None:
    told = await desk.told(hold(charge(who="x"), **wanted))
    assert isinstance(told, Answer)
    assert told.status is Status.DENIED
    assert await desk.slots() == []
    rows = await desk.store.read(lambda session: list(audit.stream(session)))
    assert (rows[-1].kind, rows[-1].approval_id) == (Kind.CALL_DENIED, None)


async def test_removed_people_are_not_counted_among_those_who_may_decide(desk: Desk) -> None:
    await desk.store.write(lambda tx: people.remove(tx, "cli:root", CAROL.email))
    assert isinstance(await desk.told(hold(quorum=3)), Answer)


async def test_a_full_limit_refuses_the_call_and_says_when(desk: Desk) -> None:
    limit = charge(window=MINUTE)
    first = await desk.held(hold(limit), desk.call(key=1))
    told = await desk.told(hold(limit), desk.call(key=2))
    assert isinstance(told, Answer)
    assert (told.status, told.retry_after) == (Status.LIMITED, None)  # nobody knows when a held call is decided
    await desk.claim(await desk.review(first, ALICE), verdict=hold(limit))
    told = await desk.told(hold(limit), desk.call(key=2))
    assert isinstance(told, Answer)
    assert told.retry_after == 61
    desk.clock.advance(timedelta(seconds=61))
    assert isinstance(await desk.told(hold(limit), desk.call(key=2)), Approval)


# -- the identical call -----------------------------------------------------------------------------------------------


async def test_the_identical_call_beside_one_that_waits_is_a_second_approval(desk: Desk) -> None:
    first = await desk.held()
    second = await desk.held(asked=again(first.call))
    assert second.id != first.id
    assert second.fingerprint == first.fingerprint


@pytest.mark.parametrize("approved", [False, True])
async def test_the_identical_call_picks_up_what_a_gone_caller_left_without_a_second_slot(
    desk: Desk, approved: bool
) -> None:
    limited = hold(charge())
    first = await (desk.approved if approved else desk.held)(limited)
    await desk.approvals.requests.abandon(first.id, "lost")
    slots = await desk.slots()
    picked_up = await desk.held(limited, again(first.call))
    assert picked_up == replace(first, caller=Caller.WAITING)
    assert await desk.slots() == slots
    assert (await desk.kinds(first))[-2:] == [Kind.APPROVAL_ABANDONED, Kind.APPROVAL_RESUMED]
    assert isinstance(await desk.told(limited, again(first.call)), Answer)  # now it waits again: this is a second one


async def test_only_the_identical_call_of_the_same_tool_picks_it_up(desk: Desk) -> None:
    first = await desk.held(asked=desk.call(key=1))
    await desk.approvals.requests.abandon(first.id, "lost")
    others = [desk.call(key=2), desk.call("other", key=1), replace(again(first.call), upstream="git")]
    for other in others:
        assert (await desk.held(asked=other)).id != first.id
    changed = await desk.approvals.requests.submit(again(first.call), hold(), {**DEFINITION, "description": "new"})
    assert isinstance(changed, Approval)
    assert changed.id != first.id


async def test_what_is_over_is_not_picked_up_even_before_it_is_swept(desk: Desk) -> None:
    first = await desk.held()
    await desk.approvals.requests.abandon(first.id, "lost")
    desk.clock.advance(QUARTER)
    assert (await desk.held(asked=again(first.call))).id != first.id


@pytest.mark.parametrize("approved", [False, True])
async def test_who_comes_back_after_the_grace_asks_anew_even_before_it_is_swept(desk: Desk, approved: bool) -> None:
    first = await (desk.approved if approved else desk.held)()
    await desk.approvals.requests.abandon(first.id, "cancelled")
    desk.clock.advance(desk.approvals.rules.retry_grace - SECOND)
    assert (await desk.held(asked=again(first.call))).id == first.id
    await desk.approvals.requests.abandon(first.id, "cancelled")
    desk.clock.advance(desk.approvals.rules.retry_grace)
    assert (await desk.held(asked=again(first.call))).id != first.id


async def test_a_call_is_known_again_after_the_secret_was_rotated(desk: Desk) -> None:
    first = await desk.approved()
    await desk.approvals.requests.abandon(first.id, "lost")
    rotated = desk.service(keyring=Keyring([b"the next secret of the tests", b"a secret of the tests, long enough"]))
    picked_up = await rotated.requests.submit(again(first.call), hold(), DEFINITION)
    assert isinstance(picked_up, Approval)
    assert picked_up.id == first.id
    assert (await desk.claim(first, rotated)).state is State.EXECUTING


async def test_a_caller_goes_away_once(desk: Desk) -> None:
    approval = await desk.held()
    for why in ("cancelled", "lost"):
        await desk.approvals.requests.abandon(approval.id, why)
    assert await desk.kinds(approval) == [Kind.APPROVAL_SUBMITTED, Kind.APPROVAL_ABANDONED]
    assert (await desk.approvals.get(approval.id)).caller is Caller.GONE


async def test_a_caller_that_goes_away_after_the_end_changes_nothing(desk: Desk) -> None:
    rejected = await desk.review(await desk.held(), ALICE, Decision.REJECT)
    await desk.approvals.requests.abandon(rejected.id, "lost")
    assert await desk.approvals.get(rejected.id) == rejected


# -- people -----------------------------------------------------------------------------------------------------------


async def test_a_quorum_of_different_people_approves(desk: Desk) -> None:
    pending = await desk.held(hold(quorum=2))
    once = await desk.review(pending, ALICE)
    assert once.state is State.PENDING
    assert await desk.review(pending, ALICE) == once
    approved = await desk.review(pending, BOB)
    assert approved.state is State.APPROVED
    assert await desk.approvals.get(pending.id) == approved
    assert await desk.kinds(pending) == [Kind.APPROVAL_SUBMITTED, Kind.APPROVAL_REVIEWED, Kind.APPROVAL_APPROVED]


async def test_the_row_of_a_review_says_who_where_why_and_for_which_revision(desk: Desk) -> None:
    approval = await desk.held()
    await desk.approvals.reviews.review(approval.id, ALICE, Decision.REJECT, channel="slack:#desk", reason="no")
    row = (await desk.approvals.history(approval.id))[-1]
    assert row.actor == ALICE.email
    assert row.detail == {
        "decision": "reject",
        "channel": "slack:#desk",
        "reason": "no",
        "revision": approval.revision,
        "state": "rejected",
    }


async def test_the_record_has_what_the_reviewer_was_shown(desk: Desk) -> None:
    approval = await desk.held()
    await desk.approvals.reviews.review(approval.id, ALICE, Decision.APPROVE, channel="web", shown="d" * 64)
    [row] = [row for row in await desk.approvals.history(approval.id) if row.kind is Kind.APPROVAL_APPROVED]
    assert row.detail["shown"] == "d" * 64


@pytest.mark.parametrize("owner", ["olga@example.com", " Olga@EXAMPLE.com "])
async def test_the_owner_of_the_grant_may_not_approve_however_the_address_is_written(desk: Desk, owner: str) -> None:
    asked = replace(desk.call(), grant=GrantRef(desk.grant.id, "ci", owner))
    approval = await desk.held(asked=asked)
    with pytest.raises(SelfApproval):
        await desk.review(approval, OLGA)
    with pytest.raises(SelfApproval):
        await desk.review(approval, OLGA, Decision.REJECT)


async def test_whose_word_does_not_count_changes_nothing(desk: Desk) -> None:
    approval = await desk.held(hold(approvers=(ALICE.email,), channels=("web",)))
    with pytest.raises(NotEligible):
        await desk.review(approval, BOB)
    with pytest.raises(NotEligible):
        await desk.review(approval, OUTSIDER)
    with pytest.raises(WrongChannel):
        await desk.approvals.reviews.review(approval.id, ALICE, Decision.APPROVE, channel="api")
    with pytest.raises(Changed):
        await desk.approvals.reviews.review(approval.id, ALICE, Decision.APPROVE, channel="web", revision="0" * 64)
    with pytest.raises(NotFound):
        await desk.approvals.reviews.review("apr_0", ALICE, Decision.APPROVE, channel="web")
    assert await desk.approvals.get(approval.id) == approval
    assert await desk.kinds(approval) == [Kind.APPROVAL_SUBMITTED]


async def test_another_word_is_refused_and_the_same_word_is_fine_even_after_the_end(desk: Desk) -> None:
    approval = await desk.held(hold(quorum=2))
    await desk.review(approval, ALICE)
    with pytest.raises(AlreadyVoted):
        await desk.review(approval, ALICE, Decision.REJECT)
    approved = await desk.review(approval, BOB)
    assert await desk.review(approval, ALICE) == approved
    with pytest.raises(AlreadyResolved, match=r"Already approved by alice@example\.com and bob@example\.com"):
        await desk.review(approval, CAROL, Decision.REJECT)
    assert len(await desk.kinds(approval)) == 3


async def test_nobody_decides_at_the_deadline_even_before_it_is_swept(desk: Desk) -> None:
    approval = await desk.held()
    desk.clock.advance(QUARTER)
    with pytest.raises(DeadlinePassed):
        await desk.review(approval, ALICE)


@pytest.mark.parametrize("reason", ["\x00", "\ud83d", "\u202eno", "so that\nit is", "x" * 100_000])
async def test_a_reason_may_be_anything_that_somebody_can_send(desk: Desk, reason: str) -> None:
    approval = await desk.held()
    rejected = await desk.approvals.reviews.review(approval.id, ALICE, Decision.REJECT, channel="web", reason=reason)
    assert await desk.approvals.get(approval.id) == rejected
    assert rejected.resolution is not None
    assert rejected.resolution.reason == reason.replace("\ud83d", "?")
    await desk.check_record()


# -- claiming ---------------------------------------------------------------------------------------------------------


async def test_an_approved_call_is_claimed_once(desk: Desk) -> None:
    approved = await desk.approved(hold(charge()))
    claimed = await desk.claim(approved)
    assert (claimed.state, claimed.holder) == (State.EXECUTING, desk.approvals.claims.holder)
    assert claimed.lease_until == desk.clock.now() + LEASE
    with pytest.raises(TransitionRefused):
        await desk.claim(approved)
    assert (await desk.kinds(approved))[-1] is Kind.APPROVAL_CLAIMED


@pytest.mark.parametrize("state", ["held", "rejected"])
async def test_what_is_not_approved_is_not_claimed(desk: Desk, state: str) -> None:
    approval = await desk.held()
    if state == "rejected":
        approval = await desk.review(approval, ALICE, Decision.REJECT)
    with pytest.raises(TransitionRefused):
        await desk.claim(approval)
    assert await desk.approvals.get(approval.id) == approval


@pytest.mark.parametrize(
    ("verdict", "definition", "cause"),
    [
        (DENY, DEFINITION, Cause.POLICY),
        (hold(), {**DEFINITION, "description": "now it deletes"}, Cause.TOOL),
        (hold(), None, Cause.TOOL),
    ],
)
async def test_a_claim_is_withdrawn_when_policy_or_tool_are_not_the_same(
    desk: Desk, verdict: Any, definition: Any, cause: Cause
) -> None:
    approved = await desk.approved(hold(charge()))
    ended = await desk.approvals.claims.claim(approved.id, saying(verdict), definition)
    assert isinstance(ended, Approval)
    assert ended.state is State.WITHDRAWN
    assert ended.resolution is not None
    assert ended.resolution.cause is cause
    assert (await desk.approvals.history(approved.id))[-1].detail["cause"] == cause.value
    assert await desk.slots() == []


async def test_nothing_is_claimed_for_a_caller_that_went_away(desk: Desk) -> None:
    approved = await desk.approved()
    await desk.approvals.requests.abandon(approved.id, "lost")
    with pytest.raises(TransitionRefused):
        await desk.claim(approved)
    picked_up = await desk.held(asked=again(approved.call))
    assert (await desk.claim(picked_up)).state is State.EXECUTING


async def test_a_policy_that_now_allows_does_not_hinder_a_claim(desk: Desk) -> None:
    approved = await desk.approved()
    verdict = replace(hold(), action=Action.ALLOW)
    assert (await desk.claim(approved, verdict=verdict)).state is State.EXECUTING


@pytest.mark.parametrize("how", ["revoked", "expired", "unknown"])
async def test_a_claim_of_a_grant_that_ended_is_withdrawn(desk: Desk, how: str) -> None:
    if how == "expired":
        expires_at = desk.clock.now() + MINUTE
        made = await desk.store.write(
            lambda tx: grants.create(
                tx, "a", label="ci", owner=OLGA.email, upstreams=frozenset({"desk"}), expires_at=expires_at
            )
        )
        desk.grant = made.grant.ref
    elif how == "unknown":
        desk.grant = replace(desk.grant, id="grant_0")
    approved = await desk.approved()
    desk.clock.advance(MINUTE)
    if how == "revoked":
        await desk.store.write(lambda tx: grants.revoke(tx, "cli:root", desk.grant.id))
    ended = await desk.claim(approved)
    assert ended.state is State.WITHDRAWN
    assert ended.resolution is not None
    assert ended.resolution.cause is Cause.GRANT


async def test_a_claim_that_comes_too_late_ends_as_unused(desk: Desk) -> None:
    approved = await desk.approved(hold(charge()))
    desk.clock.advance(QUARTER)
    ended = await desk.claim(approved)
    assert ended.state is State.EXPIRED
    assert ended.resolution is not None
    assert ended.resolution.cause is Cause.UNUSED
    assert await desk.slots() == []


# -- outcomes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failed", [False, True])
async def test_an_outcome_is_recorded_and_the_result_kept(desk: Desk, failed: bool) -> None:
    claimed = await desk.claimed(hold(charge()))
    result = {"content": [{"type": "text", "text": "\x00\u202e"}], "n": 2**200}
    ended = await desk.approvals.claims.finish(claimed.id, failed=failed, result=result)
    assert ended.state is (State.FAILED if failed else State.SUCCEEDED)
    assert (await contents(desk, claimed))["result"] == result
    assert (await desk.slots(), await desk.counted()) == ([], 1)
    with pytest.raises(TransitionRefused):
        await desk.approvals.claims.finish(claimed.id, failed=failed)


@pytest.mark.parametrize(("size", "kept"), [(RESULT_CAP - 2, True), (RESULT_CAP - 1, False)])
async def test_a_result_that_is_too_large_is_not_kept(desk: Desk, size: int, kept: bool) -> None:
    claimed = await desk.claimed()
    await desk.approvals.claims.finish(claimed.id, failed=False, result="x" * size)
    assert ("result" in await contents(desk, claimed)) is kept


async def test_results_are_not_kept_when_the_settings_say_so(desk: Desk) -> None:
    desk.approvals = desk.service(rules=Rules(keep_results=False))
    claimed = await desk.claimed()
    await desk.approvals.claims.finish(claimed.id, failed=False, result={"a": 1})
    assert set(await contents(desk, claimed)) == {"arguments"}


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("result", [nested(101), nested(3000), {"text": "\ud800"}], ids=["deep", "deeper", "surrogate"])
async def test_a_result_of_a_strange_shape_does_not_hinder_the_record_of_the_outcome(desk: Desk, result: Any) -> None:
    claimed = await desk.claimed()
    assert (await desk.approvals.claims.finish(claimed.id, failed=False, result=result)).state is State.SUCCEEDED
    assert "result" not in await contents(desk, claimed)


async def test_a_call_that_never_reached_the_tool_can_be_claimed_again_with_its_slot_held(desk: Desk) -> None:
    claimed = await desk.claimed(hold(charge()))
    assert (await desk.slots(), await desk.counted()) == ([(claimed.call.id, False)], 1)
    released = await desk.approvals.claims.release(claimed.id, "connection refused")
    assert (released.state, released.holder) == (State.APPROVED, None)
    assert (await desk.slots(), await desk.counted()) == ([(claimed.call.id, True)], 0)
    assert (await desk.claim(released, verdict=hold(charge()))).state is State.EXECUTING
    assert (await desk.slots(), await desk.counted()) == ([(claimed.call.id, False)], 1)


@pytest.mark.parametrize("failed", [False, True])
async def test_a_late_outcome_is_recorded_and_the_state_stays(desk: Desk, failed: bool) -> None:
    claimed = await desk.claimed()
    interrupted = await desk.approvals.claims.interrupt(claimed.id, "it went away")
    ended = await desk.approvals.claims.finish(claimed.id, failed=failed, result={"a": 1})
    assert ended == replace(interrupted, holder=None) == await desk.approvals.get(claimed.id)
    row = (await desk.approvals.history(claimed.id))[-1]
    assert row.kind is Kind.APPROVAL_LATE
    assert row.detail["outcome"] == ("approval.failed" if failed else "approval.succeeded")
    assert (await contents(desk, claimed))["result"] == {"a": 1}
    with pytest.raises(TransitionRefused):  # and not a failure of the store, which would be tried again without an end
        await desk.approvals.claims.finish(claimed.id, failed=failed, result={"a": 1})


async def test_only_the_process_that_executes_a_call_says_what_came_of_it(desk: Desk) -> None:
    claimed, other = await desk.claimed(), desk.elsewhere().claims
    for word in (
        other.finish(claimed.id, failed=False),
        other.release(claimed.id, "it went away"),
        other.interrupt(claimed.id, "it went away"),
        other.await_input(claimed, "state"),
    ):
        with pytest.raises(TransitionRefused):
            await word
    assert await desk.approvals.get(claimed.id) == claimed


# -- input ------------------------------------------------------------------------------------------------------------


async def test_a_word_whose_record_is_in_doubt_does_not_undo_what_came_after_it(desk: Desk) -> None:
    """The connection breaks at the commit: the claim is given back, its process does not hear that, and says it again.
    The retry has claimed it meanwhile."""
    claimed = await desk.claimed()
    last_word = desk.service()
    last_word.claims.holder = desk.approvals.claims.holder
    await last_word.claims.release(claimed.id, "connection refused")
    await desk.approvals.requests.abandon(claimed.id, "lost")
    picked_up = await desk.held(asked=again(claimed.call))
    told = await desk.approvals.claims.claim(picked_up.id, saying(hold()), DEFINITION)
    assert isinstance(told, Answer)
    assert (told.status, await desk.approvals.get(picked_up.id)) == (Status.UNAVAILABLE, picked_up)
    with pytest.raises(TransitionRefused):
        await desk.approvals.claims.release(claimed.id, "connection refused")
    assert (await desk.claim(picked_up)).state is State.EXECUTING


async def test_a_call_whose_tool_asked_for_input_has_reached_it_and_is_never_given_back(desk: Desk) -> None:
    """Else the retry would run it from the start again."""
    claimed = await desk.claimed()
    await desk.approvals.claims.await_input(claimed, "state")
    with pytest.raises(TransitionRefused):
        await desk.approvals.claims.release(claimed.id, "connection refused")
    continued = await desk.approvals.claims.continue_with_input(claimed.call, "state", saying(hold()), DEFINITION)
    with pytest.raises(TransitionRefused):
        await desk.approvals.claims.release(claimed.id, "connection refused")
    assert await desk.approvals.get(claimed.id) == continued


async def test_whose_word_was_refused_does_not_keep_a_call_executing_for_ever(desk: Desk) -> None:
    claimed = await desk.claimed()
    await desk.approvals.claims.await_input(claimed, "state")
    await desk.approvals.claims.continue_with_input(claimed.call, "state", saying(hold()), DEFINITION)
    with pytest.raises(TransitionRefused):
        await desk.approvals.claims.release(claimed.id, "connection refused")
    desk.clock.advance(LEASE)
    await sweep(desk.approvals)
    assert (await desk.approvals.get(claimed.id)).state is State.INTERRUPTED


async def test_input_may_take_its_time_whatever_is_swept_meanwhile(desk: Desk) -> None:
    claimed = await desk.claimed()
    # As when the sweep is in the same commit: this process does not know yet that it executes nothing.
    await asyncio.gather(desk.approvals.claims.await_input(claimed, "state"), sweep(desk.approvals))
    desk.clock.advance(QUARTER - MINUTE)
    await sweep(desk.approvals)
    going_on = await desk.approvals.claims.continue_with_input(claimed.call, "state", saying(hold()), DEFINITION)
    assert isinstance(going_on, Approval)
    assert going_on.state is State.EXECUTING


async def test_what_is_interrupted_is_never_claimed_again(desk: Desk) -> None:
    claimed = await desk.claimed()
    interrupted = await desk.approvals.claims.interrupt(claimed.id, "it went away")
    with pytest.raises(TransitionRefused):
        await desk.claim(interrupted)
    with pytest.raises(TransitionRefused):
        await desk.approvals.claims.release(interrupted.id, "no")
    assert (await desk.approvals.history(claimed.id))[-1].detail["why"] == "it went away"


# -- slots ------------------------------------------------------------------------------------------------------------


async def test_the_slot_of_a_rejected_call_is_free_again(desk: Desk) -> None:
    await desk.review(await desk.held(hold(charge())), ALICE, Decision.REJECT)
    assert await desk.slots() == []


async def test_the_slot_of_an_expired_call_is_free_again(desk: Desk) -> None:
    await desk.held(hold(charge()))
    desk.clock.advance(QUARTER)
    await sweep(desk.approvals)
    assert await desk.slots() == []


async def test_the_slot_of_an_interrupted_call_stays_used(desk: Desk) -> None:
    claimed = await desk.claimed(hold(charge()))
    await desk.approvals.claims.interrupt(claimed.id, "it went away")
    assert (await desk.slots(), await desk.counted()) == ([], 1)


@pytest.mark.parametrize("errored", [False, True])
async def test_what_is_refunded_is_given_back_when_the_server_answered_an_error(desk: Desk, errored: bool) -> None:
    refunded = replace(charge(), refund=True)
    claimed = await desk.claimed(hold(refunded, charge(counter="kept")))
    await desk.approvals.claims.finish(claimed.id, failed=True, errored=errored)
    assert (await desk.slots(), await desk.counted()) == ([], 1 if errored else 2)


async def test_an_approved_call_counts_as_the_present_policy_says(desk: Desk) -> None:
    approved = await desk.approved(hold(charge(counter="then")))
    await desk.claim(approved, verdict=hold(charge(counter="now")))
    told = await desk.told(hold(charge(counter="now")), desk.call(key=2))
    assert isinstance(told, Answer)
    assert isinstance(await desk.told(hold(charge(counter="then")), desk.call(key=3)), Approval)


async def test_an_approved_call_for_which_the_present_policy_has_no_room_can_be_used_later(desk: Desk) -> None:
    first = await desk.approved(hold(charge(maximum=2)), desk.call(key=1))
    second = await desk.held(hold(charge(maximum=2)), desk.call(key=2))
    strict = hold(charge(maximum=1))
    told = await desk.approvals.claims.claim(first.id, saying(strict), DEFINITION)
    assert isinstance(told, Answer)
    assert (told.status, told.approval_id) == (Status.LIMITED, first.id)
    assert await desk.approvals.get(first.id) == first
    assert await desk.slots() == [(call_id, True) for call_id in sorted((first.call.id, second.call.id))]
    await desk.review(second, ALICE, Decision.REJECT)
    assert (await desk.claim(first, verdict=strict)).state is State.EXECUTING


async def test_a_call_that_alone_is_more_than_its_limit_is_denied_and_asks_nobody(desk: Desk) -> None:
    told = await desk.told(hold(replace(charge(maximum=2), amount=3 * UNIT)))
    assert isinstance(told, Answer)
    assert told.status is Status.DENIED
    rows = await desk.store.read(lambda session: list(audit.stream(session)))
    assert rows[-1].kind is Kind.CALL_DENIED


# -- the clock --------------------------------------------------------------------------------------------------------


async def test_a_sweep_ends_what_is_overdue_and_nothing_else(desk: Desk) -> None:
    unanswered, unused = await desk.held(asked=desk.call(key=1)), await desk.approved(asked=desk.call(key=2))
    desk.clock.advance(QUARTER - MINUTE)
    fresh = await desk.held(asked=desk.call(key=3))
    await sweep(desk.approvals)
    assert await desk.approvals.get(unanswered.id) == replace(unanswered, reminded=2)
    desk.clock.advance(MINUTE)
    for _ in range(2):  # the second one finds nothing
        await sweep(desk.approvals)
    ends = [(await desk.approvals.get(each.id)).resolution for each in (unanswered, unused)]
    assert [end.cause for end in ends if end] == [Cause.UNANSWERED, Cause.UNUSED]
    assert (await desk.approvals.get(fresh.id)).state is State.PENDING
    assert (await desk.kinds(unanswered)).count(Kind.APPROVAL_EXPIRED) == 1


async def test_a_sweep_withdraws_what_belongs_to_grants_that_ended(desk: Desk) -> None:
    pending, approved = await desk.held(hold(charge()), desk.call(key=1)), await desk.approved(asked=desk.call(key=2))
    claimed = await desk.claimed()
    await sweep(desk.approvals)
    assert await desk.approvals.get(pending.id) == pending
    await desk.store.write(lambda tx: grants.revoke(tx, "cli:root", desk.grant.id))
    for _ in range(2):
        await sweep(desk.approvals)
    for before in (pending, approved):
        after = await desk.approvals.get(before.id)
        assert after.state is State.WITHDRAWN
        assert after.resolution is not None
        assert after.resolution.cause is Cause.GRANT
        assert (await desk.kinds(before)).count(Kind.APPROVAL_WITHDRAWN) == 1
    assert (await desk.approvals.get(claimed.id)).state is State.EXECUTING
    assert await desk.slots() == []


async def test_what_is_overdue_and_of_an_ended_grant_ends_once(desk: Desk) -> None:
    approval = await desk.held()
    await desk.store.write(lambda tx: grants.revoke(tx, "cli:root", desk.grant.id))
    desk.clock.advance(QUARTER)
    await sweep(desk.approvals)
    assert (await desk.approvals.get(approval.id)).state is State.EXPIRED
    assert len(await desk.kinds(approval)) == 2


async def test_a_holder_that_sweeps_keeps_its_lease_and_one_that_does_not_loses_it(desk: Desk) -> None:
    claimed = await desk.claimed()
    other = desk.elsewhere()
    for _ in range(4):
        desk.clock.advance(LEASE / 2)
        await sweep(desk.approvals)
        await sweep(other)
    assert (await desk.approvals.get(claimed.id)).state is State.EXECUTING
    desk.clock.advance(LEASE)
    await sweep(other)
    assert (await desk.approvals.get(claimed.id)).state is State.INTERRUPTED


async def test_after_a_restart_no_caller_waits_and_what_ran_is_interrupted(desk: Desk) -> None:
    pending, approved = await desk.held(asked=desk.call(key=1)), await desk.approved(asked=desk.call(key=2))
    gone = await desk.held(asked=desk.call(key=3))
    await desk.approvals.requests.abandon(gone.id, "lost")
    claimed = await desk.claimed()
    rejected = await desk.review(await desk.held(), ALICE, Decision.REJECT)
    restarted = desk.elsewhere()
    for _ in range(2):
        await recover(restarted, alone=True)
    assert await restarted.get(pending.id) == replace(pending, caller=Caller.GONE, waits_at=None)
    assert await restarted.get(approved.id) == replace(approved, caller=Caller.GONE, waits_at=None)
    assert (await restarted.get(claimed.id)).state is State.INTERRUPTED
    assert await restarted.get(rejected.id) == rejected
    counts = [len(await desk.kinds(each)) for each in (pending, approved, gone, claimed, rejected)]
    assert counts == [2, 3, 2, 4, 2]
    picked_up = await restarted.requests.submit(again(approved.call), hold(), DEFINITION)
    assert isinstance(picked_up, Approval)
    assert picked_up.id == approved.id


# -- the record -------------------------------------------------------------------------------------------------------


async def test_every_move_is_one_row_and_the_record_leads_to_the_same_states(desk: Desk) -> None:
    claimed = await desk.claimed(hold(charge(maximum=9), quorum=1))
    await desk.approvals.claims.release(claimed.id, "connection refused")
    await desk.approvals.requests.abandon(claimed.id, "lost")
    await desk.held(asked=again(claimed.call))
    await desk.approvals.claims.finish((await desk.claim(claimed)).id, failed=False)
    assert await desk.kinds(claimed) == [
        Kind.APPROVAL_SUBMITTED,
        Kind.APPROVAL_APPROVED,
        Kind.APPROVAL_CLAIMED,
        Kind.APPROVAL_RELEASED,
        Kind.APPROVAL_ABANDONED,
        Kind.APPROVAL_RESUMED,
        Kind.APPROVAL_CLAIMED,
        Kind.APPROVAL_SUCCEEDED,
    ]
    await desk.check_record()


async def test_a_row_names_the_call_and_never_its_arguments(desk: Desk) -> None:
    approval = await desk.held(asked=desk.call(password="correct horse"))
    [row] = await desk.approvals.history(approval.id)
    assert (row.call_id, row.upstream, row.tool) == (approval.call.id, "desk", "press")
    assert (row.grant, row.actor, row.verdict) == (desk.grant.id, f"agent:{desk.grant.id}", "hold")
    assert row.arguments_digest == arguments_digest(KEYRING, approval.call)
    assert "correct horse" not in str(row)
