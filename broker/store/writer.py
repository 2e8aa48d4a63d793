"""The store: one group-committing writer per process, and reads beside it.

What belongs here: which works share a commit, in which thread, and reads. What does not: the commit itself
(`broker.store.commits`), what a work is given (`broker.store.transaction`).

Works are committed in a thread of the writer's own. Brief ones of a server's loop, such as the rows of a call that
passes, are committed by the loop itself: on SQLite in its thread (`broker.store.turn`), since handing them over would
cost more than the commit does; on PostgreSQL in one message to the database (`broker.store.flow`). What cannot go that
way goes to the writer's thread, and the loop never waits.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from broker.domain.clock import Clock
from broker.errors import StoreError
from broker.store.commits import NEWS, Commits, Item, commit, settle
from broker.store.connected import Connected
from broker.store.engine import checkpoint, first_line, is_sqlite, make_engine
from broker.store.schema import migrate
from broker.store.slots import Crowded
from broker.store.transaction import Transaction
from broker.store.turn import Turn

if TYPE_CHECKING:
    from broker.store.flow import Flow

__all__ = ["NEWS", "Store", "Transaction"]

log = logging.getLogger(__name__)

T = TypeVar("T")

PAGE_READERS, CALL_READERS = 4, 4
"""Threads that read; together with what writes fewer than the connections of a pool."""

BATCH = 512
"""The most works in one commit, so that the first of them does not wait for an endless queue."""


COMMIT_WITHIN = 0.25
"""Seconds after which a commit runs no more works: other processes, which wait for it, give up after some time."""


class Store:
    """The database of a broker, SQLite or PostgreSQL, migrated to the present schema.

    Raises:
        SettingsError: the URL is wrong.
        StoreError: the database cannot be reached, or belongs to a newer broker.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self._clock = clock
        self.engine = make_engine(url)
        migrate(self.engine)
        self._items: queue.SimpleQueue[Item[Any] | None] = queue.SimpleQueue()
        self._alone = threading.Lock()
        self._crowded = Crowded()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()
        self._readers = ThreadPoolExecutor(PAGE_READERS, "store-pages")
        self._brief = self._turn() if is_sqlite(self.engine) else self._flow()
        self.lookers = ThreadPoolExecutor(CALL_READERS, "store-calls")
        self._closed = False

    async def write(self, work: Callable[[Transaction], T], *, durable: bool = False) -> T:
        """The same as `submit`, awaited: one that is cancelled does not hear whether it was written."""
        return await self.submit(work, durable=durable)

    def submit(
        self, work: Callable[[Transaction], T], *, durable: bool = False, within: float | None = None
    ) -> asyncio.Future[T]:
        """Run `work` in the next commit and return what it returned.

        Args:
            durable: synced to disk before this returns; otherwise it survives a crash of the process, and a power cut
                may lose the last moments.
            within: for a brief work, which uses the driver alone: seconds until its commit begins, so that others can
                share it. It may run in the loop's thread then, else it runs in the writer's; on PostgreSQL it may run
                twice, and what it did outside of the store the first time does not count.

        Raises:
            StoreError: it could not be written; nothing of it was.
            Exception: whatever `work` raised; nothing of it was written.
        """
        if self._closed:
            raise StoreError("The store is closed: nothing was written.")
        loop = asyncio.get_running_loop()
        item = Item(work, durable, loop.create_future(), loop)
        if within is None or durable or not self._brief.take(item, within):
            self._items.put(item)
        return item.future

    async def read(self, query: Callable[[Session], T]) -> T:
        """Run `query` on a connection of its own, in a thread.

        Raises:
            StoreError: the database cannot be read.
        """
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_now, query)

    async def look_up(self, query: Callable[[Session], T]) -> T:
        """The same for what a call waits for: short queries, in threads that no page or search can take.

        Raises:
            StoreError: the database cannot be read.
        """
        return await asyncio.get_running_loop().run_in_executor(self.lookers, self.read_now, query)

    def read_now(self, query: Callable[[Session], T]) -> T:
        """The same in the calling thread, for commands."""
        try:
            with self.engine.connect() as connection, connection.begin(), Connected(connection) as session:
                return query(session)
        except (SQLAlchemyError, self.engine.dialect.loaded_dbapi.Error) as error:
            raise StoreError(f"The store could not be read: {first_line(error)}.") from error

    def now(self) -> datetime:
        """The present instant, as transactions are given it."""
        return self._clock.now()

    def close(self) -> None:
        """Write what is queued, end the thread and close every connection."""
        if not self._closed:
            self._closed = True
            self._brief.close()
            self._items.put(None)
            self._thread.join()
            for threads in (self._readers, self.lookers):
                threads.shutdown()
            self.engine.dispose()

    def _turn(self) -> Turn:
        commits = Commits(self.engine, self._clock, self._alone, self._crowded, wait=False)
        return Turn(commits, self._items.put, self._checkpoint)

    def _flow(self) -> Flow:
        from broker.store.flow import Flow  # noqa: PLC0415 - with the driver, which takes 9 MiB that SQLite needs not

        return Flow(self.engine, self._clock, self._crowded, self._items.put, self._readers)

    def _checkpoint(self) -> None:
        self._readers.submit(checkpoint, self.engine)

    # -- in the writer's thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        commits = Commits(self.engine, self._clock, self._alone, self._crowded, within=COMMIT_WITHIN)
        left: list[Item[Any]] = []
        while (first := left[0] if left else self._items.get()) is not None:
            items = [first, *left[1:], *self._present()]
            left = commit(commits, items, self._present)
            settle(items[: len(items) - len(left)])
        commits.close()

    def _present(self) -> list[Item[Any]]:
        """What waits by now."""
        items: list[Item[Any]] = []
        while len(items) < BATCH:
            try:
                item = self._items.get_nowait()
            except queue.Empty:
                break
            if item is None:
                self._items.put(None)  # the end, which nothing follows
                break
            items.append(item)
        return items
