"""What happens to approvals by itself: as time passes, and when a server starts.

What belongs here: finding what is overdue and ending it. What does not: deadlines; they are columns, and are checked
wherever a state changes, so these may run late or twice.
"""

from __future__ import annotations

from dataclasses import replace

from broker.approvals.journal import BROKER
from broker.approvals.service import LEASE, Approvals
from broker.domain import approvals as moves
from broker.domain.approvals import Approval, Caller, Cause, State
from broker.domain.audit import Kind
from broker.store import approvals as stored
from broker.store import slots
from broker.store.writer import Transaction


async def sweep(approvals: Approvals) -> None:
    """End what is overdue or whose grant has ended, renew this process's leases, forget old slots.

    Raises:
        StoreError: the store cannot be written; the next sweep does it all.
    """
    journal = approvals.journal

    def work(tx: Transaction) -> None:
        stored.renew_leases(tx.session, approvals.executing, tx.now + LEASE)
        slots.forget_old(tx.session.connection(), tx.now)
        for late in stored.overdue(tx.session, tx.now):
            if late.state is State.EXECUTING:
                _interrupt(approvals, tx, late, "the process that ran it went away")
            else:
                journal.end(tx, moves.expire(late, tx.now), Kind.APPROVAL_EXPIRED, BROKER)
        for orphan in stored.of_ended_grants(tx.session, tx.now):
            journal.end(tx, moves.withdraw(orphan, Cause.GRANT, tx.now), Kind.APPROVAL_WITHDRAWN, BROKER)

    await approvals.change(work)


async def recover(approvals: Approvals) -> None:
    """At the start of the only server on a store: no caller survived, and what was executing is interrupted.

    Raises:
        StoreError: the store cannot be written.
    """

    def work(tx: Transaction) -> None:
        for left in stored.in_states(tx.session, (State.PENDING, State.APPROVED)):
            if left.caller is Caller.WAITING:
                gone = replace(left, caller=Caller.GONE)
                approvals.journal.save(tx, gone, Kind.APPROVAL_ABANDONED, BROKER, {"why": "the broker restarted"})
        for left in stored.in_states(tx.session, (State.EXECUTING,)):
            _interrupt(approvals, tx, left, "the broker stopped in the middle")

    await approvals.change(work, durable=True)


def _interrupt(approvals: Approvals, tx: Transaction, approval: Approval, why: str) -> None:
    left = replace(moves.interrupt(approval), caller=Caller.GONE)  # its connection went with the process
    approvals.journal.save(tx, left, Kind.APPROVAL_INTERRUPTED, BROKER, {"why": f"{why}: it may or may not have run"})
