"""A server's own connection to PostgreSQL: news, the lock that it lives by, the database's time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest
import sqlalchemy as sa

from broker.approvals.journal import Journal
from broker.approvals.processes import Process
from broker.domain.audit import Event, Kind
from broker.domain.canonical import Keyring
from broker.domain.clock import SystemClock
from broker.errors import StoreError
from broker.store import processes
from broker.store.engine import make_engine
from broker.store.presence import Presence
from broker.store.writer import Store
from tests.clock import NOON
from tests.servers import BOUND

pytestmark = pytest.mark.parametrize("new_store_url", ["postgresql"], indirect=True)

KEYRING = Keyring([b"a secret of the tests"])
HOUR, FREE = timedelta(hours=1), 1
BROKEN = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%clock_timestamp%' "
    "AND datname = current_database() AND pid <> pg_backend_pid()"
)


class Ear:
    """What one presence hears."""

    def __init__(self, store: Store) -> None:
        self.heard = asyncio.Event()
        self.clock = SystemClock()
        self.presence = Presence(store.engine, self.heard.set, self.clock)

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[Presence]:
        await self.presence.begin()
        running = asyncio.ensure_future(self.presence.run())
        yield self.presence
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    async def hears(self) -> None:
        await asyncio.wait_for(self.heard.wait(), BOUND)
        self.heard.clear()


async def note(store: Store, approval_id: str) -> None:
    await store.write(lambda tx: tx.record(Event(kind=Kind.APPROVAL_LATE, actor="a", approval_id=approval_id)))


async def lives(store: Store, process: str, lock: int | None) -> None:
    await store.write(lambda tx: processes.beat(tx.session, process, NOON + HOUR, lock, []))


async def someone_is_found_dead(store: Store) -> bool:
    return await store.write(lambda tx: processes.forget_dead(tx.session, "me", NOON))


async def test_it_hears_of_approvals_also_after_its_connection_broke(store: Store) -> None:
    ear = Ear(store)
    async with ear.listening() as presence:
        await note(store, "apr_1")
        await ear.hears()
        assert presence.settled
        await store.write(lambda tx: tx.connection.execute(BROKEN))
        await ear.hears()  # of what it may have missed
        assert (presence.settled, presence.trouble) == (False, None)
        await lives(store, "other", FREE)
        await store.write(lambda tx: Process(KEYRING, presence).look_around(tx, Journal(KEYRING, [])))
        assert await someone_is_found_dead(store), "who was cut off itself takes nobody for dead"
        await note(store, "apr_2")
        await ear.hears()


async def test_a_process_is_dead_when_its_connection_is_gone_or_its_lease_is_over(store: Store) -> None:
    await lives(store, "me", None)
    await lives(store, "other", None)
    assert not await someone_is_found_dead(store)
    ear = Ear(store)
    async with ear.listening() as presence:
        await lives(store, "other", presence.lock)
        assert not await someone_is_found_dead(store)
    async with asyncio.timeout(BOUND):
        while not await someone_is_found_dead(store):
            pass
    await lives(store, "other", None)
    assert await store.write(lambda tx: processes.forget_dead(tx.session, "me", NOON + HOUR))


async def test_a_clock_that_is_wrong_is_corrected_by_the_databases(store: Store) -> None:
    ear = Ear(store)
    ear.clock.ahead = HOUR
    async with ear.listening():
        assert abs(ear.clock.ahead) < timedelta(seconds=1)


async def test_a_database_that_is_not_there_is_a_sentence(store: Store) -> None:
    gone = make_engine("postgresql://nobody@/gone?host=/nowhere")
    with pytest.raises(StoreError, match=r"^The store cannot be opened: .+\.$"):
        await Presence(gone, lambda: None, SystemClock()).begin()
