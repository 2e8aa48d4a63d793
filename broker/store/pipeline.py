"""A connection to PostgreSQL on which a whole transaction is sent at once, and which never makes an event loop wait.

What belongs here: libpq's pipeline mode (PostgreSQL documentation, 32.5). What does not: what is sent
(`broker.store.drafts`), and when (`broker.store.flow`).
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from sqlalchemy import Engine

from broker.store.drafts import STATEMENTS

_SETTINGS = b"""
    SET client_encoding = 'UTF8';
    SET plan_cache_mode = force_generic_plan;
    SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED
"""
"""What is sent is UTF-8, whatever the database or the environment say of encodings; plans do not depend on values; each
statement sees what was committed before it."""

_JSONB = 3802
"""The type of values (pg_type.oid)."""

_AGAIN = 10
"""Milliseconds."""

_DONE = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)


class Pipeline:
    """One connection, opened now. All methods raise the driver's errors; after one the connection is of no use.

    Raises:
        SQLAlchemyError: it cannot be opened; or an error of the driver.
    """

    def __init__(self, engine: Engine) -> None:
        pooled = engine.raw_connection()
        self._connection: Any = pooled.driver_connection
        pooled.detach()
        try:
            self._below = _prepared(self._connection)
            self._watched = os.dup(self._below.socket)  # the driver closes its own as soon as the connection is lost
        except BaseException:
            self._connection.close()
            raise
        self.failed: str | None = None
        self._poll = select.poll()  # which, unlike select, has no bound on the numbers of descriptors
        self._poll.register(self._watched, select.POLLIN)

    def fileno(self) -> int:
        """What a loop watches."""
        return self._watched

    def send(self, statements: Sequence[tuple[str, bytes | None]]) -> None:
        """Send a transaction: it is committed when all of them succeeded, else nothing of it is done."""
        self.failed = None
        for text, value in statements:
            self._below.send_query_prepared(_NAMES[text], [] if value is None else [value])
        self._below.pipeline_sync()

    def sent(self) -> bool:
        """Write as much as can be written; returns whether that is all."""
        return not self._below.flush()

    def heard(self) -> None:
        """Take in what came."""
        self._below.consume_input()

    def check(self) -> None:
        """Notice what came while nothing was under way: above all, that the server closed the connection."""
        while self._came(0):
            self.heard()

    def wait(self) -> None:
        """Write what is to be written, and return when something came."""
        while not self.sent():
            if self._came(_AGAIN):
                return
        self._came(None)

    def _came(self, within: float | None) -> bool:
        """Whether something does, within so many milliseconds."""
        return bool(self._poll.poll(within))

    def over(self) -> bool:
        """Whether the transaction that was sent is over, as far as was heard; then `failed` says how it ended."""
        while not self._below.is_busy():
            result = self._below.get_result()
            if self._below.status != ConnStatus.OK:
                raise psycopg.OperationalError(self.failed or self._below.get_error_message())
            if result is None:
                continue  # the end of one statement
            if result.status == ExecStatus.PIPELINE_SYNC:
                return True
            if result.status not in _DONE and self.failed is None:
                self.failed = result.get_error_message()
        return False

    def close(self) -> None:
        """Close it; a transaction that is under way may be committed or not."""
        self._connection.close()
        os.close(self._watched)


_NAMES = {text: b"broker_%d" % number for number, text in enumerate(STATEMENTS)}


def _prepared(connection: psycopg.Connection) -> PGconn:
    connection.rollback()
    below = connection.pgconn
    _check(below.exec_(_SETTINGS))
    for text, values in STATEMENTS.items():
        _check(below.prepare(_NAMES[text], text.encode(), [_JSONB] * values))
    below.nonblocking = 1
    below.enter_pipeline_mode()
    return below


def _check(result: PGresult) -> None:
    if result.status not in _DONE:
        raise psycopg.OperationalError(result.get_error_message())
