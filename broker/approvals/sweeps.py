"""What happens to approvals by itself: as time passes, and when a server starts.

What belongs here: finding what is due and saving what time did to it. What does not: what time does
(`broker.domain.schedule`). Deadlines are columns, and are checked wherever a state changes, so these may run late or
twice.
"""

from __future__ import annotations

from dataclasses import replace

from broker.approvals.claims import LEASE
from broker.approvals.journal import BROKER
from broker.approvals.service import Approvals
from broker.domain import moves, schedule
from broker.domain.approvals import Approval, Caller, Cause, State
from broker.domain.audit import Kind
from broker.store import approvals as stored
from broker.store import slots, tasks
from broker.store.writer import Transaction


async def sweep(approvals: Approvals) -> None:
    """Do what time did, end what belongs to ended grants, renew this process's leases, forget old slots and tasks.

    Raises:
        StoreError: the store cannot be written; the next sweep does it all.
    """
    journal, claims = approvals.journal, approvals.claims
    executing = list(claims.executing)

    def work(tx: Transaction) -> None:
        stored.renew_leases(tx.session, claims.holder, executing, tx.now + LEASE)
        slots.forget_old(tx.session.connection(), tx.now)
        tasks.forget(tx.session, tx.now)
        for approval in stored.due(tx.session, tx.now):
            _pass_time(approvals, tx, approval)
        for orphan in stored.of_ended_grants(tx.session, tx.now):
            journal.end(tx, moves.withdraw(orphan, Cause.GRANT, tx.now), Kind.APPROVAL_WITHDRAWN, BROKER)

    await approvals.change(work)


def _pass_time(approvals: Approvals, tx: Transaction, approval: Approval) -> None:
    while (passed := schedule.pass_time(approval, tx.now)) is not None:
        approval, kind = passed
        save = approvals.journal.end if approval.state in (State.EXPIRED, State.WITHDRAWN) else approvals.journal.save
        save(tx, approval, kind, BROKER, schedule.detail(approval, kind, tx.now))


async def recover(approvals: Approvals) -> None:
    """At the start of the only server on a store: no caller survived, and what was executing is interrupted.

    Raises:
        StoreError: the store cannot be written.
    """

    def work(tx: Transaction) -> None:
        for left in stored.in_states(tx.session, (State.PENDING, State.APPROVED)):
            if left.caller is Caller.WAITING:
                gone = moves.leave(left, withdraw_at=None)
                approvals.journal.save(tx, gone, Kind.APPROVAL_ABANDONED, BROKER, {"why": "the broker restarted"})
        for left in stored.in_states(tx.session, (State.EXECUTING,)):
            if left.awaiting is None:
                caller = (
                    Caller.TASK if left.caller is Caller.TASK else Caller.GONE
                )  # its connection went, if it had one
                gone = replace(moves.interrupt(left), caller=caller)
                why = {"why": "the broker stopped in the middle: it may or may not have run"}
                approvals.journal.save(tx, gone, Kind.APPROVAL_INTERRUPTED, BROKER, why)

    await approvals.change(work, durable=True)
