"""What the card of one approval shows beside its call: who may still vote, and what its reader may do to it.

What belongs here: gathering it for one reader. What does not: words (`broker.domain.standing`), markup (`templates/`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.domain.approvals import Approval, Decision, State
from broker.domain.moves import is_remembered, open_until
from broker.domain.people import Permission, Person, normal_email
from broker.domain.reviewers import check_reviewer, is_asked, may_still_vote
from broker.errors import ReviewRefused, WrongChannel
from broker.web.identity import Asker

MOST_NAMED = 5
"""How many of those who may still vote are named; of the others only how many there are."""


@dataclass(frozen=True, slots=True)
class Voters:
    """Whose word a pending approval still waits for.

    Args:
        names: the addresses of the first few.
        more: how many others there are.
        too_few: whether the quorum cannot be reached by them, nor by those whom an escalation adds.
        owner: the address of the agent's owner, if they are asked like the others; `owner_counts` says whether their
            word counts.
    """

    names: tuple[str, ...]
    more: int
    too_few: bool
    owner: str | None
    owner_counts: bool


def voters(approval: Approval, people: Iterable[Person]) -> Voters | None:
    """Who of `people` may still vote; None when it does not wait for a word."""
    if approval.state is not State.PENDING:
        return None
    everyone, wanted = list(people), approval.requirement
    left = [person.email for person in may_still_vote(approval, everyone)]
    given = sum(word.decision is Decision.APPROVE for word in approval.reviews)
    to_come = wanted.escalate is not None and approval.escalated_at is None
    owner = normal_email(approval.call.grant.owner)
    asked = any(person.email == owner and is_asked(approval, person) for person in everyone)
    return Voters(
        names=tuple(left[:MOST_NAMED]),
        more=max(0, len(left) - MOST_NAMED),
        too_few=len(left) < wanted.quorum - given and not to_come,
        owner=owner if asked else None,
        owner_counts=bool(wanted.allow_self),
    )


@dataclass(frozen=True, slots=True)
class Possible:
    """What the reader of a card may do now.

    Args:
        why_not: why they cannot decide, or None when they can.
        withdraw: whether they may end it without a word on it.
        remembered: until when the rejection answers the identical call; None when it does not any more.
        forget: whether they may let that call be asked again.
    """

    why_not: str | None
    withdraw: bool
    remembered: datetime | None
    forget: bool


def possible(approval: Approval, asker: Asker, now: datetime, reject_memory: timedelta) -> Possible:
    """What `asker` may do to `approval` at the instant `now`."""
    refused, end = _refusal(approval, asker), approval.resolution
    over = "The time to decide this is over." if now >= open_until(approval) else None
    administers = asker.person.may(Permission.ADMINISTER)
    remembered = end.at + reject_memory if end is not None and is_remembered(approval, now, reject_memory) else None
    return Possible(
        why_not=str(refused) if refused is not None else over,
        withdraw=administers and approval.state in (State.PENDING, State.APPROVED),
        remembered=remembered,
        # wherever they are: a channel is for decisions
        forget=remembered is not None and (administers or refused is None or isinstance(refused, WrongChannel)),
    )


def _refusal(approval: Approval, asker: Asker) -> ReviewRefused | None:
    try:
        check_reviewer(approval, asker.person, asker.channel)
    except ReviewRefused as error:
        return error
    return None
