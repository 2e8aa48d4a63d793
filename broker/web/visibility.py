"""Which approvals somebody sees: the one place that says so.

Auditors and administrators see all. Approvers see what is open, and of what is over what they could have decided.
Everybody sees the approvals of their own grants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Generic, TypeVar

from sqlmodel import Session

from broker.domain.approvals import Approval, State
from broker.domain.people import Permission, Person, normal_email
from broker.domain.reviewers import is_asked
from broker.store import approvals as stored
from broker.store.approvals import ApprovalFilter

T = TypeVar("T")

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
class Page(Generic[T]):
    """What was found, newest first, and where to go on."""

    items: list[T]
    next: Place | None


def visible_page(
    session: Session, person: Person, wanted: ApprovalFilter, *, before: Place | None = None, limit: int = 50
) -> Page[Approval]:
    """The newest approvals that match and that `person` sees."""
    wanted = of_their_own(person, wanted)
    every = _all_visible(person, wanted)
    return sifted(
        lambda before, limit: stored.page(session, wanted, before=before, limit=limit),
        (lambda _: True) if every else (lambda approval: sees(person, approval)),
        lambda approval: (approval.created_at, approval.id),
        before,
        limit,
        at_once=limit + 1 if every else _BATCH,
    )


def of_their_own(person: Person, wanted: ApprovalFilter) -> ApprovalFilter:
    """What is wanted, for who sees the approvals of their own grants only."""
    return wanted if person.may(Permission.SEE_QUEUE) else replace(wanted, owner=person.email)


def sifted(
    fetch: Callable[[Place | None, int], list[T]],
    keep: Callable[[T], bool],
    place: Callable[[T], Place],
    before: Place | None,
    limit: int,
    *,
    at_once: int = _BATCH,
    most_looks: int = _MOST_BATCHES,
) -> Page[T]:
    """The first `limit` of what `fetch` gives from `before` on that are to be kept.

    Looks at a bounded number of rows: a page may be short, even empty, and still have a next one.
    """
    items: list[T] = []
    for _ in range(most_looks):
        found = fetch(before, at_once)
        for each in found:
            if len(items) == limit:
                return Page(items, place(items[-1]))
            if keep(each):
                items.append(each)
        if len(found) < at_once:
            return Page(items, None)
        before = place(found[-1])
    return Page(items, before)


def _all_visible(person: Person, wanted: ApprovalFilter) -> bool:
    only_open = bool(wanted.states) and set(wanted.states) <= set(OPEN)
    return only_open or person.may(Permission.SEE_AUDIT) or not person.may(Permission.SEE_QUEUE)
