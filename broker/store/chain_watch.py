"""Verifying the record while the server runs.

What belongs here: how far the chain was verified, when, and what is wrong with it. What does not: what a chain is
(`broker.domain.audit`), showing it (`broker.web`).

What was found is kept in this process's memory: who can write the store could write there that all is well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import takewhile

from sqlmodel import Session

from broker.domain.audit import Head, verify
from broker.errors import ChainBroken
from broker.store import audit
from broker.store.writer import Store

AT_ONCE = 1000
"""Rows in one look: some 20 milliseconds."""

BUSY, WHILE_BUSY = 200, 100
"""Calls come in fast when more rows than the first are new since the last look; then so many are verified."""

AGAIN = timedelta(days=1)
"""How old a walk may become before the next begins at the first row: what was verified may have been altered since."""

TRY_AGAIN = timedelta(minutes=1)

_NOTHING = Head()


@dataclass(frozen=True, slots=True)
class Walk:
    """How the chain was found.

    Args:
        began: when the walk began at the first row.
        reached: the last row that was verified.
        at: when that was; None before the first look.
        whole_at: when a walk last reached the end of the record.
        trouble: what is wrong, as a sentence.
    """

    began: datetime
    reached: Head = _NOTHING
    at: datetime | None = None
    whole_at: datetime | None = None
    trouble: str | None = None


class ChainWatch:
    """Walks along the chain, from the first row to the last, then along what is new, and once a day anew."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._end = 0
        self.walk = Walk(store.now())

    async def look(self) -> None:
        """Verify the next rows.

        Raises:
            StoreError: the record cannot be read.
        """
        walk, now = self.walk, self._store.now()
        if walk.trouble is not None and walk.at is not None and now - walk.at < TRY_AGAIN:
            return
        if now - walk.began >= AGAIN and walk.trouble is None:
            walk = replace(walk, began=now, reached=Head())
        try:
            reached, end = await self._store.read(lambda session: self._verified(session, walk.reached))
        except ChainBroken as error:
            self.walk = replace(walk, at=now, trouble=str(error))
            return
        whole_at = now if reached.seq == end.seq else walk.whole_at
        self.walk = replace(walk, reached=reached, at=now, whole_at=whole_at, trouble=None)

    def _verified(self, session: Session, reached: Head) -> tuple[Head, Head]:
        """How far the chain holds behind `reached`, and where it ends."""
        end = audit.head(session)
        if end == reached:  # nothing is new
            return reached, end
        busy = 0 < self._end < end.seq - BUSY
        self._end = end.seq
        most = WHILE_BUSY if busy else AT_ONCE
        rows = list(takewhile(lambda row: row.seq <= end.seq, audit.after(session, reached.seq, most)))
        at_the_end = len(rows) < most
        return verify(rows, end if at_the_end else None, start=reached), end
