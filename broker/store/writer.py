"""The store: one group-committing writer per process, and reads beside it.

What belongs here: transactions and the audit chain they carry. What does not: what a transaction does; that is given as
a function of a `Transaction`.

Everything that waits when the writer is free goes into one transaction. It locks the chain head first, so transactions
of all processes run one after the other: a function may read, decide and write without any race, on either database.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from broker.domain.audit import Event, Head, Row, chained
from broker.domain.clock import Clock
from broker.errors import StoreError
from broker.store import chain
from broker.store.engine import WRITER, driver, first_line, in_transaction, is_sqlite, make_engine
from broker.store.schema import migrate

log = logging.getLogger(__name__)

T = TypeVar("T")

PAGE_READERS, CALL_READERS = 4, 4
"""Threads that read; together fewer than the connections of a pool."""

BATCH = 512
"""The most works in one commit, so that the first of them does not wait for an endless queue."""


NEWS = "broker_approvals"
"""The channel on which PostgreSQL tells who listens that something happened to approvals."""


class Transaction:
    """What a work is given: the present instant, the database, and the record.

    A work that raises leaves nothing behind; the others of its commit are not touched.
    """

    def __init__(self, connection: Connection, now: datetime) -> None:
        self.now = now
        self.connection = connection  # without a savepoint: for works that never raise once they wrote
        self._events: list[Event] = []
        self._contents: list[dict[str, Any]] = []
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """A session in this work's own savepoint. A work that only records does without one."""
        if self._session is None:
            self._session = Session(self.connection, join_transaction_mode="create_savepoint")
        return self._session

    def record(self, event: Event) -> None:
        """Append `event` to the audit chain when this work succeeds."""
        self._events.append(event)

    def keep(self, call_id: str, what: str, body: Any) -> None:
        """Keep `body`, JSON, beside the chain as the `arguments`, `result` … of a call."""
        self._contents.append({"call_id": call_id, "what": what, "body": body})

    def accept(self, batch: _Batch) -> None:
        """The work returned: its savepoint and its events join the commit."""
        rows = batch.chained(self._events)
        if self._session is not None:
            self._session.commit()
            self._session.close()
        batch.rows.extend(rows)
        batch.contents.extend(self._contents)

    def refuse(self) -> None:
        """The work raised: nothing of it stays."""
        if self._session is not None:
            self._session.rollback()
            self._session.close()


class _Batch:
    """What one commit appends after the end of the chain that it found."""

    def __init__(self, head: Head, now: datetime) -> None:
        self._found = head
        self._now = now
        self.rows: list[Row] = []
        self.contents: list[dict[str, Any]] = []

    @property
    def head(self) -> Head:
        """The end of the chain with the rows so far."""
        return Head(self.rows[-1].seq, self.rows[-1].digest) if self.rows else self._found

    def chained(self, events: Sequence[Event]) -> list[Row]:
        """The rows that `events` would become; what cannot be written raises here, for its own work alone."""
        rows: list[Row] = []
        head = self.head
        for event in events:
            row = chained(event, head.seq + 1, self._now, head.digest)
            head = Head(row.seq, row.digest)
            rows.append(row)
        return rows


