"""A web application on a real store, people with every role, and held calls to decide."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.web.desk import Desk, close_desk, open_desk


class StillClock:
    """Stands still until it is advanced."""

    def __init__(self) -> None:
        self.instant = datetime(2026, 7, 28, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.instant

    def advance(self, by: timedelta) -> None:
        self.instant += by

    async def sleep_until(self, instant: datetime) -> None:
        raise AssertionError("nothing here waits for the clock")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'broker.db'}"


@pytest.fixture
async def desk(store_url: str, clock: StillClock) -> AsyncIterator[Desk]:
    desk = await open_desk(store_url, clock)
    yield desk
    await close_desk(desk)
