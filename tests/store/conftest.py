"""Databases without tables, for what makes the tables."""

from __future__ import annotations

from collections.abc import Iterator
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
def remote(postgres: PostgresServer, postgres_template: str, clock: MovableClock) -> Iterator[Store]:
    """A store on PostgreSQL."""
    url = postgres.new_database(postgres_template)
    store = Store(url, clock)
    yield store
    store.close()
    postgres.drop_database(url)