@dataclass(slots=True)
class _Item(Generic[T]):
    work: Callable[[Transaction], T]
    durable: bool
    future: asyncio.Future[T]
    loop: asyncio.AbstractEventLoop
    result: T | None = None
    error: BaseException | None = None

    def settle(self) -> None:
        if self.future.done():
            return  # the caller went away; what was committed stays
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # pyright: ignore[reportArgumentType]


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
        self._writer = self.engine.execution_options(**{WRITER: True})
        self._items: queue.SimpleQueue[_Item[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()
        self._readers = ThreadPoolExecutor(PAGE_READERS, "store-pages")
        self.lookers = ThreadPoolExecutor(CALL_READERS, "store-calls")
        self._closed = False

    async def write(self, work: Callable[[Transaction], T], *, durable: bool = False) -> T:
        """The same as `submit`, awaited: one that is cancelled does not hear whether it was written."""
        return await self.submit(work, durable=durable)

    def submit(self, work: Callable[[Transaction], T], *, durable: bool = False) -> asyncio.Future[T]:
        """Run `work` in the next commit, in the writer's thread, and return what it returned.

        Args:
            durable: synced to disk before this returns; otherwise it survives a crash of the process, and a power cut
                may lose the last moments.

        Raises:
            StoreError: it could not be written; nothing of it was.
            Exception: whatever `work` raised; nothing of it was written.
        """
        if self._closed:
            raise StoreError("The store is closed: nothing was written.")
        loop = asyncio.get_running_loop()
        item = _Item(work, durable, loop.create_future(), loop)
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
            with Session(self.engine) as session:
                return query(session)
        except SQLAlchemyError as error:
            raise StoreError(f"The store could not be read: {first_line(error)}.") from error

    def now(self) -> datetime:
        """The present instant, as transactions are given it."""
        return self._clock.now()

    def close(self) -> None:
        """Write what is queued, end the thread and close every connection."""
        if not self._closed:
            self._closed = True
            self._items.put(None)
            self._thread.join()
            for threads in (self._readers, self.lookers):
                threads.shutdown()
            self.engine.dispose()

    # -- in the writer's thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        ending = False
        while not ending:
            items, ending = self._next_items()
            if items:
                try:
                    self._commit(items)
                except Exception as error:
                    # Whatever it was, nothing was committed, and this thread has to live on.
                    expected = _of_database(error, self.engine)
                    log.error("A commit failed: %s", first_line(error), exc_info=None if expected else error)
                    for item in items:
                        item.error = _unwritten(error)
                _settle(items)

    def _next_items(self) -> tuple[list[_Item[Any]], bool]:
        first = self._items.get()
        if first is None:
            return [], True
        items = [first]
        while len(items) < BATCH:
            try:
                item = self._items.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return items, True
            items.append(item)
        return items, False

    def _commit(self, items: Sequence[_Item[Any]]) -> None:
        durable = any(item.durable for item in items)
        with self._writer.connect() as connection:
            if is_sqlite(self.engine):  # a pragma works outside of a transaction only
                driver(connection).execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            with connection.begin():
                if not durable and not is_sqlite(self.engine):
                    driver(connection).execute("SET LOCAL synchronous_commit = off")
                head = chain.lock(connection)
                now = self._clock.now()
                batch = _Batch(head, now)
                for item in items:
                    _run_work(item, Transaction(connection, now), batch)
                chain.append(connection, batch.rows, batch.contents)
                if not is_sqlite(self.engine) and any(row.approval_id is not None for row in batch.rows):
                    driver(connection).execute(f"NOTIFY {NEWS}")


def _run_work(item: _Item[Any], transaction: Transaction, batch: _Batch) -> None:
    try:
        item.result = item.work(transaction)
        transaction.accept(batch)
    except Exception as error:
        transaction.refuse()
        if not in_transaction(transaction.connection):
            raise  # a full disk ends the whole transaction: what the works before did is lost, and they must hear it
        item.error = _unwritten(error) if _of_database(error, transaction.connection) else error


def _settle(items: Sequence[_Item[Any]]) -> None:
    for loop in {item.loop for item in items}:
        mine = [item for item in items if item.loop is loop]
        try:
            loop.call_soon_threadsafe(lambda mine=mine: [item.settle() for item in mine])
        except RuntimeError:
            continue  # that loop is closed; nobody waits there


def _of_database(error: Exception, place: Engine | Connection) -> bool:
    """Whether SQLAlchemy or the driver below it raised this."""
    return isinstance(error, (SQLAlchemyError, place.dialect.loaded_dbapi.Error))


def _unwritten(error: Exception) -> StoreError:
    return StoreError(f"The store could not be written: {first_line(error)}.")
