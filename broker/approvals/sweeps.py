"""What happens to approvals by itself: as time passes, and when a server starts or ends.

What belongs here: finding what is due and saving what time did to it. What does not: what time does
(`broker.domain.schedule`), and to what a dead process left (`processes`). Deadlines are columns, and are checked
wherever a state changes, so these may run late, twice, and in several processes.
"""

from __future__ import annotations

from broker.approvals.journal import BROKER
from broker.approvals.processes import LEASE
from broker.approvals.service import Approvals
from broker.domain import moves, schedule
from broker.domain.approvals import Approval, Cause, State
from broker.domain.audit import Kind
from broker.store import approvals as stored
from broker.store import slots, tasks
from broker.store.writer import Transaction


async def sweep(approvals: Approvals) -> None:
    """Say that this process lives, and end what dead ones left; do what time did, end what belongs to ended grants,
    forget old slots and tasks.

    Raises:
        StoreError: the store cannot be written; the next sweep does it all.
    """
    journal, claims = approvals.journal, approvals.claims
    executing = list(claims.executing)

    def work(tx: Transaction) -> None:
        approvals.process.look_around(tx, journal)
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


async def recover(approvals: Approvals, *, alone: bool) -> None:
    """At the start of a server: what dead ones left is ended (see `Process.begin`).

    Args:
        alone: whether nobody else can be serving from this store.

    Raises:
        SettingsError: another server has another secret.
        StoreError: the store cannot be written.
    """
    begin = approvals.process.begin
    await approvals.change(lambda tx: begin(tx, approvals.journal, alone=alone), durable=True)


async def leave(approvals: Approvals) -> None:
    """At its end: others need not wait until they find it dead.

    Raises:
        StoreError: the store cannot be written.
    """
    await approvals.change(lambda tx: approvals.process.end(tx, approvals.journal))
