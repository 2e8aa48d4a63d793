"""What time does to an approval: end it, remind of it, ask more people.

What belongs here: when each of these is due, and what it does. What does not: looking for what is due
(`broker.approvals.sweeps`). Whoever is late does it all the same, once: nothing here counts on being on time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from broker.domain.approvals import Approval, Cause, State
from broker.domain.audit import Kind
from broker.domain.moves import expire, interrupt, withdraw

REMINDERS = (0.5, 0.9)
"""The parts of its time after which people are reminded of what nobody has decided yet."""


def due(approval: Approval) -> datetime | None:
    """The next instant at which something happens to `approval` by itself; None: nothing ever does."""
    return min(_instants(approval), default=None)


def _instants(approval: Approval) -> Iterator[datetime]:
    match approval.state:
        case State.PENDING:
            yield approval.deadline
            yield from _reminders(approval)[approval.reminded :]
            yield from _given(_escalation(approval), approval.withdraw_at)
        case State.APPROVED:
            yield from _given(approval.execute_by, approval.withdraw_at)
        case State.EXECUTING:
            yield from _given(approval.lease_until)
        case _:
            return


def pass_time(approval: Approval, now: datetime) -> tuple[Approval, Kind] | None:
    """The next thing that time has done to `approval` by `now`, and what it is called; None: nothing any more."""
    match approval.state:
        case State.PENDING if now >= approval.deadline:
            return expire(approval, now), Kind.APPROVAL_EXPIRED
        case State.APPROVED if approval.execute_by is not None and now >= approval.execute_by:
            return expire(approval, now), Kind.APPROVAL_EXPIRED
        case State.PENDING | State.APPROVED if approval.withdraw_at is not None and now >= approval.withdraw_at:
            return withdraw(approval, Cause.CANCELLED, now), Kind.APPROVAL_WITHDRAWN
        case State.EXECUTING if approval.lease_until is not None and now >= approval.lease_until:
            return interrupt(approval), Kind.APPROVAL_INTERRUPTED
        case State.PENDING:
            return _nudge(approval, now)
        case _:
            return None


def _nudge(approval: Approval, now: datetime) -> tuple[Approval, Kind] | None:
    """Escalate, or remind; of reminders that were missed only the last is given."""
    escalation = _escalation(approval)
    if escalation is not None and now >= escalation:
        return replace(approval, escalated_at=now), Kind.APPROVAL_ESCALATED
    reminded = sum(now >= each for each in _reminders(approval))
    if reminded > approval.reminded:
        return replace(approval, reminded=reminded), Kind.APPROVAL_REMINDED
    return None


def _reminders(approval: Approval) -> list[datetime]:
    whole = approval.deadline - approval.created_at
    return [approval.created_at + part * whole for part in REMINDERS]


def _escalation(approval: Approval) -> datetime | None:
    """When it will be escalated, if it will."""
    wanted = approval.requirement.escalate
    return approval.created_at + wanted.after if wanted is not None and approval.escalated_at is None else None


def _given(*instants: datetime | None) -> list[datetime]:
    return [instant for instant in instants if instant is not None]
