"""What every test may ask for: the event loop, a clock, a database; and the rule that CI does not skip.

What belongs here: fixtures that more than one folder of tests uses. What does not: anything of one folder alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clock import MovableClock
from tests.postgres import PostgresServer, running_postgres


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One asyncio loop for the whole run, so that fixtures of any scope may be async."""
    return "asyncio"


@pytest.fixture
def clock() -> MovableClock:
    """A clock that stands still until the test advances it."""
    return MovableClock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real server, started by the first test that needs one."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """The url of the database that every `store_url` is a copy of."""
    return postgres.new_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The url of a fresh database of the test's own; the test runs once on each engine."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'broker.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.new_database(template=request.getfixturevalue("postgres_template"))
    yield url
    server.drop_database(url)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in CI that left something out: what is skipped there is tested nowhere."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or reporter is None:
        return
    left_out = sum(len(reporter.stats.get(outcome, ())) for outcome in ("skipped", "xfailed", "xpassed"))
    if left_out:
        reporter.ensure_newline()
        reporter.write_line(f"{left_out} tests were left out, which CI counts as a failure", red=True)
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
