"""What a work is given: the present instant, the database and the record.

What belongs here: that, and what the works of one commit append to the record. What does not: transactions of the
database (`broker.store.commits`), works that are run before there is one (`broker.store.drafts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from broker.domain.audit import Event, Head, digest_of
from broker.domain.calls import Charge
from broker.store import slots
from broker.store.audit import columns
from broker.store.columns import micros
from broker.store.connected import Connected
from broker.store.engine import driver, in_transaction
from broker.store.slots import Crowded, LimitReached, Taken


class Unforeseen(Exception):
    """A work that is run before its transaction needs the database."""


class Transaction:
    """What a work is given: the present instant, the database, and the record.

    A work that raises leaves nothing behind; the others of its commit are not touched.
    """

    def __init__(self, connection: Connection | None, now: datetime, crowded: Crowded) -> None:
        self.now = now
        self._connection = connection
        self._crowded = crowded
        self._events: list[Event] = []
        self._contents: list[dict[str, Any]] = []
        self._session: Connected | None = None

    @property
    def connection(self) -> Connection:
        """Without a savepoint: for works that never raise once they wrote."""
        if self._connection is None:
            raise Unforeseen
        return self._connection

    @property
    def session(self) -> Connected:
        """A session in this work's own savepoint. A work that only records does without one."""
        if self._session is None:
            if not self.connection.in_transaction():  # as far as SQLAlchemy knows: its savepoint would be all of it
                self.connection.begin()
            driver(self.connection).execute("SAVEPOINT work")
            self._session = Connected(self.connection)
        return self._session

    def take(self, charges: Sequence[Charge]) -> Taken | LimitReached:
        """Count a call for every charge, or for none: see `broker.store.slots.take`."""
        taken = slots.take(self.connection, charges, self.now)
        self._crowded.note(charges, taken, self.now)
        return taken

    def record(self, event: Event) -> None:
        """Append `event` to the audit chain when this work succeeds."""
        self._events.append(event)

    def keep(self, call_id: str, what: str, body: Any) -> None:
        """Keep `body`, JSON, beside the chain as the `arguments`, `result` … of a call."""
        self._contents.append({"call_id": call_id, "what": what, "body": body})

    def accept(self, batch: Batch) -> None:
        """The work returned: its savepoint and its events join the commit."""
        rows = batch.chained(self._events)
        if self._session is not None:
            self._session.commit()
            self._session.close()
            driver(self.connection).execute("RELEASE work")
        batch.rows.extend(rows)
        batch.contents.extend(self._contents)

    def refuse(self) -> bool:
        """The work raised: nothing of it stays. Returns whether the commit goes on; a full disk ends all of it."""
        if self._session is not None:
            self._session.close()
            try:
                driver(self.connection).execute("ROLLBACK TO work")
                driver(self.connection).execute("RELEASE work")
            except self.connection.dialect.loaded_dbapi.Error:
                return False
        return in_transaction(self.connection)


class Batch:
    """What one commit appends after the end of the chain that it found, each row as its columns."""

    def __init__(self, head: Head, now: datetime) -> None:
        self._found = head
        self._now, self._at = now, micros(now)
        self.rows: list[dict[str, Any]] = []
        self.contents: list[dict[str, Any]] = []

    def chained(self, events: Sequence[Event]) -> list[dict[str, Any]]:
        """The rows that `events` would become; what cannot be written raises here, for its own work alone."""
        rows: list[dict[str, Any]] = []
        last = self.rows[-1] if self.rows else None
        seq, digest = (last["seq"], last["digest"]) if last is not None else (self._found.seq, self._found.digest)
        for event in events:
            seq, prev = seq + 1, digest
            digest = digest_of(event, seq, self._now, prev)
            rows.append(columns(event, self._at) | {"seq": seq, "prev": prev, "digest": digest})
        return rows
