"""The feed: what happens to approvals, for those who wait for it: held calls and open pages.

A nudge after a commit of this process is only a hint to look now. What is told comes from the audit log itself, read
from the last row seen, so changes made by other processes come the same way, within a second, and none is missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager, suppress

from broker.domain.audit import Row
from broker.errors import StoreError
from broker.store import audit
from broker.store.writer import Store

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds between looks when no hint comes."""

BACKLOG = 1000
"""Rows that a slow follower may be behind; then it is cut off and has to read the present state again."""


class Feed:
    """Tells followers of every audit row about an approval, in order, and wakes the waiters of that approval."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: int | None = None
        self._hint = asyncio.Event()
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._followers: set[asyncio.Queue[Row | None]] = set()

    def nudge(self) -> None:
        """Something was just committed: look now."""
        self._hint.set()

    @contextmanager
    def waiter(self, approval_id: str, event: asyncio.Event) -> Generator[None]:
        """Set `event` whenever anything happens to the approval. Read its state after entering, then wait."""
        self._waiters.setdefault(approval_id, set()).add(event)
        try:
            yield
        finally:
            waiting = self._waiters[approval_id]
            waiting.discard(event)
            if not waiting:
                del self._waiters[approval_id]

    async def follow(self) -> AsyncIterator[Row]:
        """Rows about approvals from now on; ends when the follower is too slow or the feed stops."""
        rows: asyncio.Queue[Row | None] = asyncio.Queue(BACKLOG)
        self._followers.add(rows)
        try:
            while (row := await rows.get()) is not None:
                yield row
        finally:
            self._followers.discard(rows)

    async def run(self) -> None:
        """Look and tell until cancelled. A store that cannot be read is tried again."""
        try:
            while True:
                try:
                    await self._look()
                except StoreError as error:
                    log.warning("%s What happens to approvals is not noticed until it can.", error)
                except Exception:  # a row that cannot be read, say: nobody may wait for ever because of it
                    log.exception("Changes of approvals were skipped; everybody is told to look again.")
                    self._seen = None
                    self.dismiss()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY):
                        await self._hint.wait()
                self._hint.clear()
        finally:
            self.dismiss()

    def dismiss(self) -> None:
        """End every follower: pages that listen would keep a stopping server waiting."""
        for rows in list(self._followers):
            _cut_off(rows)

    async def _look(self) -> None:
        if self._seen is None:
            self._seen = await self._store.look_up(lambda session: audit.head(session).seq)
            self._wake_all()
        seen = self._seen
        rows = await self._store.look_up(lambda session: audit.approvals_since(session, seen))
        for row in rows:
            self._tell(row)
            self._seen = row.seq

    def _wake_all(self) -> None:
        for events in self._waiters.values():
            for event in events:
                event.set()

    def _tell(self, row: Row) -> None:
        for event in self._waiters.get(row.approval_id or "", ()):
            event.set()
        for rows in list(self._followers):
            try:
                rows.put_nowait(row)
            except asyncio.QueueFull:
                self._followers.discard(rows)
                _cut_off(rows)


def _cut_off(rows: asyncio.Queue[Row | None]) -> None:
    while rows.full():
        rows.get_nowait()
    rows.put_nowait(None)
