"""Who is asked, by whom it may still be decided, and where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.approvals import Approval, Decision, State
from broker.domain.calls import Escalation, Requirement, Risk
from broker.domain.people import Person, Role
from broker.domain.reviewers import (
    asked,
    decides_in,
    decides_in_any,
    eligible,
    eligible_people,
    is_asked,
    may_still_vote,
)
from broker.errors import NotEligible, WrongChannel
from tests.clock import NOON
from tests.domain.values import ALICE, BOB, CAROL, GRANT, MINUTE, OLGA, QUARTER, held, in_state, person, reviewed

LATE = Escalation(5 * MINUTE, ("oncall",))
NAMED = Requirement((ALICE.email,), escalate=LATE)
DORA = person("dora", "oncall")


def escalated(requirement: Requirement) -> Approval:
    return held(requirement, escalated_at=NOON + 5 * MINUTE)


# -- escalation -------------------------------------------------------------------------------------------------------


def test_those_of_an_escalation_may_decide_from_then_on_and_not_before() -> None:
    with pytest.raises(NotEligible):
        reviewed(held(NAMED), DORA)
    assert reviewed(escalated(NAMED), DORA).state is State.APPROVED
    assert reviewed(escalated(NAMED), ALICE).state is State.APPROVED


def test_those_of_an_escalation_need_the_role_too() -> None:
    with pytest.raises(NotEligible):
        reviewed(escalated(NAMED), person("dora", "oncall", role=Role.AUDITOR))


def test_where_nobody_is_named_everybody_is_asked_before_and_after_an_escalation() -> None:
    for approval in (held(Requirement(escalate=LATE)), escalated(Requirement(escalate=LATE))):
        assert asked(approval) == ()
        assert is_asked(approval, BOB)


def test_who_can_decide_after_an_escalation_is_eligible_if_it_comes_in_time() -> None:
    assert eligible(NAMED, GRANT, DORA)
    assert eligible(replace(NAMED, timeout=QUARTER), GRANT, DORA)
    assert not eligible(replace(NAMED, timeout=5 * MINUTE), GRANT, DORA)


# -- who may still vote -----------------------------------------------------------------------------------------------


def test_whoever_has_not_voted_and_may_decide_may_still_vote() -> None:
    approval = reviewed(held(Requirement(quorum=3)), ALICE)
    nobody = Person("nobody@example.com")
    assert may_still_vote(approval, [ALICE, BOB, CAROL, OLGA, nobody]) == [BOB, CAROL]


def test_who_voted_for_what_ran_before_an_edit_may_vote_again() -> None:
    approval = replace(reviewed(held(Requirement(quorum=2)), ALICE), revision="0" * 64)
    assert may_still_vote(approval, [ALICE]) == [ALICE]


def test_those_of_an_escalation_may_vote_when_they_are_asked() -> None:
    assert may_still_vote(held(NAMED), [ALICE, DORA]) == [ALICE]
    assert may_still_vote(escalated(NAMED), [ALICE, DORA]) == [ALICE, DORA]


@pytest.mark.parametrize("state", sorted(set(State) - {State.PENDING}))
def test_nobody_may_vote_on_what_is_decided(state: State) -> None:
    assert may_still_vote(in_state(state), [ALICE, BOB]) == []


# -- names and addresses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [" ALICE@example.com", "\uff21lice@\uff45xample.com", "alice\u200b@example.com", "Alice@Example\u2024com"]
)
def test_a_policy_names_the_same_person_however_the_address_is_written(name: str) -> None:
    assert eligible_people(Requirement((name,)), GRANT, [ALICE, BOB]) == [ALICE]


@pytest.mark.parametrize("owner", ["\uff2flga@example.com", "olga\u00ad@example.com", "\u00a0Olga@Example.com\u3000"])
def test_the_owner_of_the_grant_is_the_same_person_however_the_address_is_written(owner: str) -> None:
    assert not eligible(Requirement(), replace(GRANT, owner=owner), OLGA)


def test_a_group_that_is_called_like_an_address_does_not_stand_for_that_person() -> None:
    impostor = person("mallory", ALICE.email)
    assert eligible_people(Requirement((ALICE.email,)), GRANT, [ALICE, impostor]) == [ALICE]


# -- channels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "has", "possible"),
    [
        ((), {"web", "api"}, True),
        (("api",), {"web", "api"}, True),
        (("slack",), {"web", "api"}, False),
        (("slack:#desk", "slack:@bob"), {"web", "api"}, False),
        (("slack:#desk",), {"web", "api", "slack"}, True),
        (("slack:#desk", "web"), {"web", "api"}, True),
        (("slack",), {"slack:#desk"}, False),
    ],
)
def test_it_can_be_decided_where_the_broker_takes_decisions(
    wanted: tuple[str, ...], has: set[str], possible: bool
) -> None:
    assert decides_in_any(Requirement(channels=wanted), has) is possible


def test_a_word_from_a_wrong_channel_hears_where_it_counts() -> None:
    with pytest.raises(WrongChannel, match="but in slack:#desk or through the API"):
        reviewed(held(Requirement(channels=("slack:#desk", "api"))), ALICE, Decision.REJECT)


@pytest.mark.parametrize(
    ("risk", "channel", "taken"),
    [
        (Risk.CRITICAL, "web", True),
        (Risk.CRITICAL, "api", False),
        (Risk.CRITICAL, "slack:#desk", False),
        (Risk.HIGH, "slack:#desk", True),
        (None, "slack:#desk", True),
    ],
)
def test_a_critical_call_is_decided_in_the_browser_unless_its_policy_says_otherwise(
    risk: Risk | None, channel: str, taken: bool
) -> None:
    assert decides_in(held(risk=risk), channel) is taken
    assert decides_in(held(Requirement(channels=("slack",)), risk=risk), "slack:#desk")
    assert not decides_in(held(Requirement(channels=("slack:#desk",)), risk=risk), channel.replace("desk", "else"))


def test_who_decides_a_critical_call_elsewhere_hears_where_it_counts() -> None:
    with pytest.raises(WrongChannel, match="critical call may not be decided here, but in the browser"):
        reviewed(held(risk=Risk.CRITICAL), ALICE, channel="slack:#desk")
