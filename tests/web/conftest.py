"""A web application on a real store, and people with every role."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.clock import MovableClock
from tests.web.desk import Desk, close_desk, open_desk


@pytest.fixture
async def desk(store_url: str, clock: MovableClock) -> AsyncIterator[Desk]:
    """A desk of the test's own, closed behind it."""
    desk = await open_desk(store_url, clock)
    yield desk
    await close_desk(desk)
