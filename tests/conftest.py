"""What every test may ask for: the loop, a clock, a database, servers, a broker; and the rule that CI does not skip.

What belongs here: fixtures that more than one folder of tests uses. What does not: anything of one folder alone.
"""

from __future__ import annotations

import gc
import itertools
import os
import shutil
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from broker.store.writer import Store
from tests.clock import MovableClock
from tests.gateway.scene import HOLD_ACT, Agent, Scene, playing
from tests.postgres import PostgresServer, running_postgres
from tests.servers import feature_http
from tests.servers.scripted import Scripted, scripted

settings.register_profile(
    "broker", deadline=None, max_examples=60
)  # properties are about what is computed, not about a busy machine
settings.load_profile("broker")


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
    """The url of the migrated database that every `store_url` on PostgreSQL is a copy of."""
    url = postgres.new_database()
    Store(url, MovableClock()).close()
    return url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The migrated file that every `store_url` on SQLite is a copy of."""
    path = tmp_path_factory.mktemp("template") / "broker.db"
    Store(f"sqlite:///{path}", MovableClock()).close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def new_store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Makes a fresh database with the tables and gives its url; the test runs once on each engine."""
    if request.param == "sqlite":
        numbers = itertools.count()

        def new_file() -> str:
            path = tmp_path / f"broker{next(numbers) or ''}.db"
            shutil.copy(request.getfixturevalue("sqlite_template"), path)  # with its mode
            return f"sqlite:///{path}"

        yield new_file
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    urls = list[str]()

    def new_database() -> str:
        urls.append(server.new_database(template=request.getfixturevalue("postgres_template")))
        return urls[-1]

    yield new_database
    for url in urls:
        server.drop_database(url)


@pytest.fixture
def store_url(new_store_url: Callable[[], str]) -> str:
    """The url of such a database."""
    return new_store_url()


@pytest.fixture
def store(store_url: str, clock: MovableClock) -> Iterator[Store]:
    """A store on the test's own database, on the clock that the test moves."""
    store = Store(store_url, clock)
    yield store
    store.close()


# -- servers, and brokers before them ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def effects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the feature server's tools write to."""
    path = tmp_path_factory.mktemp("effects") / "lines"
    path.touch()
    return path


@pytest.fixture(scope="session")
async def features_url(effects: Path) -> AsyncGenerator[str]:
    """The feature server over HTTP."""
    async with feature_http(effects) as url:
        yield url


@pytest.fixture(scope="session")
async def scripted_server() -> AsyncGenerator[Scripted]:
    """The one behind `small`."""
    async with scripted() as made:
        yield made


@pytest.fixture(scope="session")
async def scripted_scene(tmp_path_factory: pytest.TempPathFactory, scripted_server: Scripted) -> AsyncGenerator[Scene]:
    """A broker before it, for the whole run."""
    upstreams = {"one": {"url": scripted_server.url, "policy": HOLD_ACT}}
    async with playing(tmp_path_factory.mktemp("small"), upstreams) as made:
        yield made


@pytest.fixture
def server(scripted_server: Scripted) -> Scripted:
    """A server whose answers the test writes; as if new."""
    scripted_server.reset()
    return scripted_server


@pytest.fixture
def small(scripted_scene: Scene, server: Scripted) -> Scene:
    """A broker before `server`, as the upstream `one`: `act` is held, all else is allowed."""
    return scripted_scene


@pytest.fixture
async def agent(scene: Scene) -> Agent:
    """A grant of the test's own on every upstream of `scene`, which is the broker of the test's folder."""
    return await scene.agent()


# -- quickly ----------------------------------------------------------------------------------------------------------


def pytest_collection() -> None:
    """What is imported and collected stays until the end: looking for garbage in it takes a third of the collection."""
    gc.disable()


def pytest_collection_finish() -> None:
    """From here on there is garbage, and it is looked for among what the tests make alone."""
    gc.freeze()
    gc.enable()


# -- CI ---------------------------------------------------------------------------------------------------------------


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
