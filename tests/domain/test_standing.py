"""How it stands with an approval, in words: every state, every cause, wherever its agent is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.domain.approvals import Approval, Caller, Cause, State
from broker.domain.audit import Kind, Row
from broker.domain.calls import Escalation, Requirement
from broker.domain.moves import await_input, come_back, expire, leave, withdraw
from broker.domain.standing import standing
from tests.clock import NOON
from tests.domain.values import ALICE, MINUTE, QUARTER, held, in_state, reviewed

CANCELLED_AT = NOON + MINUTE
NOTHING = "Nothing ran."


def row(kind: Kind, **detail: Any) -> Row:
    return Row(seq=1, at=CANCELLED_AT, kind=kind, actor="agent:grant_1", prev="", detail=detail)


def cut_off(why: str) -> Row:
    return row(Kind.APPROVAL_INTERRUPTED, why=why)


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (State.PENDING, "Nothing ran yet."),
        (State.APPROVED, "It runs now."),
        (State.EXECUTING, "The server has not answered yet."),
        (State.SUCCEEDED, "The server answered."),
        (State.FAILED, "It was sent, and the server answered with an error."),
        (State.REJECTED, NOTHING),
        (State.EXPIRED, f"Nobody answered in time. {NOTHING}"),
        (State.WITHDRAWN, NOTHING),  # by an administrator, who is named beside it
        (State.INTERRUPTED, "It was cut off. It may or may not have run."),
    ],
)
def test_every_state_has_a_plain_sentence(state: State, sentence: str) -> None:
    assert standing(in_state(state)).sentence([]) == sentence


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause is not Cause.ADMINISTRATOR])
def test_every_cause_of_an_end_is_told_before_what_came_of_it(cause: Cause) -> None:
    told = standing(withdraw(held(), cause, NOON)).sentence([])
    assert told.endswith(f". {NOTHING}")
    assert len(told) > len(NOTHING) + 10


def test_an_agent_that_cancelled_and_stayed_away_is_the_reason_of_the_end() -> None:
    told = standing(withdraw(held(), Cause.CANCELLED, NOON)).sentence([])
    assert told == f"The agent cancelled it, and did not come back for it. {NOTHING}"


def test_an_approval_that_nobody_used_was_approved() -> None:
    approved = in_state(State.APPROVED)
    assert approved.execute_by is not None
    told = standing(expire(approved, approved.execute_by)).sentence([])
    assert told == f"It was approved, and the agent did not come for it in time. {NOTHING}"


@pytest.mark.parametrize(
    ("why", "sentence"),
    [
        (
            "the broker stopped while it ran",
            "It was cut off: the broker stopped while it ran. It may or may not have run.",
        ),
        ("The answer ended.", "It was cut off: The answer ended. It may or may not have run."),
        ("the request may or may not have run.", "It was cut off: the request may or may not have run."),
    ],
)
def test_what_was_cut_off_may_or_may_not_have_run_which_is_said_once(why: str, sentence: str) -> None:
    assert standing(in_state(State.INTERRUPTED)).sentence([cut_off(why)]) == sentence


@pytest.mark.parametrize(("outcome", "told"), [("approval.succeeded", "it ran"), ("approval.failed", "an error")])
def test_an_answer_that_came_late_ends_the_doubt(outcome: str, told: str) -> None:
    late = row(Kind.APPROVAL_LATE, outcome=outcome)
    sentence = standing(in_state(State.INTERRUPTED)).sentence([cut_off("lost"), late])
    assert sentence == f"It was cut off, and the server's answer came later: {told}."


def test_an_approved_call_without_its_agent_says_until_when_it_can_be_used() -> None:
    approved = leave(in_state(State.APPROVED), None)
    told = standing(approved).sentence([])
    assert told == "It runs when the agent comes for it, until 2026-07-28 12:16:00 UTC at the latest."


def test_a_tool_that_asks_for_input_is_waited_for_until_an_instant() -> None:
    asking = standing(await_input(in_state(State.EXECUTING), "mark", NOON + QUARTER))
    assert asking.sentence([]) == (
        "The tool asks the agent for input before it goes on. It waits for that until 2026-07-28 12:15:00 UTC."
    )
    assert asking.word == "asks"
    assert (asking.marks, asking.agent([])) == (["input awaited"], "")


GONE = "The agent stopped waiting at 2026-07-28 12:01:00 UTC: "
BACK = " It can come back for it with the identical call."


@pytest.mark.parametrize(
    ("why", "withdraw_at", "told"),
    [
        (
            "cancelled",
            NOON + 3 * MINUTE,
            "it cancelled the call. It is withdrawn at 2026-07-28 12:03:00 UTC unless the agent comes back for it.",
        ),
        ("lost", None, f"its connection was lost.{BACK}"),
        ("it got a ticket", None, f"it got a ticket.{BACK}"),
        ("the broker restarted", None, f"the broker restarted.{BACK}"),
    ],
)
def test_an_agent_that_is_gone_is_told_with_when_and_why_and_what_follows(
    why: str, withdraw_at: Any, told: str
) -> None:
    gone = leave(held(), withdraw_at)
    assert standing(gone).agent([row(Kind.APPROVAL_ABANDONED, why=why)]) == GONE + told
    assert standing(gone).marks == ["agent gone"]


def test_an_agent_that_came_back_waits_again() -> None:
    rows = [row(Kind.APPROVAL_ABANDONED, why="lost"), row(Kind.APPROVAL_RESUMED)]
    back = standing(come_back(leave(held(), None), "proc_1"))
    assert back.agent(rows) == "The agent came back at 2026-07-28 12:01:00 UTC and waits."
    assert back.marks == []
    assert standing(held()).agent([row(Kind.APPROVAL_SUBMITTED)]) == "The agent waits."


@pytest.mark.parametrize("state", [state for state in State if state.final])
def test_where_the_agent_is_matters_no_more_at_the_end(state: State) -> None:
    ended = standing(leave(in_state(state), None))
    assert (ended.agent([row(Kind.APPROVAL_ABANDONED, why="lost")]), ended.marks) == ("", [])


def of_two(**changes: Any) -> Approval:
    return held(Requirement(quorum=2, escalate=Escalation(timedelta(minutes=5), ("oncall",))), **changes)


def test_votes_are_counted_where_more_than_one_is_needed() -> None:
    assert standing(of_two()).marks == ["0 of 2"]
    assert standing(reviewed(of_two(), ALICE)).marks == ["1 of 2"]
    assert standing(held()).marks == []


def test_an_escalated_approval_is_marked_while_it_waits() -> None:
    escalated = of_two(escalated_at=NOON)
    assert standing(escalated).marks == ["0 of 2", "escalated"]
    assert standing(withdraw(escalated, Cause.POLICY, NOON)).marks == []
    assert standing(replace(escalated, caller=Caller.GONE)).marks == ["0 of 2", "escalated", "agent gone"]
