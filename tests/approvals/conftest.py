"""The service on a store of the test's own, with people, a grant, and a feed that nobody runs unless the test does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from broker.store.writer import Store
from tests.approvals.desk import Desk
from tests.clock import MovableClock


@pytest.fixture
async def desk(store: Store, clock: MovableClock) -> Desk:
    """A desk with Alice, Bob, Carol and Olga, who owns the grant."""
    return await Desk.open(store, clock)


@pytest.fixture
def other_store(store_url: str, clock: MovableClock) -> Iterator[Store]:
    """A second store on the same database, as another process has it."""
    other = Store(store_url, clock)
    yield other
    other.close()


@pytest.fixture
async def feeding(desk: Desk) -> AsyncIterator[None]:
    """While the test runs, the desk's feed looks and tells."""
    task = asyncio.ensure_future(desk.feed.run())
    await desk.feed_started()
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
