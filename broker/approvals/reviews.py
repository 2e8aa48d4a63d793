"""What people do to approvals: decide, withdraw, forget.

What belongs here: one person's word, recorded with who said it. What does not: who may (`broker.domain.reviewers`), and
what they are shown (`broker.web`).
"""

from __future__ import annotations

from broker import stop_points
from broker.approvals.journal import REVIEWED
from broker.approvals.ledger import Ledger, held_call
from broker.domain import moves
from broker.domain.approvals import Approval, Cause, Decision, Review, State
from broker.domain.audit import Kind
from broker.domain.people import Person
from broker.domain.text import whole
from broker.stop_points import Point
from broker.store.writer import Transaction


class Reviews:
    """The people's side of a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def review(
        self,
        approval_id: str,
        person: Person,
        decision: Decision,
        *,
        channel: str,
        revision: str | None = None,
        reason: str | None = None,
    ) -> Approval:
        """Take one person's word.

        Args:
            revision: what they saw; may be left out only while nothing was edited.

        Raises:
            NotFound: there is no such approval.
            ReviewRefused: why the word was not taken (see its subclasses).
        """

        def work(tx: Transaction) -> Approval:
            approval = held_call(tx.session, approval_id)
            word = Review(
                by=person.email,
                decision=decision,
                channel=channel,
                revision=revision or approval.fingerprint,
                at=tx.now,
                reason=whole(reason) if reason else None,
            )
            reviewed = moves.review(approval, person, word, execute_within=self._ledger.rules.execute_within)
            if reviewed is approval:
                return approval
            detail = {"decision": decision.value, "channel": channel, "reason": word.reason, "revision": word.revision}
            kind = REVIEWED[reviewed.state]
            if reviewed.state is State.REJECTED:
                return self._ledger.journal.end(tx, reviewed, kind, person.email, detail)
            return self._ledger.journal.save(tx, reviewed, kind, person.email, detail)

        reviewed = await self._ledger.change(work, durable=True)
        if reviewed.state is not State.PENDING:
            stop_points.reached(Point.AFTER_DECIDING_VOTE)
        return reviewed

    async def withdraw(self, approval_id: str, person: Person) -> Approval:
        """End what must not run, without a word on it: an administrator's doing.

        Raises:
            NotFound: there is no such approval.
            TransitionRefused: it is over, or it runs.
        """

        def work(tx: Transaction) -> Approval:
            approval = held_call(tx.session, approval_id)
            withdrawn = moves.withdraw(approval, Cause.ADMINISTRATOR, tx.now, person.email)
            return self._ledger.journal.end(tx, withdrawn, Kind.APPROVAL_WITHDRAWN, person.email)

        return await self._ledger.change(work, durable=True)

    async def forget(self, approval_id: str, person: Person) -> Approval:
        """Let the identical call be asked again though it was rejected.

        Raises:
            NotFound: there is no such approval.
            TransitionRefused: it was not rejected, or is forgotten already.
        """

        def work(tx: Transaction) -> Approval:
            forgotten = moves.forget(held_call(tx.session, approval_id), tx.now)
            return self._ledger.journal.save(tx, forgotten, Kind.APPROVAL_FORGOTTEN, person.email)

        return await self._ledger.change(work, durable=True)
