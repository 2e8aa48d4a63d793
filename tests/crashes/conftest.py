"""A house on either engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest

from broker.domain.clock import SystemClock
from broker.store.writer import Store
from tests.cli.conftest import Shell
from tests.crashes.house import House
from tests.servers.scripted import Scripted


@pytest.fixture
async def house(store_url: str, tmp_path: Path, server: Scripted) -> AsyncGenerator[House]:
    """A furnished one, without a broker yet."""
    store = Store(store_url, SystemClock())
    try:
        async with aiohttp.ClientSession() as http:
            house = House(Shell(tmp_path), store, server, http)
            await house.furnish(store_url)
            yield house
    finally:
        store.close()
