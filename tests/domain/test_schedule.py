"""What time does to an approval, whenever it is looked at, and however the clock jumps."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain import schedule
from broker.domain.approvals import Approval, Cause, State
from broker.domain.audit import Kind
from broker.domain.calls import Escalation, Requirement
from broker.domain.moves import leave
from tests.clock import NOON
from tests.domain.values import ALICE, BOB, MINUTE, QUARTER, held, in_state, reviewed

MICROSECOND = timedelta(microseconds=1)
YEAR = timedelta(days=365)
ENDS = {Kind.APPROVAL_EXPIRED, Kind.APPROVAL_WITHDRAWN, Kind.APPROVAL_INTERRUPTED}
ESCALATES = Requirement(("desktop-owners",), escalate=Escalation(5 * MINUTE, ("oncall",)))

lengths = st.timedeltas(MICROSECOND, YEAR) | st.sampled_from([MICROSECOND, MINUTE, QUARTER])
instants = st.timedeltas(-QUARTER, YEAR).map(lambda after: NOON + after)
maybe = st.none() | instants


@st.composite
def approvals(draw: st.DrawFn) -> Approval:
    """Any approval that nothing has happened to by itself yet, but perhaps reminders and its escalation."""
    after = draw(st.none() | lengths)
    return replace(
        held(),
        state=draw(st.sampled_from(State)),
        requirement=Requirement(("a",), escalate=Escalation(after, ("b",)) if after is not None else None),
        deadline=NOON + draw(lengths),
        execute_by=draw(maybe),
        lease_until=draw(maybe),
        withdraw_at=draw(maybe),
        reminded=draw(st.integers(0, len(schedule.REMINDERS))),
        escalated_at=draw(maybe),
    )


def passed(approval: Approval, *nows: datetime) -> tuple[Approval, list[Kind]]:
    """What becomes of it when it is looked at at these instants, and what that was."""
    kinds: list[Kind] = []
    for now in nows:
        while (step := schedule.pass_time(approval, now)) is not None:
            approval, kind = step
            kinds.append(kind)
            assert len(kinds) < 10, "it does not end"
    return approval, kinds


# -- whatever the approval and the clock ------------------------------------------------------------------------------


@given(approvals(), instants)
def test_nothing_happens_before_it_is_due_and_something_does_then(approval: Approval, now: datetime) -> None:
    due = schedule.due(approval)
    assert (schedule.pass_time(approval, now) is not None) is (due is not None and due <= now)
    if due is not None:
        assert schedule.pass_time(approval, due) is not None
        assert schedule.pass_time(approval, due - MICROSECOND) is None


@given(approvals(), instants)
def test_time_comes_to_an_end_of_what_it_does_and_the_next_is_due_later(approval: Approval, now: datetime) -> None:
    after, kinds = passed(approval, now)
    assert len(kinds) <= 2
    due = schedule.due(after)
    assert due is None or due > now


@given(approvals(), st.lists(instants, max_size=8))
def test_however_the_clock_jumps_each_thing_happens_once_and_nothing_after_the_end(
    approval: Approval, nows: list[datetime]
) -> None:
    _, kinds = passed(approval, *nows)
    assert kinds.count(Kind.APPROVAL_ESCALATED) <= 1
    assert kinds.count(Kind.APPROVAL_REMINDED) <= len(schedule.REMINDERS)
    assert ENDS.isdisjoint(kinds[:-1])


@given(approvals(), st.lists(instants, min_size=1, max_size=8))
def test_who_looks_late_finds_what_came_of_it_in_time(approval: Approval, nows: list[datetime]) -> None:
    in_time, _ = passed(approval, *sorted(nows))
    late, _ = passed(approval, max(nows))
    assert late.state is in_time.state
    if late.state.final:
        assert (late.resolution and late.resolution.cause) == (in_time.resolution and in_time.resolution.cause)
    else:
        assert late.reminded == in_time.reminded
        assert (late.escalated_at is None) is (in_time.escalated_at is None)


@given(approvals(), instants)
def test_more_people_are_asked_when_somebody_votes_exactly_when_a_look_would_ask_them(
    approval: Approval, now: datetime
) -> None:
    after, kinds = passed(approval, now)
    if ENDS.isdisjoint(kinds):
        escalated = schedule.escalated(approval, now)
        assert (escalated is not None) is (Kind.APPROVAL_ESCALATED in kinds)
        assert escalated is None or escalated.escalated_at == after.escalated_at


# -- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "over", "cause"),
    [(State.PENDING, QUARTER, Cause.UNANSWERED), (State.APPROVED, 16 * MINUTE, Cause.UNUSED)],
)
def test_what_came_first_ends_it_also_for_who_looks_late(state: State, over: timedelta, cause: Cause) -> None:
    for back_by, expected in ((over - MICROSECOND, Cause.CANCELLED), (over, cause), (over + MINUTE, cause)):
        gone = leave(in_state(state), NOON + back_by)
        end = passed(gone, NOON + YEAR)[0].resolution
        assert end is not None
        assert end.cause is expected


def test_a_caller_that_is_lost_is_not_waited_for_and_ends_nothing() -> None:
    after, _ = passed(leave(held(), None), NOON + QUARTER - MICROSECOND)
    assert after.state is State.PENDING


# -- reminders --------------------------------------------------------------------------------------------------------


def reminders(approval: Approval, *after: timedelta) -> list[dict[str, str]]:
    """What is recorded of the reminders that looks so long after noon give."""
    found: list[dict[str, str]] = []
    for length in after:
        now = NOON + length
        while (step := schedule.pass_time(approval, now)) is not None:
            approval, kind = step
            found += [schedule.detail(approval, kind, now)] if kind is Kind.APPROVAL_REMINDED else []
    return found


def test_people_are_reminded_at_half_and_at_nine_tenths_of_the_time_and_told_how_much_is_left() -> None:
    half, nearly = QUARTER / 2, QUARTER * 0.9
    assert reminders(held(), half - MICROSECOND, half, nearly - MICROSECOND, nearly) == [
        {"part": "50%", "left": "8m"},
        {"part": "90%", "left": "2m"},
    ]


def test_of_reminders_that_were_missed_only_the_last_is_given() -> None:
    assert reminders(held(), QUARTER - MINUTE) == [{"part": "90%", "left": "1m"}]


def test_nobody_is_reminded_of_what_is_decided_or_over() -> None:
    assert reminders(held(), QUARTER) == []
    assert reminders(reviewed(held(), ALICE), QUARTER / 2) == []


def test_votes_below_the_quorum_change_no_reminder() -> None:
    assert len(reminders(reviewed(held(Requirement(quorum=2)), ALICE), QUARTER / 2, QUARTER - MINUTE)) == 2


# -- escalation -------------------------------------------------------------------------------------------------------


def test_it_is_escalated_once_at_its_time_and_the_record_says_to_whom() -> None:
    approval = held(ESCALATES)
    assert schedule.pass_time(approval, NOON + 5 * MINUTE - MICROSECOND) is None
    after, kinds = passed(approval, NOON + 5 * MINUTE, NOON + 6 * MINUTE)
    assert (after.escalated_at, kinds) == (NOON + 5 * MINUTE, [Kind.APPROVAL_ESCALATED])
    assert schedule.detail(after, Kind.APPROVAL_ESCALATED, NOON) == {"to": ["oncall"]}


def test_what_is_decided_or_over_is_not_escalated() -> None:
    ungated = Requirement(escalate=ESCALATES.escalate)
    assert passed(reviewed(held(ungated), BOB), NOON + 6 * MINUTE)[1] == []
    assert passed(held(ungated), NOON + QUARTER)[1] == [Kind.APPROVAL_EXPIRED]
