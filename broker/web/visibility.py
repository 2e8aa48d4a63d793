"""Which approvals somebody sees: the one place that says so.

Auditors and administrators see all. Approvers see what is open, and of what is over what they could have decided.
Everybody sees the approvals of their own grants.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlmodel import Session

from broker.domain.approvals import Approval, State
from broker.domain.people import Permission, Person, normal_email
from broker.domain.reviewers import is_asked
from broker.store import approvals as stored
from broker.store.approvals import ApprovalFilter

OPEN = tuple(state for state in State if not state.final)

Place = tuple[datetime, str]
"""Where a page of approvals ended: created_at and id of the last one looked at."""

_BATCH = 200
_MOST_BATCHES = 20


def sees(person: Person, approval: Approval) -> bool:
    """Whether `person` may look at `approval`."""
    if person.may(Permission.SEE_AUDIT) or normal_email(approval.call.grant.owner) == person.email:
        return True
    if not person.may(Permission.SEE_QUEUE):
        return False
    return not approval.state.final or is_asked(approval, person)


@dataclass(frozen=True, slots=True)
class Page:
    """Approvals, newest first, and where to go on."""

    items: list[Approval]
    next: Place | None


def visible_page(
    session: Session, person: Person, wanted: ApprovalFilter, *, before: Place | None = None, limit: int = 50
) -> Page:
    """The newest approvals that match and that `person` sees.

    Looks at a bounded number of rows: a page may be short, even empty, and still have a next one.
    """
    if not person.may(Permission.SEE_QUEUE):
        wanted = replace(wanted, owner=person.email)
    items: list[Approval] = []
    size = limit + 1 if _all_visible(person, wanted) else _BATCH
    for _ in range(_MOST_BATCHES):
        found = stored.page(session, wanted, before=before, limit=size)
        for approval in found:
            if len(items) == limit:
                return Page(items, _place(items[-1]))
            if sees(person, approval):
                items.append(approval)
        if len(found) < size:
            return Page(items, None)
        before = _place(found[-1])
    return Page(items, before)


def _all_visible(person: Person, wanted: ApprovalFilter) -> bool:
    only_open = bool(wanted.states) and set(wanted.states) <= set(OPEN)
    return only_open or person.may(Permission.SEE_AUDIT) or not person.may(Permission.SEE_QUEUE)


def _place(approval: Approval) -> Place:
    return approval.created_at, approval.id
