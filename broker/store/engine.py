"""Opening a database: engines for SQLite and PostgreSQL, file modes, the lock of a running server.

What belongs here: what differs between the two databases. What does not: tables and queries.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from broker.errors import SettingsError, StoreError, StoreLocked

PATIENCE = 10.0
"""Seconds that one process waits for another to be done with a SQLite file."""

_creating = Lock()

WRITER = "broker_writer"
"""Execution option of the connection that writes: its transactions take SQLite's write lock when they begin."""


MIGRATING = 0x42524F4B
"""A PostgreSQL advisory lock (per database): any number that all brokers agree on."""


def make_engine(url: str) -> Engine:
    """An engine for `sqlite:///path` or `postgresql://…`.

    Raises:
        SettingsError: the URL is of no kind that the broker can use.
        StoreError: the folder of a SQLite file cannot be written.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise SettingsError(f"store.url: {url!r} is not a database URL such as sqlite:///broker.db") from error
    match parsed.get_backend_name():
        case "sqlite" if parsed.database and parsed.database != ":memory:":
            return _sqlite(Path(parsed.database))
        case "postgresql":
            return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, pool_size=8)
        case _:
            raise SettingsError(f"store.url: {url!r} is neither sqlite:///PATH nor postgresql://…")


def sqlite_path(engine: Engine) -> Path | None:
    """The database file, or None when the store is not SQLite."""
    return Path(engine.url.database) if is_sqlite(engine) and engine.url.database else None


def first_line(error: BaseException) -> str:
    """What a database error says, without the statement and its values."""
    text = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")


def is_sqlite(engine: Engine) -> bool:
    """Whether the engine's database is SQLite."""
    return engine.dialect.name == "sqlite"


def driver(connection: Connection) -> Any:
    """The driver's own connection below `connection`."""
    return connection.connection.dbapi_connection


def in_transaction(connection: Connection) -> bool:
    """Whether the transaction is still there and can be committed: the database may have ended it after an error.

    SQLite does so when the disk is full, PostgreSQL lets every error spoil what has no savepoint. Neither tells at the
    commit, which would then do nothing and look good.
    """
    below = driver(connection)
    if connection.dialect.name == "sqlite":
        return below.in_transaction
    return below.info.transaction_status.name == "INTRANS"


def checkpoint(engine: Engine) -> None:
    """Bring what SQLite's log has into the file, as far as that goes; readers and writers go on meanwhile."""
    with suppress(SQLAlchemyError, sqlite3.Error), engine.connect() as connection:  # if not now, the next one will
        driver(connection).execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _sqlite(path: Path) -> Engine:
    _create(path)
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": PATIENCE, "check_same_thread": False})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _create(path: Path) -> None:
    # A file that is there is not even looked into: closing it would drop the locks that SQLite holds on it elsewhere in
    # this process (they are POSIX locks), and another process would take the log away from under it.
    with _creating:
        try:
            # 0600 from the first byte: whoever can read the store is its administrator.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError as error:
            if not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
                raise StoreError(f"The store {path} cannot be opened: it is no file to read and write.") from error
        except OSError as error:
            raise StoreError(f"The store {path} cannot be opened: {error.strerror}.") from error


def _configure(connection: sqlite3.Connection, _record: Any) -> None:
    """Settings of one connection.

    What is erased is overwritten in the file (`secure_delete`); the log beside it keeps old pages until it starts anew,
    and PostgreSQL keeps them until it vacuums. What lingers of sealed arguments is encrypted.
    """
    connection.isolation_level = None  # transactions begin in `_begin`, not where the driver guesses
    _write_ahead(connection)
    for pragma in ("synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # Of two that change the mode of a new file at once SQLite refuses one without any waiting.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


def _begin(connection: Connection) -> None:
    if driver(connection).in_transaction:  # what commits began it already (`broker.store.commits`)
        return
    immediate = connection.get_execution_options().get(WRITER, False)
    driver(connection).execute("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def serve_lock(url: str) -> Generator[None]:
    """Hold the sole right to serve from a SQLite file; other processes may still read and write it.

    Any number of servers may share a PostgreSQL database.

    Raises:
        SettingsError: the URL is wrong.
        StoreError: the file cannot be made.
        StoreLocked: another server holds it.
    """
    engine = make_engine(url)
    path = sqlite_path(engine)
    engine.dispose()
    with _file_lock(path) if path is not None else nullcontext():
        yield


@contextmanager
def _file_lock(path: Path) -> Generator[None]:
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreLocked(
                f"Another `broker serve` already uses {path}. Stop it, or give this one another store.url: "
                "only a PostgreSQL database can be shared."
            ) from error
        yield
    finally:
        os.close(descriptor)
