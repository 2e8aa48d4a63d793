"""One server over each transport, and one broker before it whose policy allows everything."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import pytest

from tests.differential.over_stdio import command
from tests.gateway.scene import Agent, Scene, playing
from tests.servers import ROOT
from tests.servers.every.over_http import EveryHttp, every_http
from tests.servers.every.speech import Style

ALLOW: dict[str, Any] = {"default": "allow"}


@pytest.fixture(scope="package")
async def every_server() -> AsyncGenerator[EveryHttp]:
    """The one at a URL, which both ways lead to."""
    async with every_http() as made:
        yield made


@pytest.fixture(scope="package")
async def scene(tmp_path_factory: pytest.TempPathFactory, every_server: EveryHttp) -> AsyncGenerator[Scene]:
    """A broker before the server over HTTP and over stdio in each style."""
    upstreams: dict[str, Any] = {
        "http": {"url": every_server.url, "policy": ALLOW},
        "hiding": {"url": every_server.url, "policy": {**ALLOW, "hide": ["hidden"]}},
    }
    for style in Style:
        started = {"command": command(style), "env": {"PYTHONPATH": str(ROOT)}}
        upstreams[f"stdio-{style}"] = {**started, "policy": ALLOW}
    async with playing(tmp_path_factory.mktemp("differential"), upstreams) as made:
        yield made


@pytest.fixture(scope="package")
async def shared_agent(scene: Scene) -> Agent:
    """A grant for tests that need no process."""
    return await scene.agent()


@pytest.fixture
async def http() -> AsyncGenerator[aiohttp.ClientSession]:
    """The connections of a test's clients."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session
