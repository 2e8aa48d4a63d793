"""Which accounts of Slack may speak for a person; what Slack leaves out counts as the worse."""

from __future__ import annotations

from typing import Any

import pytest

from broker.errors import AccountRefused
from integrations.slack.accounts import Member, judged
from integrations.slack.web_api import Workspace

HOME = Workspace("T1", "https://x.slack.com/", "U0", "broker", None)
IN_ORGANISATION = Workspace("T1", "https://x.slack.com/", "U0", "broker", "E1")
ANN: dict[str, Any] = {
    "id": "U1",
    "team_id": "T1",
    "deleted": False,
    "is_bot": False,
    "is_app_user": False,
    "is_restricted": False,
    "is_ultra_restricted": False,
    "is_email_confirmed": True,
    "profile": {"email": "Ann@Example.com"},
}


def test_a_full_member_is_known_by_the_confirmed_address() -> None:
    assert judged(ANN, HOME) == Member("U1", "ann@example.com")


def test_one_who_authorised_the_app_is_a_person_like_others() -> None:
    assert judged(ANN | {"is_app_user": True}, HOME).user_id == "U1"


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"deleted": True}, "deactivated"),
        ({"is_bot": True}, "bot"),
        ({"is_workflow_bot": True}, "bot"),
        ({"id": "USLACKBOT"}, "bot"),
        ({"is_restricted": True}, "guest"),
        ({"is_ultra_restricted": True}, "guest"),
        ({"is_stranger": True}, "another workspace"),
        ({"team_id": "T2"}, "another workspace"),
        ({"team_id": "T2", "enterprise_user": {"enterprise_id": "E1", "teams": ["T1", "T2"]}}, "another workspace"),
    ],
)
def test_who_is_no_full_member_may_not_decide(facts: dict[str, Any], why: str) -> None:
    with pytest.raises(AccountRefused, match=why):
        judged(ANN | facts, HOME)


@pytest.mark.parametrize("fact", ["deleted", "team_id", "is_bot", "is_restricted", "is_ultra_restricted"])
def test_what_slack_does_not_say_counts_as_the_worse(fact: str) -> None:
    with pytest.raises(AccountRefused):
        judged({name: value for name, value in ANN.items() if name != fact}, HOME)


@pytest.mark.parametrize(
    "facts",
    [
        {"is_email_confirmed": False},
        {"is_email_confirmed": None},
        {"profile": {}},
        {"profile": {"email": None}},
        {"profile": {"email": " \u200b"}},
    ],
)
def test_an_address_that_is_not_confirmed_is_nobodys(facts: dict[str, Any]) -> None:
    assert judged(ANN | facts, HOME) == Member("U1", None)


@pytest.mark.parametrize(
    ("shared", "taken"),
    [
        ({"enterprise_id": "E1", "teams": ["T9", "T1"]}, True),
        ({"enterprise_id": "E1", "teams": ["T9"]}, False),
        ({"enterprise_id": "E2", "teams": ["T1"]}, False),
        ({}, False),
        (None, False),
    ],
)
def test_an_account_of_the_organisation_is_a_member_of_the_workspaces_that_share_it(shared: Any, taken: bool) -> None:
    account = ANN | {"id": "W1", "team_id": "T9", "enterprise_user": shared}
    if taken:
        assert judged(account, IN_ORGANISATION).user_id == "W1"
    else:
        with pytest.raises(AccountRefused):
            judged(account, IN_ORGANISATION)
