"""One commit: what waits together goes into one transaction, with the audit rows that it records.

What belongs here: transactions and the audit chain they carry. What does not: which works go together, and in which
thread (`broker.store.writer`); what a work does, which is given as a function of a `Transaction`.

A commit locks the chain head first, so transactions of all processes run one after the other: a work may read, decide
and write without any race, on either database.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from math import inf
from threading import Lock
from time import monotonic
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from broker.domain.clock import Clock
from broker.errors import StoreError
from broker.store import chain
from broker.store.engine import driver, first_line, is_sqlite
from broker.store.slots import Crowded
from broker.store.transaction import Batch, Transaction

log = logging.getLogger(__name__)

T = TypeVar("T")

NEWS = "broker_approvals"
"""The channel on which PostgreSQL tells who listens that something happened to approvals."""


class Busy(Exception):
    """Somebody else writes to the database, and this commit does not wait for that: nothing was run."""


@dataclass(slots=True, eq=False)
class Item(Generic[T]):
    """A work that waits for its commit, and who waits for it.

    Args:
        durable: whether the commit has to be synced to disk.
    """

    work: Callable[[Transaction], T]
    durable: bool
    future: asyncio.Future[T]
    loop: asyncio.AbstractEventLoop
    result: T | None = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Tell what came of it."""
        if self.future.done() or self.loop.is_closed():
            return  # the caller went away; what was committed stays
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # pyright: ignore[reportArgumentType]


class Commits:
    """Commits one after the other, for one thread.

    On SQLite its connection stays open: opening one costs more than a commit.

    Args:
        alone: held by whoever of this process writes to SQLite, which itself would have the others look again and
            again.
        crowded: is told of counters without room.
        wait: whether to wait until nobody else writes; one that does not wait leaves checkpoints to others, too.
        within: seconds after which no more works are run.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        alone: Lock,
        crowded: Crowded,
        *,
        wait: bool = True,
        within: float = inf,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._crowded = crowded
        self._alone = alone
        self._wait = wait
        self._within = within
        self._kept: Connection | None = None
        self._durable: bool | None = None

    def commit(self, items: list[Item[Any]], late: Callable[[], Sequence[Item[Any]]] = tuple) -> list[Item[Any]]:
        """Run the works of `items` in one transaction; each then has its result or its error.

        Args:
            late: gives what came while this waited for other processes, to go along and be added to `items`.

        Returns:
            The last of `items`, for which there was no time: they go first into the next commit.

        Raises:
            Busy: only where this does not wait.
        """
        left: list[Item[Any]] = []
        try:
            with self._transaction(durable=any(item.durable for item in items)) as connection:
                head = chain.lock(connection)
                if not is_sqlite(self._engine):  # there it would be too late to have it synced
                    items += late()
                    if not any(item.durable for item in items):
                        driver(connection).execute("SET LOCAL synchronous_commit = off")
                now = self._clock.now()
                batch = Batch(head, now)
                until = monotonic() + self._within
                for run, item in enumerate(items):
                    if monotonic() > until:
                        left = items[run:]
                        break
                    _run_work(item, Transaction(connection, now, self._crowded), batch)
                with nullcontext() if is_sqlite(self._engine) else driver(connection).pipeline():  # one round trip
                    chain.append(connection, batch.rows, batch.contents)
                    if not is_sqlite(self._engine) and any(row["approval_id"] is not None for row in batch.rows):
                        driver(connection).execute(f"NOTIFY {NEWS}")
        except Busy:
            raise
        except BaseException as error:
            # Whatever it was, nothing was committed.
            for item in items:
                item.error = unwritten(error)
            raise
        return left

    def close(self) -> None:
        """Close the connection, if one is open."""
        kept, self._kept, self._durable = self._kept, None, None
        if kept is not None:
            kept.close()

    def of_database(self, error: BaseException) -> bool:
        """Whether SQLAlchemy or the driver below it raised this."""
        return _of_database(error, self._engine)

    def _transaction(self, *, durable: bool) -> AbstractContextManager[Connection]:
        return self._of_sqlite(durable=durable) if is_sqlite(self._engine) else self._engine.begin()

    # -- SQLite -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _of_sqlite(self, *, durable: bool) -> Generator[Connection]:
        if not self._alone.acquire(blocking=self._wait):
            raise Busy
        try:
            with self._by_the_driver(durable=durable) as connection:
                yield connection
        finally:
            self._alone.release()

    @contextmanager
    def _by_the_driver(self, *, durable: bool) -> Generator[Connection]:
        """SQLAlchemy's own way to a commit costs several times what the database does."""
        connection = self._connection()
        below = driver(connection)
        if durable is not self._durable:
            below.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")  # outside of a transaction only
            self._durable = durable
        try:
            below.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not self._wait and error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise Busy from None
            raise
        try:
            yield connection
            if connection.in_transaction():  # a session joined it
                connection.commit()
            else:
                below.execute("COMMIT")
        except BaseException:
            self._drop(connection)
            raise

    def _connection(self) -> Connection:
        if self._kept is None:
            self._kept = self._engine.connect()
            if not self._wait:
                for pragma in ("busy_timeout=0", "wal_autocheckpoint=0"):
                    driver(self._kept).execute(f"PRAGMA {pragma}").fetchall()
        return self._kept

    def _drop(self, connection: Connection) -> None:
        """End the transaction and the connection with it: whatever is wrong with it, the next commit has another."""
        self._kept = self._durable = None
        connection.invalidate()
        connection.close()


def commit(
    commits: Commits, items: list[Item[Any]], late: Callable[[], Sequence[Item[Any]]] = tuple
) -> list[Item[Any]]:
    """The same, for who has to live on whatever happens: a failure is logged, and told to who waits for an item.

    Raises:
        Busy: as `Commits.commit`.
    """
    try:
        return commits.commit(items, late)
    except Busy:
        raise
    except Exception as error:
        log.error("A commit failed: %s", first_line(error), exc_info=None if commits.of_database(error) else error)
        return []


def settle(items: Sequence[Item[Any]]) -> None:
    """Tell what came of `items`, each in its own loop, from any thread."""
    for loop in {item.loop for item in items}:
        mine = [item for item in items if item.loop is loop]
        try:
            loop.call_soon_threadsafe(lambda mine=mine: [item.settle() for item in mine])
        except RuntimeError:
            continue  # that loop is closed; nobody waits there


def _run_work(item: Item[Any], transaction: Transaction, batch: Batch) -> None:
    try:
        item.result = item.work(transaction)
        transaction.accept(batch)
    except Exception as error:
        if not transaction.refuse():
            raise  # what the works before did is lost, and they must hear it
        item.error = unwritten(error) if _of_database(error, transaction.connection) else error


def _of_database(error: BaseException, place: Engine | Connection) -> bool:
    return isinstance(error, (SQLAlchemyError, place.dialect.loaded_dbapi.Error))


def unwritten(error: BaseException) -> StoreError:
    """What who waits for a work is told of an error of the database."""
    return StoreError(f"The store could not be written: {first_line(error)}.")
