"""What the record says of approvals: one event for each thing that happens to them.

What belongs here: how an event is filled. What does not: when it happens (`broker.approvals.service`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.domain.answers import Answer
from broker.domain.approvals import Approval, State
from broker.domain.audit import Event, Kind
from broker.domain.calls import Action, Call, Verdict, arguments_digest
from broker.domain.canonical import Keyring
from broker.domain.people import GrantRef

BROKER = "broker"
"""The actor of what happens by itself."""

REVIEWED = {
    State.PENDING: Kind.APPROVAL_REVIEWED,
    State.APPROVED: Kind.APPROVAL_APPROVED,
    State.REJECTED: Kind.APPROVAL_REJECTED,
}
"""What a review was, by the state that it led to."""


def agent(grant: GrantRef) -> str:
    """The actor that a grant's agent is."""
    return f"agent:{grant.id}"


def happened(
    keyring: Keyring, kind: Kind, approval: Approval, actor: str, detail: Mapping[str, Any] | None = None
) -> Event:
    """Something that happened to `approval`, which is as it is afterwards."""
    call, end = approval.call, approval.resolution
    cause = {"cause": end.cause.value} if end is not None and end.cause is not None else {}
    facts = {**(detail or {}), **cause, "state": approval.state.value}
    return Event(
        kind=kind,
        actor=actor,
        call_id=call.id,
        approval_id=approval.id,
        upstream=call.upstream,
        tool=call.tool,
        grant=call.grant.id,
        verdict=Action.HOLD.value,
        rule=approval.rule,
        arguments_digest=arguments_digest(keyring, call),
        detail={key: value for key, value in facts.items() if value is not None},
    )


def refused(keyring: Keyring, kind: Kind, call: Call, verdict: Verdict, told: Answer) -> Event:
    """A call that could not be held, and what its agent was told."""
    return Event(
        kind=kind,
        actor=agent(call.grant),
        call_id=call.id,
        upstream=call.upstream,
        tool=call.tool,
        grant=call.grant.id,
        verdict=verdict.action.value,
        rule=told.rule,
        arguments_digest=arguments_digest(keyring, call),
        detail={"reason": told.reason},
    )
