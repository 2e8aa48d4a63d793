"""Approvals and their reviews as rows.

What belongs here: from a value to its columns and back. What does not: which rows (`approvals`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlmodel import Session

from broker.domain import schedule
from broker.domain.approvals import Approval, Caller, Cause, Decision, Resolution, Review, State
from broker.domain.audit import timestamp
from broker.domain.calls import Call, Escalation, Memory, Requirement, Risk
from broker.domain.people import GrantRef
from broker.store.selected import Selected, listed, one_of
from broker.store.tables import ReviewRow, table_of

_reviews = table_of(ReviewRow)
_IN_ORDER = Selected(select(_reviews).where(one_of(_reviews.c.approval_id, "ids")).order_by(_reviews.c.place))


def from_rows(rows: Sequence[Any], session: Session) -> list[Approval]:
    """The approvals that `rows` are, with their reviews in the order they came."""
    given: dict[str, list[Review]] = {row.id: [] for row in rows}
    for review in _IN_ORDER.all(session.connection(), {"ids": listed(given)}) if given else ():
        given[review.approval_id].append(_review_from_row(review))
    return [_from_row(row, tuple(given[row.id])) for row in rows]


def _from_row(row: Any, reviews: tuple[Review, ...]) -> Approval:
    call = Call(
        id=row.call_id,
        upstream=row.upstream,
        tool=row.tool,
        params=row.params,
        grant=GrantRef(row.grant_id, row.grant_label, row.grant_owner),
        session=row.session,
    )
    return Approval(
        id=row.id,
        state=State(row.state),
        call=call,
        fingerprint=row.fingerprint,
        revision=row.revision,
        rule=row.rule,
        requirement=_requirement_from_json(row.requirement),
        created_at=row.created_at,
        deadline=row.deadline,
        reason=row.reason,
        risk=Risk(row.risk) if row.risk else None,
        definition=row.definition,
        execute_by=row.execute_by,
        caller=Caller(row.caller),
        waits_at=row.waits_at,
        reviews=reviews,
        resolution=_resolution_from_json(row.resolution),
        holder=row.holder,
        lease_until=row.lease_until,
        withdraw_at=row.withdraw_at,
        reminded=row.reminded,
        escalated_at=row.escalated_at,
        rounds=row.rounds,
        awaiting=row.awaiting,
        forgotten_at=row.forgotten_at,
        sealed=row.sealed,
    )


def to_columns(approval: Approval) -> dict[str, Any]:
    """The columns of its row, all of them."""
    call = approval.call
    return {
        "id": approval.id,
        "state": approval.state.value,
        "call_id": call.id,
        "upstream": call.upstream,
        "tool": call.tool,
        "params": dict(call.params),
        "grant_id": call.grant.id,
        "grant_label": call.grant.label,
        "grant_owner": call.grant.owner,
        "session": call.session,
        "fingerprint": approval.fingerprint,
        "revision": approval.revision,
        "rule": approval.rule,
        "reason": approval.reason,
        "risk": approval.risk.value if approval.risk else None,
        "requirement": _requirement_to_json(approval.requirement),
        "definition": approval.definition,
        "created_at": approval.created_at,
        "deadline": approval.deadline,
        "execute_by": approval.execute_by,
        "caller": approval.caller.value,
        "waits_at": approval.waits_at,
        "resolution": _resolution_to_json(approval.resolution),
        "holder": approval.holder,
        "lease_until": approval.lease_until,
        "withdraw_at": approval.withdraw_at,
        "reminded": approval.reminded,
        "escalated_at": approval.escalated_at,
        "rounds": approval.rounds,
        "awaiting": approval.awaiting,
        "forgotten_at": approval.forgotten_at,
        "resolved_at": approval.resolution.at if approval.resolution is not None else None,
        "due": schedule.due(approval),
        "sealed": approval.sealed,
    }


def _review_from_row(row: Any) -> Review:
    return Review(
        by=row.person,
        decision=Decision(row.decision),
        channel=row.channel,
        revision=row.revision,
        at=row.at,
        reason=row.reason,
    )


def review_to_columns(approval_id: str, place: int, given: Review) -> dict[str, Any]:
    """The columns of one review, the `place`th of its approval."""
    return {
        "approval_id": approval_id,
        "person": given.by,
        "place": place,
        "decision": given.decision.value,
        "reason": given.reason,
        "channel": given.channel,
        "revision": given.revision,
        "at": given.at,
    }


def _requirement_to_json(requirement: Requirement) -> dict[str, Any]:
    late, kept = requirement.escalate, requirement.remember
    return {
        "approvers": list(requirement.approvers),
        "quorum": requirement.quorum,
        "timeout": requirement.timeout.total_seconds() if requirement.timeout is not None else None,
        "channels": list(requirement.channels),
        "allow_self": requirement.allow_self,
        "allow_edit": requirement.allow_edit,
        "escalate": {"after": late.after.total_seconds(), "to": list(late.to)} if late is not None else None,
        "remember": {"scopes": list(kept.scopes), "max": kept.max.total_seconds()} if kept is not None else None,
    }


def _requirement_from_json(stored: dict[str, Any]) -> Requirement:
    timeout = stored["timeout"]
    late, kept = stored.get("escalate"), stored.get("remember")  # rows of earlier versions do not have these
    return Requirement(
        approvers=tuple(stored["approvers"]),
        quorum=stored["quorum"],
        timeout=timedelta(seconds=timeout) if timeout is not None else None,
        channels=tuple(stored["channels"]),
        allow_self=stored["allow_self"],
        allow_edit=stored.get("allow_edit", False),
        escalate=Escalation(timedelta(seconds=late["after"]), tuple(late["to"])) if late else None,
        remember=Memory(tuple(kept["scopes"]), timedelta(seconds=kept["max"])) if kept else None,
    )


def _resolution_to_json(end: Resolution | None) -> dict[str, Any] | None:
    if end is None:
        return None
    return {
        "state": end.state.value,
        "at": timestamp(end.at),
        "by": end.by,
        "channel": end.channel,
        "reason": end.reason,
        "cause": end.cause.value if end.cause else None,
    }


def _resolution_from_json(stored: dict[str, Any] | None) -> Resolution | None:
    if stored is None:
        return None
    return Resolution(
        state=State(stored["state"]),
        at=datetime.fromisoformat(stored["at"]),
        by=stored["by"],
        channel=stored["channel"],
        reason=stored["reason"],
        cause=Cause(stored["cause"]) if stored["cause"] else None,
    )
