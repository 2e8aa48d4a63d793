"""What an agent hears while people decide about its call: how far it is, who is asked, how long is left, and where.

What belongs here: the words, and when time alone changes them. What does not: how they reach the agent
(`broker.gateway`), what it is told at the end (`answers`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from math import ceil

from broker.domain.approvals import Approval, Decision
from broker.domain.people import normal_email
from broker.domain.reviewers import asked

LONGEST = 200
"""Characters of a message that clients show."""

NEAR = timedelta(minutes=1)
"""The deadline is near in the last tenth of the time that people have, and never less than so long before it."""


def situation(approval: Approval) -> str:
    """How far it is, and who is asked: `1 of 2 approved, waiting for desktop-owners`."""
    given = {review.by for review in approval.reviews if review.decision is Decision.APPROVE}
    whom = _open(approval, given)
    quorum = approval.requirement.quorum
    said = f"{len(given)} of {quorum} approved, waiting for {whom}" if given else f"Waiting for approval by {whom}"
    return f"Escalated. {said}" if approval.escalated_at is not None else said


def nears(approval: Approval) -> datetime:
    """From when on the deadline is near."""
    return approval.deadline - max(NEAR, (approval.deadline - approval.created_at) / 10)


def time_left(approval: Approval, now: datetime) -> str:
    """`13 min left`; when the deadline is near, `only 50 s left`."""
    seconds = max(0, ceil((approval.deadline - now).total_seconds()))
    if seconds > 120 * 60:
        length = f"{ceil(seconds / 3600)} h"
    else:
        length = f"{ceil(seconds / 60)} min" if seconds > 60 else f"{seconds} s"
    return f"only {length} left" if now >= nears(approval) else f"{length} left"


def message(approval: Approval, now: datetime, link: str) -> str:
    """The situation, the time left and where people decide, in at most `LONGEST` characters.

    A link that leaves no room for words is left out: half of one leads nowhere.
    """
    left = f", {time_left(approval, now)}"
    tail = f"{left}: {link}" if len(left) + len(link) < LONGEST - 20 else left
    words, room = situation(approval), LONGEST - len(tail)
    return (words if len(words) <= room else f"{words[: room - 1]}…") + tail


def _open(approval: Approval, given: Collection[str]) -> str:
    """Who is asked and has not approved, in a few words."""
    names = [name for name in asked(approval) if normal_email(name) not in given]
    return ", ".join(names) or ("another approver" if given else "an approver")
