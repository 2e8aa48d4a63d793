"""What somebody is told whose word was not taken: what happened, that nothing was decided, what to ask for."""

from __future__ import annotations

import pytest

from broker.domain.approvals import State
from broker.domain.calls import Requirement
from broker.domain.people import Person, Role
from broker.errors import AlreadyVoted, BrokerError, Changed, DeadlinePassed, NotEligible, SelfApproval, StoreError
from integrations.slack.refusals import of_review, sentence
from tests.domain.values import ALICE, held, in_state, person

AUDITOR = person("alice", role=Role.AUDITOR)


@pytest.mark.parametrize(
    "error", [StoreError("it cannot."), Changed(), DeadlinePassed(), SelfApproval(), AlreadyVoted()]
)
def test_whatever_came_in_the_way_it_is_said_that_nothing_was_decided(error: BrokerError) -> None:
    assert "Nothing was decided." in sentence(error)
    assert ".." not in sentence(error)


def test_what_is_wrong_with_the_store_is_the_administrators_alone() -> None:
    assert "broker.db" not in sentence(StoreError("/var/broker.db is locked."))


@pytest.mark.parametrize(
    ("wanted", "who", "ask"),
    [
        ((), AUDITOR, "ask an administrator for the role approver"),
        (("desk",), ALICE, "ask an administrator for the group desk"),
        (("desk", "ops"), AUDITOR, "ask an administrator for the role approver and the group desk or ops"),
        (("desk",), person("alice", "desk", role=Role.AUDITOR), "ask an administrator for the role approver ("),
        (("bob@example.com",), ALICE, "It is for bob@example.com."),
        (("alice@example.com",), AUDITOR, "ask an administrator for the role approver"),
    ],
)
def test_who_is_not_asked_hears_what_they_would_have_to_be(wanted: tuple[str, ...], who: Person, ask: str) -> None:
    assert ask in of_review(NotEligible(), held(Requirement(wanted)), who)


def test_of_what_is_over_everybody_hears_who_decided() -> None:
    told = of_review(NotEligible(), in_state(State.REJECTED), AUDITOR)
    assert told.startswith("Already rejected by alice@example.com at 2026-07-28 12:01:00 UTC")
