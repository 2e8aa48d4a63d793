"""The feed: what happens to approvals, for those who wait for it: held calls and open pages.

What is told comes from the audit log itself, read from the last row seen, so changes made by other processes come the
same way, within a second, and none is missed; a nudge after a commit of this process is a hint to look soon. One look
reads the approvals of all that wait for something, so that ten thousand held calls are no ten thousand queries. What
this process itself made of an approval is told before the look, which then tells the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from types import TracebackType

from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from broker.approvals.hints import Hint
from broker.domain.approvals import Approval
from broker.domain.audit import Row
from broker.errors import StoreError
from broker.store import approvals as stored
from broker.store import audit
from broker.store.writer import Store

log = logging.getLogger(__name__)

BACKLOG = 1000
"""Rows that a slow follower may be behind; then it is cut off and has to read the present state again."""

GATHERING = 0.02
"""Seconds after a hint in which more is gathered before the look: a call that was decided is claimed and run meanwhile,
and who waits for it here was told of each step already."""

Hear = Callable[[Approval | None], None]
"""Is given an approval as it stands; None when the feed cannot tell, since its row was altered, say."""


class Waiter:
    """Who waits for one approval, as a context: in it `hear` is called soon, and whenever anything happens to that."""

    __slots__ = ("_approval_id", "_feed", "hear")

    def __init__(self, feed: Feed, approval_id: str, hear: Hear) -> None:
        self._feed = feed
        self._approval_id = approval_id
        self.hear = hear

    def __enter__(self) -> None:
        self._feed.enter(self._approval_id, self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._feed.leave(self._approval_id, self)


class Feed:
    """Tells followers of every audit row about an approval, in order, and waiters how theirs stands."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: int | None = None
        self._hint = Hint()
        self._waiters: dict[str, list[Waiter]] = {}
        self._unread: set[str] = set()  # what new waiters wait for
        self._told: set[str] = set()  # what was told while a look was under way: what that saw may be older
        self._followers: set[asyncio.Queue[Row | None]] = set()

    def nudge(self) -> None:
        """Something was just committed: look soon."""
        self._hint.give()

    def tell(self, approval: Approval) -> None:
        """This process just changed `approval`: who waits for it need not wait for the next look."""
        self._told.add(approval.id)
        for waiter in self._waiters.get(approval.id, ()):
            waiter.hear(approval)

    def waiter(self, approval_id: str, hear: Hear) -> Waiter:
        """Somebody who waits for what happens to an approval."""
        return Waiter(self, approval_id, hear)

    def enter(self, approval_id: str, waiter: Waiter) -> None:
        """For `Waiter`: it waits from now on."""
        self._waiters.setdefault(approval_id, []).append(waiter)
        self._unread.add(approval_id)
        self.nudge()

    def leave(self, approval_id: str, waiter: Waiter) -> None:
        """For `Waiter`: it waits no more."""
        waiting = self._waiters[approval_id]
        waiting.remove(waiter)
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
                await self._hint.wait()
                await asyncio.sleep(GATHERING)
        finally:
            self.dismiss()

    def dismiss(self) -> None:
        """End every follower: pages that listen would keep a stopping server waiting."""
        for rows in list(self._followers):
            _cut_off(rows)

    async def _look(self) -> None:
        if self._seen is None:
            self._seen = await self._store.look_up(lambda session: audit.head(session).seq)
            self._unread = set(self._waiters)
        seen, unread = self._seen, self._unread
        self._unread, self._told = set(), set()
        try:
            rows, approvals = await self._store.look_up(lambda session: self._news(session, seen, unread))
        except BaseException:
            self._unread |= unread
            raise
        if self._told:
            self._unread |= self._told & self._waiters.keys()
            self.nudge()
        for approval_id, approval in approvals.items():
            if approval_id in self._told:
                continue
            for waiter in self._waiters.get(approval_id, ()):
                waiter.hear(approval)
        for row in rows:
            self._tell_followers(row)
            self._seen = row.seq

    def _news(
        self, session: Session, seen: int, unread: Collection[str]
    ) -> tuple[list[Row], dict[str, Approval | None]]:
        """In a thread: the rows after `seen`, and how what is waited for stands."""
        rows = audit.approvals_since(session, seen)
        changed = {row.approval_id for row in rows if row.approval_id in self._waiters}
        return rows, _present(session, changed.union(unread))

    def _tell_followers(self, row: Row) -> None:
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


def _present(session: Session, ids: Collection[str]) -> dict[str, Approval | None]:
    """How the approvals of `ids` stand; None where that cannot be told here."""
    found: dict[str, Approval | None] = dict.fromkeys(ids)
    try:
        found.update((approval.id, approval) for approval in stored.by_ids(session, ids))
    except (SQLAlchemyError, session.connection().dialect.loaded_dbapi.Error):
        raise
    except Exception:  # somebody altered a row, say: who waits for that one finds out, and the others go on
        log.exception("Approvals could not be read together.")
    return found
