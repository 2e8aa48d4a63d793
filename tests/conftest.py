"""What every test may ask for: the loop, a clock, a database, servers, a broker; and what makes a run quick.

What belongs here: fixtures that more than one folder of tests uses. What does not: anything of one folder alone.
"""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from broker.store.writer import Store
from tests.clock import MovableClock
from tests.gateway.scene import HOLD_ACT, Agent, Scene, playing
from tests.postgres import MEMORY, PostgresServer, running_postgres, usable
from tests.servers import feature_http
from tests.servers.scripted import Scripted, scripted
from tests.sqlite import new_file

pytest_plugins = ["tests.left_out"]

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


@pytest.fixture(params=["sqlite", "postgresql"])
def new_store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Makes a fresh database with the tables and gives its url; the test runs once on each engine."""
    if request.param == "sqlite":
        numbers = itertools.count()
        yield lambda: new_file(tmp_path / f"broker{next(numbers) or ''}.db")
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


def pytest_configure() -> None:
    """What tests write is in memory if it fits: what a store syncs to a disk outlives no power cut of a test anyway."""
    if usable(MEMORY):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def pytest_collection() -> None:
    """What is imported and collected stays until the end: looking for garbage in it takes a third of the collection."""
    gc.disable()


def pytest_collection_finish() -> None:
    """From here on there is garbage, and it is looked for among what the tests make alone."""
    gc.freeze()
    gc.enable()
