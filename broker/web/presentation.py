"""Approvals and audit rows in the JSON shapes of the HTTP API (design section 4).

What belongs here: names and spellings that programs outside rely on. What does not: what pages say
(`broker.domain.standing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from broker.domain.approvals import Approval, Resolution, Review
from broker.domain.audit import Row, as_json, timestamp
from broker.domain.calls import Requirement
from broker.domain.durations import written_duration
from broker.domain.people import Person
from broker.domain.reviewers import may_still_vote


def approval(value: Approval, people: Iterable[Person]) -> dict[str, Any]:
    """An approval as it stands in lists.

    Args:
        people: everybody, for who may still vote.
    """
    call = value.call
    return {
        "id": value.id,
        "state": value.state.value,
        "upstream": call.upstream,
        "tool": call.tool,
        "arguments": call.params.get("arguments", {}),
        "other_params": call.beside,
        "revision": value.revision,
        "fingerprint": value.fingerprint,
        "grant": {"id": call.grant.id, "label": call.grant.label, "owner": call.grant.owner},
        "risk": value.risk.value if value.risk else None,
        "reason": value.reason,
        "rule": value.rule,
        "requirement": _requirement(value.requirement),
        "created_at": timestamp(value.created_at),
        "deadline": timestamp(value.deadline),
        "execute_by": _instant(value.execute_by),
        "caller": value.caller.value,
        "withdraw_at": _instant(value.withdraw_at),
        "may_decide": [person.email for person in may_still_vote(value, people)],
        "reminded": value.reminded,
        "escalated_at": _instant(value.escalated_at),
        "forgotten_at": _instant(value.forgotten_at),
        "rounds": value.rounds,
        "awaits_input": value.awaiting is not None,
        "reviews": [_review(given) for given in value.reviews],
        "resolution": resolution(value.resolution),
    }


def whole_approval(
    value: Approval, people: Iterable[Person], history: Iterable[Row], explanation: Sequence[Any]
) -> dict[str, Any]:
    """One approval with its audit rows, oldest first, and with the rules that were looked at before it was held."""
    return approval(value, people) | {"history": [as_json(row) for row in history], "explanation": list(explanation)}


def resolution(end: Resolution | None) -> dict[str, Any] | None:
    """How it was decided, or how it ended."""
    if end is None:
        return None
    return {
        "state": end.state.value,
        "by": end.by,
        "at": timestamp(end.at),
        "channel": end.channel,
        "reason": end.reason,
        "cause": end.cause.value if end.cause else None,
    }


def _review(given: Review) -> dict[str, Any]:
    return {
        "by": given.by,
        "decision": given.decision.value,
        "reason": given.reason,
        "channel": given.channel,
        "revision": given.revision,
        "at": timestamp(given.at),
    }


def _requirement(wanted: Requirement) -> dict[str, Any]:
    kept, late = wanted.remember, wanted.escalate
    return {
        "approvers": list(wanted.approvers),
        "quorum": wanted.quorum,
        "channels": list(wanted.channels),
        "allow_self": bool(wanted.allow_self),
        "allow_edit": wanted.allow_edit,
        "escalate": {"after": written_duration(late.after), "to": list(late.to)} if late is not None else None,
        "remember": {"scopes": list(kept.scopes), "max": written_duration(kept.max)} if kept is not None else None,
    }


def _instant(at: datetime | None) -> str | None:
    return timestamp(at) if at is not None else None
