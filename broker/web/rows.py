"""The rows of the queue: what one reader gets of one approval, in which list, as markup.

What belongs here: whose word an approval waits for in a browser, and its row. What does not: which approvals are on a
page (`queue`), telling pages of changes (`board`), markup (`templates/row.html`).
"""

from __future__ import annotations

from datetime import datetime

from markupsafe import Markup

from broker.domain.approvals import Approval, State
from broker.domain.moves import open_until
from broker.domain.people import Person
from broker.domain.reviewers import decides_in, may_still_vote
from broker.store.listed import Listed
from broker.web.templates import fragment
from broker.web.visibility import Place

CHANNEL = "web"


def waits_for(person: Person, approval: Approval, now: datetime) -> bool:
    """Whether `approval` waits for this person's word, and they can give it in the browser."""
    in_time = now < open_until(approval)
    return in_time and decides_in(approval, CHANNEL) and bool(may_still_vote(approval, (person,)))


def created(listed: Listed) -> Place:
    """Its place among what waits."""
    return listed.approval.created_at, listed.approval.id


def decided(listed: Listed) -> Place:
    """Its place among what is decided."""
    end = listed.approval.resolution
    return end.at if end is not None else listed.approval.created_at, listed.approval.id


def row(listed: Listed, now: datetime, *, mine: bool) -> Markup:
    """The row of an approval: of what waits, or of what is decided.

    Args:
        mine: whether it waits for its reader, who can then select it.
    """
    waits = listed.approval.state is State.PENDING
    place = created(listed) if waits else decided(listed)
    return fragment(
        "row.html", approval=listed.approval, cut=listed.cut, place=place[0], waits=waits, mine=mine, now=now
    )
