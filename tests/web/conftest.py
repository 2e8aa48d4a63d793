"""A web application on a real store, and people with every role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clock import MovableClock
from tests.sqlite import new_file
from tests.web.desk import Desk, close_desk, open_desk


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A database of the test's own, where the engine makes no difference."""
    return new_file(tmp_path / "broker.db")


@pytest.fixture
async def desk(store_url: str, clock: MovableClock) -> AsyncIterator[Desk]:
    """A desk of the test's own, closed behind it."""
    desk = await open_desk(store_url, clock)
    yield desk
    await close_desk(desk)
