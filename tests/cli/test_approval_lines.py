"""What a terminal tells of an approval: the same as the card."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.cli.approval_lines import line, said_of, say_whole
from broker.domain.approvals import Approval, Cause, Decision, State
from broker.domain.audit import Event, Kind, chained
from broker.domain.calls import Requirement
from broker.domain.moves import await_input, leave, withdraw
from broker.web.presentation import whole_approval
from tests.clock import NOON
from tests.domain.values import ALICE, MINUTE, QUARTER, held, in_state, reviewed


def of_api(approval: Approval, *events: Event) -> dict[str, Any]:
    """`approval` and what happened to it, as the API tells it."""
    rows = [chained(event, seq, NOON + seq * MINUTE, "") for seq, event in enumerate(events, 1)]
    return whole_approval(approval, [ALICE], rows, [])


def shown(capsys: pytest.CaptureFixture[str], approval: Approval, *events: Event) -> list[str]:
    say_whole(of_api(approval, *events))
    return [" ".join(text.split()) for text in capsys.readouterr().out.splitlines()]


def event(kind: Kind, actor: str = "agent:grant_1", **detail: Any) -> Event:
    return Event(kind=kind, actor=actor, detail=detail)


def test_a_line_in_a_list_has_the_votes_and_what_is_unusual() -> None:
    of_two = held(Requirement(quorum=2), escalated_at=NOON)
    gone = leave(reviewed(of_two, ALICE), None)
    assert line(of_api(gone))["marks"] == ["1 of 2", "escalated", "agent gone"]
    assert line(of_api(await_input(in_state(State.EXECUTING), "mark", NOON)))["marks"] == ["input awaited"]
    soon = datetime.now(UTC) + timedelta(hours=2, seconds=30)
    assert line(of_api(held(deadline=soon)))["left"] == "2h 00m"


@pytest.mark.parametrize("state", sorted(state for state in State if state.final))
def test_an_approval_that_is_given_again_after_the_end_is_answered_with_how_it_ended(state: State) -> None:
    told = said_of(of_api(in_state(state)), Decision.APPROVE)
    assert told == f"You had approved desk / press for ci agent already; by now its state is {state}."


def test_who_voted_who_may_and_where_the_agent_is_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    pending = leave(reviewed(held(Requirement(quorum=2)), ALICE), NOON + QUARTER)
    told = shown(
        capsys,
        pending,
        event(Kind.APPROVAL_SUBMITTED, reason="moves a desk"),
        event(Kind.APPROVAL_REVIEWED, "alice@example.com", channel="web", reason="fi\x1bne"),
        event(Kind.APPROVAL_ABANDONED, why="cancelled"),
    )
    assert "votes 1 of 2" in told
    assert "reviews alice@example.com approved at 2026-07-28 12:01:00 UTC in the browser" in told
    assert (
        "caller The agent stopped waiting at 2026-07-28 12:03:00 UTC: it cancelled the call. "
        "It is withdrawn at 2026-07-28 12:15:00 UTC unless the agent comes back for it."
    ) in told
    assert told[told.index("history") + 1 :][:6] == [
        "2026-07-28 12:01:00 UTC ci agent asked; the call was held",
        "moves a desk",
        "2026-07-28 12:02:00 UTC alice@example.com gave one of the approvals in the browser",
        "fi\\u001bne",
        "2026-07-28 12:03:00 UTC ci agent stopped waiting",
        "it cancelled the call",
    ]


@pytest.mark.parametrize(
    ("approval", "outcome"),
    [
        (withdraw(held(), Cause.CANCELLED, NOON), "The agent cancelled it, and did not come back for it. Nothing ran."),
        (in_state(State.INTERRUPTED), "It was cut off: the server left. It may or may not have run."),
        (in_state(State.REJECTED), "Nothing ran."),
        (in_state(State.APPROVED), "It runs now."),
    ],
    ids=["cancelled", "interrupted", "rejected", "approved"],
)
def test_why_it_ended_is_one_plain_sentence(
    capsys: pytest.CaptureFixture[str], approval: Approval, outcome: str
) -> None:
    assert f"outcome {outcome}" in shown(capsys, approval, event(Kind.APPROVAL_INTERRUPTED, why="the server left"))
