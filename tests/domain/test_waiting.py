"""What an agent hears while people decide: who is asked, how far it is, how long is left, and where."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.approvals import Approval
from broker.domain.calls import Escalation, Requirement
from broker.domain.waiting import LONGEST, message, nears, situation, time_left
from tests.clock import NOON
from tests.domain.values import ALICE, BOB, MINUTE, QUARTER, held, reviewed

LINK = "http://127.0.0.1:8750/approvals/apr_0123456789abcdef0123456789abcdef"
LATE = Escalation(5 * MINUTE, ("oncall",))


def escalated(requirement: Requirement) -> Approval:
    return held(requirement, escalated_at=NOON + 5 * MINUTE)


def lasting(whole: timedelta) -> Approval:
    return held(deadline=NOON + whole)


@pytest.mark.parametrize(
    ("approval", "said"),
    [
        (held(), "Waiting for approval by an approver"),
        (held(Requirement(("oncall", "a@example.com"))), "Waiting for approval by oncall, a@example.com"),
        (reviewed(held(Requirement(quorum=2)), ALICE), "1 of 2 approved, waiting for another approver"),
        (
            reviewed(held(Requirement((" Alice@Example.com", BOB.email), quorum=2)), ALICE),
            "1 of 2 approved, waiting for bob@example.com",
        ),
        (
            reviewed(reviewed(held(Requirement(quorum=3)), ALICE), BOB),
            "2 of 3 approved, waiting for another approver",
        ),
        (
            escalated(Requirement((ALICE.email,), escalate=LATE)),
            "Escalated. Waiting for approval by alice@example.com, oncall",
        ),
        (escalated(Requirement(escalate=LATE)), "Escalated. Waiting for approval by an approver"),
        (
            reviewed(escalated(Requirement((ALICE.email,), quorum=2, escalate=LATE)), ALICE),
            "Escalated. 1 of 2 approved, waiting for oncall",
        ),
    ],
)
def test_it_says_how_far_it_is_and_who_is_asked_by_now(approval: Approval, said: str) -> None:
    assert situation(approval) == said


@pytest.mark.parametrize(
    ("whole", "passed", "said"),
    [
        (QUARTER, timedelta(), "15 min left"),
        (QUARTER, timedelta(seconds=1), "15 min left"),
        (QUARTER, 2 * MINUTE, "13 min left"),
        (QUARTER, timedelta(seconds=809), "2 min left"),
        (QUARTER, timedelta(seconds=810), "only 2 min left"),  # the last tenth
        (QUARTER, timedelta(seconds=840), "only 60 s left"),
        (QUARTER, timedelta(seconds=899.5), "only 1 s left"),
        (QUARTER, QUARTER, "only 0 s left"),
        (QUARTER, 2 * QUARTER, "only 0 s left"),
        (5 * MINUTE, timedelta(seconds=239), "2 min left"),
        (5 * MINUTE, 4 * MINUTE, "only 60 s left"),  # the last minute
        (timedelta(seconds=30), timedelta(), "only 30 s left"),
        (timedelta(hours=2), timedelta(), "120 min left"),
        (timedelta(days=2), timedelta(hours=1), "47 h left"),
        (timedelta(days=2), timedelta(hours=44), "only 4 h left"),
    ],
)
def test_it_says_how_long_is_left_and_that_it_is_little_at_the_end(
    whole: timedelta, passed: timedelta, said: str
) -> None:
    approval = lasting(whole)
    assert time_left(approval, NOON + passed) == said
    assert (nears(approval) <= NOON + passed) is said.startswith("only")


def test_the_message_is_one_line_with_the_link_at_its_end() -> None:
    asked = held(Requirement(("desktop-owners",)))
    assert message(asked, NOON + 2 * MINUTE, LINK) == f"Waiting for approval by desktop-owners, 13 min left: {LINK}"


@given(
    names=st.lists(st.text(min_size=1, max_size=80), max_size=8),
    host=st.integers(0, 260),
    passed=st.floats(0, 2e6),
    votes=st.booleans(),
)
def test_the_message_is_never_too_long_and_its_link_is_whole_or_not_there(
    names: list[str], host: int, passed: float, votes: bool
) -> None:
    approval = replace(held(Requirement(quorum=2)), deadline=NOON + timedelta(days=20))
    voted = reviewed(approval, ALICE) if votes else approval
    named = replace(voted, requirement=Requirement(tuple(names), quorum=2))
    now, link = NOON + timedelta(seconds=passed), f"http://{'h' * host}/approvals/apr_1"
    said = message(named, now, link)
    assert len(said) <= LONGEST
    assert time_left(named, now) in said
    assert said.endswith(link) or "http" not in said.removeprefix(situation(named))
    assert said.startswith("1 of 2 approved" if votes else "Waiting for")
