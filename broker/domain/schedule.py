"""What time does to an approval: end it, remind of it, ask more people.

What belongs here: when each of these is due, and what it does. What does not: looking for what is due
(`broker.approvals.sweeps`). Whoever is late does it all the same, once: nothing here counts on being on time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from broker.domain.approvals import Approval, Cause, State
from broker.domain.audit import Kind
from broker.domain.durations import written_duration
from broker.domain.moves import expire, interrupt, withdraw

REMINDERS = (0.5, 0.9)
"""The parts of its time after which people are reminded of what nobody has decided yet."""


def due(approval: Approval) -> datetime | None:
    """The next instant at which something happens to `approval` by itself; None: nothing ever does."""
    return min(_instants(approval), default=None)


def _instants(approval: Approval) -> Iterator[datetime]:
    match approval.state:
        case State.PENDING:
            yield from _given(approval.deadline, approval.withdraw_at, _escalation(approval))
            yield from _reminders(approval)[approval.reminded :]
        case State.APPROVED:
            yield from _given(approval.execute_by, approval.withdraw_at)
        case State.EXECUTING:
            yield from _given(approval.lease_until)
        case _:
            return


def pass_time(approval: Approval, now: datetime) -> tuple[Approval, Kind] | None:
    """The next thing that time has done to `approval` by `now`, and what it is called; None: nothing any more."""
    match approval.state:
        case State.PENDING:
            return _end(approval, approval.deadline, now) or _nudge(approval, now)
        case State.APPROVED:
            return _end(approval, approval.execute_by, now)
        case State.EXECUTING if approval.lease_until is not None and now >= approval.lease_until:
            return interrupt(approval), Kind.APPROVAL_INTERRUPTED
        case _:
            return None


def escalated(approval: Approval, now: datetime) -> Approval | None:
    """The pending approval with more people asked from `now` on; None: it is not time for that, or was done before."""
    escalation = _escalation(approval)
    if approval.state is not State.PENDING or escalation is None or now < escalation:
        return None
    return replace(approval, escalated_at=now)


def detail(approval: Approval, kind: Kind, now: datetime) -> dict[str, Any]:
    """What is recorded with what time did to `approval`."""
    match kind:
        case Kind.APPROVAL_REMINDED:
            left = approval.deadline - now
            unit = timedelta(minutes=1) if left > timedelta(minutes=1) else timedelta(seconds=1)
            rounded = written_duration(ceil(left / unit) * unit)
            return {"part": f"{REMINDERS[approval.reminded - 1]:.0%}", "left": rounded}
        case Kind.APPROVAL_ESCALATED if approval.requirement.escalate is not None:
            return {"to": list(approval.requirement.escalate.to)}
        case Kind.APPROVAL_INTERRUPTED:
            waited = approval.holder is None  # for input, so no process ran it
            known = (
                "the tool asked for input, and the agent never brought it"
                if waited
                else "the process that ran it went away"
            )
            return {"why": f"{known}: it may or may not have run"}
        case _:
            return {}


def _end(approval: Approval, over: datetime | None, now: datetime) -> tuple[Approval, Kind] | None:
    """What came first ends it, also for who looks late: its time was `over`, or its caller did not come back."""
    first = min(_given(over, approval.withdraw_at), default=None)
    if first is None or now < first:
        return None
    if first == over:
        return expire(approval, now), Kind.APPROVAL_EXPIRED
    return withdraw(approval, Cause.CANCELLED, now), Kind.APPROVAL_WITHDRAWN


def _nudge(approval: Approval, now: datetime) -> tuple[Approval, Kind] | None:
    """Escalate, or remind; of reminders that were missed only the last is given."""
    if (later := escalated(approval, now)) is not None:
        return later, Kind.APPROVAL_ESCALATED
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
