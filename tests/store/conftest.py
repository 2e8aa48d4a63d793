"""Databases without tables, for what makes the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.store.writer import Store
from tests.clock import MovableClock
from tests.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The url of a database in which there is nothing yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.new_database()
    yield url
    server.drop_database(url)


@pytest.fixture
def new_store(postgres: PostgresServer, postgres_template: str, clock: MovableClock) -> Iterator[Callable[[], Store]]:
    """Makes a store on a fresh database of PostgreSQL."""
    stores: list[Store] = []

    def new() -> Store:
        stores.append(Store(postgres.new_database(postgres_template), clock))
        return stores[-1]

    yield new
    for store in stores:
        store.close()
        postgres.drop_database(store.engine.url.render_as_string())


@pytest.fixture
def remote(new_store: Callable[[], Store]) -> Store:
    """A store on PostgreSQL."""
    return new_store()
