"""The service on a store of the test's own, with people, a grant."""

from __future__ import annotations

from collections.abc import Iterator

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
