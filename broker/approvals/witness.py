"""The witness: once a day the record notes how far it reaches, so that channels tell it outside of this machine.

What belongs here: when that is. What does not: telling it (`broker.approvals.notices`), and checking it: an announced
row and its digest are what `broker audit verify --head` takes.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from broker.approvals.journal import BROKER
from broker.domain.audit import Event, Kind
from broker.store import audit
from broker.store.writer import Store, Transaction

DAY = timedelta(days=1)


class Witness:
    """Looks whether a day is over since the last time, whichever process noted that."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last: datetime | None = None

    async def look(self) -> None:
        """Note it if it is time. It is also time when the clock was set to before the last time.

        Raises:
            StoreError: the store cannot be written.
        """
        if _due(self._last, self._store.now()):
            self._last = await self._store.write(_note)


def _note(tx: Transaction) -> datetime:
    """Returns when it was noted last; no other process writes between the look and the note."""
    last = audit.last_about_no_call(tx.session, Kind.CHAIN_WITNESSED)
    if last is not None and not _due(last.at, tx.now):
        return last.at
    tx.record(Event(kind=Kind.CHAIN_WITNESSED, actor=BROKER))
    return tx.now


def _due(last: datetime | None, now: datetime) -> bool:
    return last is None or not last <= now < last + DAY
