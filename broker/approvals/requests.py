"""What an agent does to approvals: asks for one, goes away, comes back, ends its session.

What belongs here: holding a call, or the reason why it is not held. What does not: judging it (`broker.policy`),
waiting (`broker.gateway`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from broker.approvals.journal import RAN, agent, keep_call, limit_kind
from broker.approvals.ledger import Ledger, held_call
from broker.approvals.tasks import close_task, open_task
from broker.domain import answers, moves
from broker.domain.answers import Answer
from broker.domain.approvals import Approval, Caller, Cause, State
from broker.domain.audit import Kind, timestamp
from broker.domain.calls import Call, Requirement, Verdict, fingerprints
from broker.domain.canonical import new_id
from broker.domain.redaction import redacted
from broker.domain.reviewers import decides_in_any, eligible_people
from broker.domain.sealing import sealed
from broker.store import approvals as stored
from broker.store import held, people
from broker.store.writer import Transaction

HOUR = timedelta(hours=1)

CANCELLED = "cancelled"
"""Why a caller went away that said so itself."""


class Requests:
    """The agent's side of a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def submit(
        self,
        call: Call,
        verdict: Verdict,
        definition: Mapping[str, Any] | None,
        task: Mapping[str, Any] | None = None,
    ) -> Approval | Answer:
        """Hold `call`.

        The identical call of a caller that went away picks its open approval up again instead of making a second one,
        and one that was rejected a short while ago hears the same again.

        Args:
            definition: the tool as its server describes it now.
            task: what it is sent with when it is a task (see `Errand.request`), which is synced to disk at once.

        Returns:
            The open approval, or what the agent is told when it cannot be held.
        """
        verdict = replace(verdict, requirement=self._settled(verdict.requirement))
        ledger, marks = self._ledger, fingerprints(self._ledger.keyring, call, definition)
        caller = Caller.WAITING if task is None else Caller.TASK

        def hold(tx: Transaction) -> Approval | Answer:
            ledger.process.look_around(tx, ledger.journal)  # the identical call may have waited at one that just died
            if (said_no := stored.remembered(tx.session, marks, tx.now - ledger.rules.reject_memory)) is not None:
                return self._refuse(tx, Kind.CALL_DENIED, call, verdict, answers.of(said_no))
            waiting = stored.unattended(tx.session, marks, tx.now)
            if waiting is not None:
                return self._resume(tx, waiting, call, caller)
            if (full := self._full(tx, call)) is not None:
                return self._refuse(tx, Kind.CALL_LIMITED, call, verdict, full)
            if (undecidable := self._undecidable(tx, call, verdict)) is not None:
                return self._refuse(tx, Kind.CALL_DENIED, call, verdict, undecidable)
            reached = held.reserve(tx.session.connection(), call.id, verdict.charges, tx.now)
            if reached is not None:
                told = answers.limited(reached.charge, reached.free_at, tx.now)
                return self._refuse(tx, limit_kind(told), call, verdict, told)
            return self._open(tx, call, verdict, definition, marks, caller)

        def work(tx: Transaction) -> Approval | Answer:
            held = hold(tx)
            if task is not None and isinstance(held, Approval):
                open_task(tx, ledger.keyring, held, task, ledger.rules.execute_within)
            return held

        return await ledger.change(work, durable=task is not None)

    async def abandon(self, approval_id: str, why: str) -> None:
        """The caller went away. Nothing is run for it.

        Args:
            why: `cancelled` when it said that it gives up: then it is withdrawn unless the identical call comes soon;
                anything else, such as `lost`, leaves it open.
        """

        def work(tx: Transaction) -> None:
            approval = held_call(tx.session, approval_id)
            if approval.state.final or not approval.waits(self._ledger.process.id):  # another call may by now
                return
            grace = tx.now + self._ledger.rules.retry_grace if why == CANCELLED else None
            close_task(tx, approval)
            gone = moves.leave(approval, grace)
            self._ledger.journal.save(tx, gone, Kind.APPROVAL_ABANDONED, agent(gone.call.grant), {"why": why})

        await self._ledger.change(work)

    async def note_cancelled(self, approval_id: str, why: str) -> None:
        """The caller cancelled a call that was running. What came of it is recorded on its own.

        Args:
            why: whether the server was told.
        """

        def work(tx: Transaction) -> None:
            running = held_call(tx.session, approval_id)
            self._ledger.journal.note(tx, running, Kind.APPROVAL_CANCELLED, agent(running.call.grant), {"why": why})

        await self._ledger.change(work)

    async def end_session(self, session: str) -> None:
        """A legacy session was ended by its client: what it asked for is withdrawn."""

        def work(tx: Transaction) -> None:
            for approval in stored.of_session(tx.session, session):
                withdrawn = moves.withdraw(approval, Cause.SESSION, tx.now)
                self._ledger.journal.end(tx, withdrawn, Kind.APPROVAL_WITHDRAWN, agent(approval.call.grant))

        await self._ledger.change(work)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _open(
        self,
        tx: Transaction,
        call: Call,
        verdict: Verdict,
        definition: Mapping[str, Any] | None,
        marks: Sequence[str],
        caller: Caller,
    ) -> Approval:
        approval_id, seen = new_id("apr"), redacted(call, verdict.redact)
        approval = Approval(
            id=approval_id,
            state=State.PENDING,
            call=seen,
            fingerprint=marks[0],
            revision=marks[0],
            rule=verdict.rule,
            requirement=verdict.requirement,
            created_at=tx.now,
            waits_at=self._ledger.process.id if caller is Caller.WAITING else None,
            deadline=tx.now + (verdict.requirement.timeout or self._ledger.rules.timeout),
            reason=verdict.reason,
            risk=verdict.risk,
            definition=definition,
            caller=caller,
            sealed=sealed(self._ledger.keyring, approval_id, call.params) if seen is not call else None,
        )
        keep_call(tx, call, seen, verdict)
        detail = {"reason": verdict.reason} | _before(tx, marks)
        return self._ledger.journal.save(tx, approval, Kind.APPROVAL_SUBMITTED, agent(call.grant), detail)

    def _full(self, tx: Transaction, call: Call) -> Answer | None:
        """What an agent is told that may not ask for more: people's attention is limited too."""
        rules = self._ledger.rules
        if stored.pending_of(tx.session, call.grant.id, tx.now) >= rules.max_pending:
            return answers.too_many_pending(rules.max_pending)
        oldest = stored.nth_newest(tx.session, call.grant.id, tx.now - HOUR, rules.max_per_hour)
        return answers.too_many_asked(rules.max_per_hour, oldest + HOUR, tx.now) if oldest is not None else None

    def _undecidable(self, tx: Transaction, call: Call, verdict: Verdict) -> Answer | None:
        """Why no decision could ever be made: then nothing waits for one."""
        wanted = verdict.requirement
        if not decides_in_any(wanted, self._ledger.rules.channels):
            return answers.nowhere_decided(verdict)
        able = eligible_people(wanted, call.grant, people.everyone(tx.session))
        return answers.nobody_eligible(verdict) if len(able) < wanted.quorum else None

    def _resume(self, tx: Transaction, approval: Approval, call: Call, caller: Caller) -> Approval:
        """The identical call waits for it now, perhaps in another session: that one's end is its end."""
        again = replace(approval, call=replace(approval.call, session=call.session))
        back = moves.come_back(again, self._ledger.process.id, caller)
        return self._ledger.journal.save(tx, back, Kind.APPROVAL_RESUMED, agent(call.grant))

    def _settled(self, wanted: Requirement) -> Requirement:
        """What is asked for, with the configured word where the policy has none."""
        rules = self._ledger.rules
        allow_self = rules.allow_self if wanted.allow_self is None else wanted.allow_self
        return replace(wanted, timeout=wanted.timeout or rules.timeout, allow_self=allow_self)

    def _refuse(self, tx: Transaction, kind: Kind, call: Call, verdict: Verdict, told: Answer) -> Answer:
        return self._ledger.journal.refuse(tx, kind, call, verdict, told)


def _before(tx: Transaction, marks: Sequence[str]) -> dict[str, Any]:
    """What became of the identical call, if it was sent: its agent may not have heard of it, and people decide anew."""
    sent = stored.newest(tx.session, marks, (State.EXECUTING, *RAN))
    if sent is None or sent.resolution is None:
        return {}
    return {"before": {"approval": sent.id, "state": sent.state.value, "at": timestamp(sent.resolution.at)}}
