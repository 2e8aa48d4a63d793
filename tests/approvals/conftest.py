"""The service on a store of the test's own, with people, a grant."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator

import pytest

from broker.store.writer import Store
from tests.approvals.desk import Desk
from tests.approvals.office import Office, open_office
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
async def office(desk: Desk) -> AsyncGenerator[Office]:
    """A desk whose approvals are told on a board."""
    async with open_office(desk) as office:
        yield office
