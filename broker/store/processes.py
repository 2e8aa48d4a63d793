"""The server processes of one store, as rows: who lives, and who does not any more.

What belongs here: these rows. What does not: what becomes of what a dead process left (`broker.approvals.processes`),
holding the lock that its life is known by (`presence`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, delete, func, or_
from sqlmodel import Session, col, select

from broker.store.columns import micros
from broker.store.prepared import Prepared
from broker.store.rows import Rows
from broker.store.tables import ProcessRow, table_of

_PROCESSES = Rows(table_of(ProcessRow))
_OTHERS = delete(ProcessRow).where(col(ProcessRow.id) != bindparam("process"))
_DEAD = col(ProcessRow.lease_until) <= bindparam("now")
_FORGET_DEAD = Prepared(_OTHERS.where(_DEAD))
# Of one without a lock it is NULL. One that is free is held until this transaction ends.
_FORGET_UNLOCKED = Prepared(_OTHERS.where(or_(_DEAD, func.pg_try_advisory_xact_lock(col(ProcessRow.lock)))))


def beat(session: Session, process: str, until: datetime, lock: int | None, secrets: Sequence[str]) -> None:
    """`process` lives, and is believed to until `until`, or until nobody holds the advisory lock that it names."""
    row = {"id": process, "lease_until": until, "lock": lock, "secrets": list(secrets)}
    _PROCESSES.put(session.connection(), [row])


def forget_dead(session: Session, process: str, now: datetime) -> bool:
    """Take out those but `process` whose lease is over or whose lock is free; whether there were any."""
    connection = session.connection()
    forget = _FORGET_UNLOCKED if connection.dialect.name == "postgresql" else _FORGET_DEAD
    return bool(forget.on(connection, {"process": process, "now": micros(now)}).rowcount)


def forget_others(session: Session, process: str) -> None:
    """Nobody but `process` serves from this store."""
    session.connection().execute(delete(ProcessRow).where(col(ProcessRow.id) != process))


def forget(session: Session, process: str) -> None:
    """`process` ends."""
    session.connection().execute(delete(ProcessRow).where(col(ProcessRow.id) == process))


def secrets_of_others(session: Session, process: str) -> list[list[str]]:
    """What the secrets of each other process are recognised by, the newest first."""
    return list(session.exec(select(ProcessRow.secrets).where(ProcessRow.id != process)))
