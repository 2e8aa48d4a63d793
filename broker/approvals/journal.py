"""Saving what happens to approvals: each change with its audit row, in the transaction that it is given.

What belongs here: how a row is filled, and what a change takes along. What does not: which change is made
(`broker.approvals.service`, `broker.approvals.sweeps`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broker.approvals.notices import Channel, places
from broker.domain.answers import Answer, Status
from broker.domain.approvals import Approval, Caller, State
from broker.domain.audit import Event, Kind
from broker.domain.calls import Action, Call, Verdict, arguments_digest
from broker.domain.canonical import Keyring
from broker.domain.explanations import explanation
from broker.domain.people import GrantRef
from broker.domain.redaction import redacted
from broker.domain.tasks import KNOWN_FOR
from broker.store import approvals as stored
from broker.store import held, notices, tasks
from broker.store.writer import Transaction

BROKER = "broker"
"""The actor of what happens by itself."""

REVIEWED = {
    State.PENDING: Kind.APPROVAL_REVIEWED,
    State.APPROVED: Kind.APPROVAL_APPROVED,
    State.REJECTED: Kind.APPROVAL_REJECTED,
}
"""What a review was, by the state that it led to."""

RAN = (State.SUCCEEDED, State.FAILED, State.INTERRUPTED)
"""The ends of what ran, or may have."""


def agent(grant: GrantRef) -> str:
    """The actor that a grant's agent is."""
    return f"agent:{grant.id}"


def call_event(
    keyring: Keyring,
    kind: Kind,
    call: Call,
    verdict: Action,
    rule: str | None,
    actor: str,
    detail: Mapping[str, Any],
    approval_id: str | None = None,
) -> Event:
    """Something that happened to a call, held or not.

    Args:
        call: as people see it: the row's digest is of what they saw, so that what is kept of it can be compared.
        detail: what is None in it is left out.
    """
    return Event(
        kind=kind,
        actor=actor,
        call_id=call.id,
        approval_id=approval_id,
        upstream=call.upstream,
        tool=call.tool,
        grant=call.grant.id,
        verdict=verdict.value,
        rule=rule,
        arguments_digest=arguments_digest(keyring, call),
        detail={key: value for key, value in detail.items() if value is not None},
    )


def limit_kind(told: Answer) -> Kind:
    """What is recorded of a call that a limit refuses: one that never fits is denied."""
    return Kind.CALL_LIMITED if told.status is Status.LIMITED else Kind.CALL_DENIED


def keep_call(tx: Transaction, call: Call, seen: Call, verdict: Verdict) -> None:
    """Keep what people may see of a call, and how the verdict on it came about.

    Args:
        seen: the call as people see it (see `broker.domain.redaction.redacted`).
    """
    tx.keep(call.id, "arguments" if seen is call else "redacted", dict(seen.params))
    if verdict.steps:
        tx.keep(call.id, "explanation", explanation(verdict))


class Journal:
    """Saves approvals and records what happened to them, so that people are told of it, also in `channels`."""

    def __init__(self, keyring: Keyring, channels: Sequence[Channel]) -> None:
        self._keyring = keyring
        self._channels = channels

    def save(
        self, tx: Transaction, approval: Approval, kind: Kind, actor: str, detail: Mapping[str, Any] | None = None
    ) -> Approval:
        """Save a changed approval with the row that says how; the slots of one that has run are settled."""
        if approval.state in RAN:
            held.settle(tx.session.connection(), approval.call.id, errored=False)
        if approval.state.final and approval.caller is Caller.TASK:
            tasks.settle(tx.session, approval.id, tx.now + KNOWN_FOR)
        stored.save(tx.session, approval)
        self.note(tx, approval, kind, actor, detail)
        return approval

    def end(
        self, tx: Transaction, approval: Approval, kind: Kind, actor: str, detail: Mapping[str, Any] | None = None
    ) -> Approval:
        """Save an end without a run: the call never reached its upstream, so its slots are free again."""
        held.give_back(tx.session.connection(), approval.call.id)
        return self.save(tx, approval, kind, actor, detail)

    def note(
        self, tx: Transaction, approval: Approval, kind: Kind, actor: str, detail: Mapping[str, Any] | None = None
    ) -> None:
        """Record something about an approval, also what does not change it, and let everybody be told."""
        end = approval.resolution
        cause = {"cause": end.cause.value} if end is not None and end.cause is not None else {}
        facts = {**(detail or {}), **cause, "state": approval.state.value}
        call, rule = approval.call, approval.rule
        tx.record(call_event(self._keyring, kind, call, Action.HOLD, rule, actor, facts, approval.id))
        if kind is Kind.APPROVAL_SUBMITTED:
            notices.add(tx.session, approval.id, places(self._channels, approval.requirement), tx.now)
        else:
            notices.outdate(tx.session, approval.id, tx.now)

    def refuse(self, tx: Transaction, kind: Kind, call: Call, verdict: Verdict, told: Answer) -> Answer:
        """Record a call that could not be held, and what its agent is told."""
        seen, facts = redacted(call, verdict.redact), {"reason": told.reason, "approval": told.approval_id}
        keep_call(tx, call, seen, verdict)
        tx.record(call_event(self._keyring, kind, seen, verdict.action, told.rule, agent(call.grant), facts))
        return told
