"""Accounts of Slack: which may speak for a person at all.

What belongs here: judging what Slack says of one account. What does not: which person it is (`directory`), and what
that person may decide (`broker.domain.reviewers`).

https://docs.slack.dev/reference/objects/user-object; what is not said counts as the worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broker.domain.people import normal_email
from broker.errors import AccountRefused
from integrations.slack.web_api import Workspace

SLACKBOT = "USLACKBOT"
"""Slack's own bot, which is not marked as one."""


@dataclass(frozen=True, slots=True)
class Member:
    """A full member of the workspace. `email` is normal; None while Slack has not confirmed one."""

    user_id: str
    email: str | None


def judged(user: Mapping[str, Any], workspace: Workspace) -> Member:
    """The member of `workspace` that an account is.

    Args:
        user: the user object.

    Raises:
        AccountRefused: it is none that may decide anything.
    """
    if user.get("deleted") is not False:
        raise AccountRefused("This Slack account is deactivated.")
    if user.get("is_stranger") or not _of(workspace, user):
        raise AccountRefused("This account is of another workspace: only members of the broker's own may decide.")
    if user.get("is_bot") is not False or user.get("is_workflow_bot") or user.get("id") == SLACKBOT:
        raise AccountRefused("A bot may not decide.")
    if user.get("is_restricted") is not False or user.get("is_ultra_restricted") is not False:
        raise AccountRefused("A guest of the workspace may not decide: only full members may.")
    email = user.get("profile", {}).get("email")
    confirmed = isinstance(email, str) and user.get("is_email_confirmed") is True
    return Member(str(user["id"]), normal_email(email) or None if confirmed else None)


def _of(workspace: Workspace, user: Mapping[str, Any]) -> bool:
    """Whether an account is of `workspace`, also where an organisation shares its accounts (Enterprise Grid)."""
    if user.get("team_id") == workspace.team_id:
        return True
    shared: Mapping[str, Any] = user.get("enterprise_user") or {}
    same = workspace.enterprise_id is not None and shared.get("enterprise_id") == workspace.enterprise_id
    return same and workspace.team_id in shared.get("teams", ())
