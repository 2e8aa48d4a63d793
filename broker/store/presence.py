"""A server's own connection to PostgreSQL: it hears what others commit, its lock tells them that the server lives, and
it tells the database's time.

What belongs here: that connection, and making it anew. What does not: what is done about the news
(`broker.approvals.feed`) and about dead servers (`broker.approvals.processes`).

It has to reach the database itself: behind a pooler that gives each transaction another connection neither `LISTEN` nor
the lock would hold. While it is broken, news comes with the next look at the record, and the lease tells that the
server lives.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Engine

from broker.domain.clock import SystemClock
from broker.errors import StoreError
from broker.store.engine import first_line
from broker.store.writer import NEWS

log = logging.getLogger(__name__)

CHECK_EVERY = 10.0
"""Seconds between questions whether the connection works; the clock is compared then."""

RETRY_EVERY = 0.5
"""Seconds between attempts to make it anew."""

SETTLED_AFTER = 5.0
"""Seconds after which the other servers, whose connections broke at the same time as this one, have new ones too."""

TOLERATED = timedelta(milliseconds=20)
"""How far this machine's clock may be from the database's, beside the time of a round trip, before it is corrected."""

_ALIVE = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""How soon either end notices that the other's machine vanished."""

_GREET = sql.SQL(
    "LISTEN {}; SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
).format(sql.Identifier(NEWS))


class Presence:
    """The connection of one server, as long as it runs.

    Args:
        engine: of the store.
        hear: called when something happened to approvals, whoever committed it.
        clock: is corrected by the database's.
    """

    def __init__(self, engine: Engine, hear: Callable[[], None], clock: SystemClock) -> None:
        self.lock = secrets.randbits(62)
        self.trouble: str | None = None
        self._arguments: dict[str, Any] = {**_ALIVE, **engine.dialect.create_connect_args(engine.url)[1]}
        self._hear = hear
        self._clock = clock
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._locked = False
        self._settled_at = 0.0

    @property
    def settled(self) -> bool:
        """Whether a free lock of another server tells that it died: not soon after the database itself was away."""
        return self.trouble is None and monotonic() >= self._settled_at

    async def begin(self) -> None:
        """Connect, for the first time.

        Raises:
            StoreError: the database cannot be reached.
        """
        try:
            await self._connect()
        except psycopg.Error as error:
            raise StoreError(f"The store cannot be opened: {first_line(error)}.") from error

    async def run(self) -> None:
        """Listen until cancelled; a connection that breaks is made anew."""
        try:
            while True:
                try:
                    await self._listen(self._connection or await self._reconnect())
                except psycopg.Error as error:
                    broke = self._connection is not None  # then at once: meanwhile its lock is free
                    self._tell(first_line(error))
                    await self._hang_up()
                    await asyncio.sleep(0 if broke else RETRY_EVERY)
        finally:
            await self._hang_up()

    async def _listen(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while True:
            async for _ in connection.notifies(timeout=CHECK_EVERY if self._locked else RETRY_EVERY):
                self._hear()
            await self._check(connection)

    async def _reconnect(self) -> psycopg.AsyncConnection[Any]:
        connection = await self._connect()
        self._settled_at = monotonic() + SETTLED_AFTER
        self.trouble = None
        self._hear()  # of whatever happened meanwhile
        return connection

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        connection = await psycopg.AsyncConnection[Any].connect(**self._arguments, autocommit=True)
        try:
            await connection.execute(_GREET)
            await self._check(connection)
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        return connection

    async def _check(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Hold the lock, which an earlier connection may still have for a while; compare the clocks."""
        if not self._locked:
            cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (self.lock,))
            self._locked = (await cursor.fetchone() or (False,))[0]
        asked = datetime.now(UTC)
        found = await (await connection.execute("SELECT clock_timestamp()")).fetchone()
        answered = datetime.now(UTC)
        if found is not None:
            trip = answered - asked
            ahead = found[0] - asked - trip / 2
            if abs(ahead - self._clock.ahead) > TOLERATED + trip:
                self._clock.ahead = ahead

    async def _hang_up(self) -> None:
        self._locked = False
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    def _tell(self, why: str) -> None:
        if self.trouble is None:
            log.warning("PostgreSQL: %s. What other servers do is noticed within a second until it is back.", why)
        self.trouble = f"not listening: {why}"
