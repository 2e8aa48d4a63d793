"""A broker before the servers from npm, for the whole run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.nodejs import find_node, find_server
from tests.clients.servers import ALLOW, HOLD, ready_policy
from tests.gateway.scene import Agent, Scene, playing
from tests.servers import http_process

EVERYTHING = "@modelcontextprotocol/server-everything"
FILESYSTEM = "@modelcontextprotocol/server-filesystem"


@pytest.fixture(scope="session")
def node() -> str:
    """The Node that everything here runs on."""
    return find_node().program


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the filesystem server may use."""
    return tmp_path_factory.mktemp("allowed")


@pytest.fixture(scope="session")
async def everything_url(node: str) -> AsyncGenerator[str]:
    """server-everything over HTTP."""
    loopback = str(Path(__file__).with_name("loopback.cjs"))
    async with http_process(node, "--require", loopback, find_server(EVERYTHING), "streamableHttp") as url:
        yield url


@pytest.fixture(scope="session")
def servers(node: str, folder: Path, everything_url: str) -> dict[str, dict[str, Any]]:
    """Every server, as the broker's settings have it."""
    everything = {"command": [node, find_server(EVERYTHING), "stdio"]}
    return {
        "everything-stdio": {**everything, "policy": ALLOW},
        "everything-http": {"url": everything_url, "policy": ALLOW},
        "held-stdio": {**everything, "policy": HOLD},
        "held-http": {"url": everything_url, "policy": HOLD},
        "filesystem": {"command": [node, find_server(FILESYSTEM), str(folder)], "policy": ready_policy("filesystem")},
    }


@pytest.fixture(scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory, servers: dict[str, dict[str, Any]]) -> AsyncGenerator[Scene]:
    """The broker."""
    async with playing(tmp_path_factory.mktemp("broker"), servers) as made:
        yield made


@pytest.fixture
async def agent(scene: Scene) -> Agent:
    """A grant of the test's own on every server."""
    return await scene.agent()
