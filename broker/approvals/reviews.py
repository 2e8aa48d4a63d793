"""What people do to approvals: decide, withdraw, forget.

What belongs here: one person's word, recorded with who said it. What does not: who may decide
(`broker.domain.reviewers`), and what they are shown (`broker.web`).

Whoever does something is looked up in the transaction that does it: a role that was taken away meanwhile is gone.
"""

from __future__ import annotations

from broker import stop_points
from broker.approvals.journal import BROKER, REVIEWED
from broker.approvals.ledger import Ledger, held_call
from broker.domain import moves, schedule
from broker.domain.approvals import Approval, Cause, Decision, Review, State
from broker.domain.audit import Kind
from broker.domain.people import Permission, Person
from broker.domain.reviewers import check_person
from broker.domain.text import whole
from broker.errors import Forbidden
from broker.stop_points import Point
from broker.store import people
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
        shown: str | None = None,
    ) -> Approval:
        """Take one person's word.

        Args:
            revision: what they saw; may be left out only while nothing was edited.
            shown: the digest of the message in which they saw it, for the record.

        Raises:
            NotFound: there is no such approval.
            ReviewRefused: why the word was not taken (see its subclasses).
        """

        def work(tx: Transaction) -> Approval:
            approval = self._asking_by_now(tx, held_call(tx.session, approval_id))
            word = Review(
                by=person.email,
                decision=decision,
                channel=channel,
                revision=revision or approval.fingerprint,
                at=tx.now,
                reason=whole(reason) if reason else None,
            )
            within = self._ledger.rules.execute_within
            reviewed = moves.review(approval, _as_they_are(tx, person), word, execute_within=within)
            if reviewed is approval:
                return approval
            detail = {
                "decision": decision.value,
                "channel": channel,
                "reason": word.reason,
                "revision": word.revision,
                "shown": shown,
            }
            kind = REVIEWED[reviewed.state]
            if reviewed.state is State.REJECTED:
                return self._ledger.journal.end(tx, reviewed, kind, person.email, detail)
            return self._ledger.journal.save(tx, reviewed, kind, person.email, detail)

        reviewed = await self._ledger.change(work, durable=True)
        if reviewed.state is not State.PENDING:
            stop_points.reached(Point.AFTER_DECIDING_VOTE)
        return reviewed

    async def withdraw(self, approval_id: str, person: Person) -> Approval:
        """End what must not run: an administrator's doing.

        Raises:
            NotFound: there is no such approval.
            Forbidden: they are no administrator.
            TransitionRefused: it is over, or it runs.
        """

        def work(tx: Transaction) -> Approval:
            approval = held_call(tx.session, approval_id)
            if not _as_they_are(tx, person).may(Permission.ADMINISTER):
                raise Forbidden
            withdrawn = moves.withdraw(approval, Cause.ADMINISTRATOR, tx.now, person.email)
            return self._ledger.journal.end(tx, withdrawn, Kind.APPROVAL_WITHDRAWN, person.email)

        return await self._ledger.change(work, durable=True)

    async def forget(self, approval_id: str, person: Person) -> Approval:
        """Let the identical call be asked again though it was rejected: for those who may decide it, wherever they are,
        and for administrators.

        Raises:
            NotFound: there is no such approval.
            NotEligible, SelfApproval: why they may not.
            TransitionRefused: it is no rejection that is remembered.
        """

        def work(tx: Transaction) -> Approval:
            approval, asker = held_call(tx.session, approval_id), _as_they_are(tx, person)
            if not asker.may(Permission.ADMINISTER):
                check_person(approval, asker)
            forgotten = moves.forget(approval, tx.now, self._ledger.rules.reject_memory)
            return self._ledger.journal.save(tx, forgotten, Kind.APPROVAL_FORGOTTEN, person.email)

        return await self._ledger.change(work, durable=True)

    def _asking_by_now(self, tx: Transaction, approval: Approval) -> Approval:
        """The approval, escalated if it is time for that: those who are asked from now on need not wait for a sweep."""
        later = schedule.escalated(approval, tx.now)
        if later is None:
            return approval
        detail = schedule.detail(later, Kind.APPROVAL_ESCALATED, tx.now)
        return self._ledger.journal.save(tx, later, Kind.APPROVAL_ESCALATED, BROKER, detail)


def _as_they_are(tx: Transaction, person: Person) -> Person:
    return people.get(tx.session, person.email) or Person(person.email)
