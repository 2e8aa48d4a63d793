"""The state table and the guard of each move."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.domain.approvals import TRANSITIONS, Approval, Cause, Decision, Move, State
from broker.domain.calls import Requirement
from broker.domain.moves import (
    await_input,
    claim,
    continue_with_input,
    describe_end,
    expire,
    finish,
    hear_late,
    interrupt,
    leave,
    release,
    withdraw,
)
from broker.domain.people import Person, Role
from broker.domain.reviewers import eligible, eligible_people
from broker.errors import (
    AlreadyResolved,
    AlreadyVoted,
    BrokerError,
    Changed,
    DeadlinePassed,
    NotEligible,
    ReviewRefused,
    SelfApproval,
    TransitionRefused,
    WrongChannel,
)
from tests.clock import NOON
from tests.domain.values import ALICE, BOB, CAROL, GRANT, LEASE, MINUTE, OLGA, QUARTER, held, in_state, person, reviewed

MICROSECOND = timedelta(microseconds=1)
LATE = NOON + timedelta(days=1)

MOVES: dict[Move, Callable[[Approval], Approval]] = {
    Move.APPROVE: lambda approval: reviewed(approval, BOB),
    Move.REJECT: lambda approval: reviewed(approval, BOB, Decision.REJECT),
    Move.EXPIRE: lambda approval: expire(approval, LATE),
    Move.WITHDRAW: lambda approval: withdraw(approval, Cause.TOOL, NOON + MINUTE),
    Move.CLAIM: lambda approval: claim(approval, "proc_2", NOON + MINUTE, LEASE),
    Move.SUCCEED: lambda approval: finish(approval, failed=False),
    Move.FAIL: lambda approval: finish(approval, failed=True),
    Move.RELEASE: release,
    Move.ASK: lambda approval: await_input(approval, "mark", NOON + QUARTER),
    Move.CONTINUE: lambda approval: continue_with_input(asking(approval), ["mark"], "proc_2", NOON + MINUTE, LEASE),
    Move.INTERRUPT: interrupt,
}


def asking(approval: Approval) -> Approval:
    """The same, when the tool waits for input."""
    return replace(approval, awaiting="mark", lease_until=NOON + QUARTER)


FINAL = {State.SUCCEEDED, State.FAILED, State.REJECTED, State.EXPIRED, State.WITHDRAWN, State.INTERRUPTED}


# -- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "move"), list(itertools.product(State, Move)))
def test_every_move_is_in_the_table_or_refused(state: State, move: Move) -> None:
    approval = in_state(state)
    assert approval.state is state
    if (state, move) in TRANSITIONS:
        assert MOVES[move](approval).state in TRANSITIONS[state, move]
    else:
        with pytest.raises(BrokerError) as refused:
            MOVES[move](approval)
        assert isinstance(refused.value, AlreadyResolved | TransitionRefused)


def test_what_the_table_says_is_what_the_design_says() -> None:
    told = {(before.value, after.value) for (before, _), ends in TRANSITIONS.items() for after in ends}
    assert told == {
        ("pending", "pending"),
        *(("pending", end) for end in ("approved", "rejected", "expired", "withdrawn")),
        *(("approved", end) for end in ("executing", "expired", "withdrawn")),
        *(("executing", end) for end in ("executing", "succeeded", "failed", "interrupted", "approved")),
    }


def test_exactly_the_ends_are_final() -> None:
    assert {state for state in State if state.final} == FINAL


# -- who may decide ---------------------------------------------------------------------------------------------------

NAMED = Requirement(approvers=("desktop-owners", " Alice@Example.com"))


def test_without_names_everybody_with_the_approver_role_may_decide() -> None:
    others = [person("dan", role=Role.AUDITOR), person("eve", role=Role.POLICY_MANAGER), Person("nobody@example.com")]
    root = person("root", role=Role.ADMIN)
    assert eligible_people(Requirement(), GRANT, [ALICE, BOB, OLGA, root, *others]) == [ALICE, BOB, root]


def test_named_people_and_groups_may_decide_and_nobody_else() -> None:
    owner = person("dan", "desktop-owners")
    assert eligible_people(NAMED, GRANT, [ALICE, BOB, owner, person("eve", "other")]) == [ALICE, owner]


def test_being_named_is_not_enough_without_the_role() -> None:
    assert not eligible(NAMED, GRANT, person("alice", "desktop-owners", role=Role.AUDITOR))


def test_a_group_named_like_an_address_does_not_stand_for_the_person() -> None:
    assert not eligible(Requirement(approvers=("alice",)), GRANT, ALICE)


@pytest.mark.parametrize("owner", ["olga@example.com", " Olga@Example.COM", "OLGA@EXAMPLE.COM\t"])
def test_the_owner_may_not_decide_however_the_address_is_written(owner: str) -> None:
    grant = replace(GRANT, owner=owner)
    assert not eligible(Requirement(), grant, OLGA)
    assert eligible(Requirement(allow_self=True), grant, OLGA)
    with pytest.raises(SelfApproval):
        reviewed(held(call=replace(held().call, grant=grant)), OLGA)


def test_somebody_else_is_not_eligible() -> None:
    with pytest.raises(NotEligible):
        reviewed(held(NAMED), BOB)


@pytest.mark.parametrize(
    ("allowed", "channel", "taken"),
    [
        ((), "anywhere", True),
        (("web",), "web", True),
        (("web",), "api", False),
        (("slack",), "slack:#desktop", True),
        (("slack:#desktop",), "slack:#desktop", True),
        (("slack:#desktop",), "slack:#other", False),
        (("slack:#desktop",), "slack", False),
        (("web", "api"), "slack:web", False),
    ],
)
def test_a_requirement_may_name_the_channels(allowed: tuple[str, ...], channel: str, taken: bool) -> None:
    approval = held(Requirement(channels=allowed))
    if taken:
        assert reviewed(approval, ALICE, channel=channel).state is State.APPROVED
    else:
        with pytest.raises(WrongChannel):
            reviewed(approval, ALICE, channel=channel)


# -- reviews ----------------------------------------------------------------------------------------------------------


def test_an_approval_says_who_when_and_where_and_how_long_it_may_be_used() -> None:
    approved = reviewed(held(), ALICE, reason="go on")
    end = approved.resolution
    assert end is not None
    assert (end.by, end.at, end.channel, end.reason) == (ALICE.email, NOON + MINUTE, "web", "go on")
    assert approved.execute_by == NOON + MINUTE + QUARTER


def test_below_the_quorum_it_stays_pending() -> None:
    once = reviewed(held(Requirement(quorum=3)), ALICE)
    twice = reviewed(once, BOB)
    assert (once.state, twice.state, twice.resolution) == (State.PENDING, State.PENDING, None)
    assert reviewed(twice, CAROL).state is State.APPROVED


def test_one_person_counts_once_towards_the_quorum() -> None:
    once = reviewed(held(Requirement(quorum=2)), ALICE)
    assert reviewed(once, ALICE) is once


def test_one_rejection_settles_it_whatever_was_said_before() -> None:
    rejected = reviewed(reviewed(held(Requirement(quorum=2)), ALICE), BOB, Decision.REJECT)
    assert rejected.state is State.REJECTED
    assert [given.by for given in rejected.reviews] == [ALICE.email, BOB.email]


def test_whoever_repeats_themselves_after_the_end_is_not_told_off() -> None:
    approved = reviewed(held(), ALICE)
    assert reviewed(approved, ALICE) is approved


@pytest.mark.parametrize("quorum", [1, 2])
def test_another_word_than_before_is_refused(quorum: int) -> None:
    with pytest.raises(AlreadyVoted if quorum == 2 else AlreadyResolved):
        reviewed(reviewed(held(Requirement(quorum=quorum)), ALICE), ALICE, Decision.REJECT)


def test_a_word_for_what_is_no_longer_there_is_refused() -> None:
    with pytest.raises(Changed):
        reviewed(held(revision="0" * 64), ALICE)


def test_a_word_does_not_count_when_a_caller_that_cancelled_was_waited_for_in_vain() -> None:
    cancelled = leave(held(), NOON + 2 * MINUTE)
    assert reviewed(cancelled, ALICE, at=NOON + 2 * MINUTE - MICROSECOND).state is State.APPROVED
    with pytest.raises(DeadlinePassed):
        reviewed(cancelled, ALICE, at=NOON + 2 * MINUTE)


def test_the_deadline_itself_is_too_late() -> None:
    assert reviewed(held(), ALICE, at=NOON + QUARTER - MICROSECOND).state is State.APPROVED
    with pytest.raises(DeadlinePassed):
        reviewed(held(), ALICE, at=NOON + QUARTER)


@pytest.mark.parametrize("state", sorted(set(State) - {State.PENDING}))
def test_a_word_after_the_end_is_answered_with_how_it_stands(state: State) -> None:
    with pytest.raises(AlreadyResolved) as refused:
        reviewed(in_state(state), BOB)
    assert str(refused.value) == describe_end(in_state(state))


def test_who_may_not_decide_is_told_that_and_not_how_it_ended() -> None:
    with pytest.raises(SelfApproval):
        reviewed(in_state(State.REJECTED), OLGA)


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (State.PENDING, "This approval is pending."),
        (State.APPROVED, "Already approved by alice@example.com at 2026-07-28 12:01:00 UTC."),
        (State.REJECTED, "Already rejected by alice@example.com at 2026-07-28 12:01:00 UTC: not on a Friday."),
        (State.EXPIRED, "Already expired at 2026-07-28 12:15:00 UTC. Nobody answered in time."),
        (State.WITHDRAWN, "Already withdrawn by root@example.com at 2026-07-28 12:01:00 UTC."),
    ],
)
def test_the_end_is_described_with_everybody_who_decided_when_and_why(state: State, sentence: str) -> None:
    assert describe_end(in_state(state)) == sentence


# -- the clock and the holder -----------------------------------------------------------------------------------------


def test_nothing_expires_before_its_time() -> None:
    for approval, limit in ((in_state(State.PENDING), NOON + QUARTER), (in_state(State.APPROVED), NOON + 16 * MINUTE)):
        with pytest.raises(TransitionRefused):
            expire(approval, limit - MICROSECOND)
        assert expire(approval, limit).state is State.EXPIRED


def test_what_nobody_answered_and_what_nobody_used_have_different_causes() -> None:
    causes = [expire(in_state(state), LATE).resolution for state in (State.PENDING, State.APPROVED)]
    assert [end.cause for end in causes if end] == [Cause.UNANSWERED, Cause.UNUSED]


def test_a_claim_names_its_holder_and_lapses() -> None:
    claimed = claim(in_state(State.APPROVED), "proc_2", NOON + MINUTE, LEASE)
    assert (claimed.holder, claimed.lease_until) == ("proc_2", NOON + MINUTE + LEASE)


def test_what_may_be_used_until_an_instant_cannot_be_claimed_at_it() -> None:
    approved = in_state(State.APPROVED)
    assert claim(approved, "proc_2", NOON + 16 * MINUTE - MICROSECOND, LEASE).state is State.EXECUTING
    with pytest.raises(DeadlinePassed):
        claim(approved, "proc_2", NOON + 16 * MINUTE, LEASE)


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
def test_an_outcome_leaves_the_peoples_word_and_no_holder(state: State) -> None:
    ended = in_state(state)
    assert ended.resolution == in_state(State.APPROVED).resolution
    assert (ended.holder, ended.lease_until) == (None, None)


def test_a_claim_that_is_given_back_can_be_claimed_until_the_same_instant_as_before() -> None:
    approved = in_state(State.APPROVED)
    assert release(claim(approved, "proc_2", NOON + MINUTE, LEASE)) == approved


def test_nothing_is_claimed_for_a_caller_that_went_away() -> None:
    with pytest.raises(TransitionRefused):
        claim(leave(in_state(State.APPROVED), None), "proc_2", NOON + MINUTE, LEASE)


def test_only_the_input_that_is_awaited_is_taken_once_and_in_time() -> None:
    waiting = await_input(in_state(State.EXECUTING), "mark", NOON + QUARTER)
    for marks, at in ((["other"], NOON), (["mark"], NOON + QUARTER)):
        with pytest.raises(TransitionRefused):
            continue_with_input(waiting, marks, "proc_2", at, LEASE)
    going_on = continue_with_input(waiting, ["newer", "mark"], "proc_2", NOON + QUARTER - MICROSECOND, LEASE)
    assert (going_on.holder, going_on.lease_until) == ("proc_2", NOON + QUARTER - MICROSECOND + LEASE)
    with pytest.raises(TransitionRefused):
        continue_with_input(going_on, ["mark"], "proc_3", NOON, LEASE)


def test_what_asked_for_input_has_reached_its_tool_and_is_not_given_back() -> None:
    waiting = await_input(in_state(State.EXECUTING), "mark", NOON + QUARTER)
    going_on = continue_with_input(waiting, ["mark"], "proc_2", NOON, LEASE)
    for each in (waiting, going_on):
        with pytest.raises(TransitionRefused):
            release(each)


def test_the_outcome_of_what_was_interrupted_may_come_late_and_once() -> None:
    heard = hear_late(in_state(State.INTERRUPTED))
    assert (heard.state, heard.holder) == (State.INTERRUPTED, None)
    for other in (heard, in_state(State.EXECUTING)):
        with pytest.raises(TransitionRefused):
            hear_late(other)


@pytest.mark.parametrize("cause", list(Cause))
def test_a_withdrawal_says_why_and_by_whom(cause: Cause) -> None:
    end = withdraw(held(), cause, NOON, by="root@example.com").resolution
    assert end is not None
    assert (end.cause, end.by, end.at) == (cause, "root@example.com", NOON)


def test_every_refusal_of_a_review_has_a_code_of_its_own() -> None:
    kinds = ReviewRefused.__subclasses__()
    assert len({kind.code for kind in kinds}) == len(kinds) == 7
