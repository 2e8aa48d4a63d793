"""A broker before the servers that PyPI has, for the whole run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tests.clients.matrix.stage import Broker, broker
from tests.clients.servers import HOLD, ready_policy
from tests.clients.website import Website, website
from tests.gateway.scene import Agent, Repository, Scene, playing
from tests.servers.scripted import Scripted
from tests.warm import warm

collect_ignore = ["node"]  # these need Node: `make test-clients` names their folder, and then they are collected


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The repository behind mcp-server-git."""
    return Repository(tmp_path_factory.mktemp("git") / "repository")


@pytest.fixture
async def site() -> AsyncGenerator[Website]:
    """A website of the test's own."""
    async with website() as made:
        yield made


@pytest.fixture(scope="session")
def servers(repository: Repository) -> dict[str, dict[str, Any]]:
    """Every server, as the broker's settings have it."""
    # Where it finds Node, the fetch server has npm install a parser of pages when it is first asked for one.
    fetch: dict[str, Any] = {"command": warm("mcp_server_fetch", "--allow-private-ips"), "env": {"PATH": ""}}
    return {
        "git": {
            "command": warm("mcp_server_git", "--repository", str(repository.path)),
            "policy": ready_policy("git"),
        },
        "time": {
            "command": warm("mcp_server_time", "--local-timezone", "Europe/Berlin"),
            "policy": ready_policy("time"),
        },
        "fetch": {**fetch, "policy": ready_policy("fetch")},
        "fetch-held": {**fetch, "policy": HOLD},
        "fetch-public": {**fetch, "command": fetch["command"][:-1], "policy": ready_policy("fetch")},
    }


@pytest.fixture(scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory, servers: dict[str, dict[str, Any]]) -> AsyncGenerator[Scene]:
    """The broker."""
    async with playing(tmp_path_factory.mktemp("broker"), servers) as made:
        yield made


@pytest.fixture(scope="session")
async def agent(scene: Scene) -> Agent:
    """A grant on every server, for the whole run: its modern requests to a server share one process."""
    return await scene.agent()


@pytest.fixture
async def brokers(
    new_store_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory, server: Scripted
) -> AsyncGenerator[tuple[Broker, Broker]]:
    """Two for the matrix, of which the second is stopped and killed. Each is one process on SQLite, or two on
    PostgreSQL, with agents at one of them and people at the other."""

    def one() -> AbstractAsyncContextManager[Broker]:
        url, folder = new_store_url(), tmp_path_factory.mktemp("agents")
        desk = tmp_path_factory.mktemp("people") if url.startswith("postgresql") else None
        return broker(folder, url, server, desk=desk)

    async with one() as steady, one() as restarted:
        yield steady, restarted
