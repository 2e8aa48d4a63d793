"""A broker with real servers behind it, which tests leave as it was; and one before a server that a test writes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Shell
from tests.gateway.scene import Agent, Scene, playing
from tests.servers import FEATURE_STDIO, ROOT, feature_http
from tests.servers.scripted import Scripted, scripted

POLICY: dict[str, Any] = {"default": "allow", "tools": {"append_line": {"action": "hold"}}}
HOLD_ACT: dict[str, Any] = {"default": "allow", "tools": {"act": {"action": "hold"}}}
TRANSPORTS = ("stdio", "http")


@pytest.fixture(scope="session")
def effects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the feature server's tools write to."""
    path = tmp_path_factory.mktemp("effects") / "lines"
    path.touch()
    return path


def stdio_features(effects: Path) -> dict[str, Any]:
    """The feature server as a command."""
    return {"command": list(FEATURE_STDIO), "env": {"FEATURE_SERVER_FILE": str(effects), "PYTHONPATH": str(ROOT)}}


@pytest.fixture(scope="session")
async def features(effects: Path) -> AsyncGenerator[str]:
    """The feature server over HTTP."""
    async with feature_http(effects) as url:
        yield url


@pytest.fixture(scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory, effects: Path, features: str) -> AsyncGenerator[Scene]:
    """The feature server behind either transport; `append_line` is held."""
    upstreams = {"stdio": {**stdio_features(effects), "policy": POLICY}, "http": {"url": features, "policy": POLICY}}
    async with playing(tmp_path_factory.mktemp("broker"), upstreams) as made:
        yield made


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A command line in a folder without settings."""
    return Shell(tmp_path)


@pytest.fixture
async def agent(scene: Scene) -> Agent:
    """A grant of the test's own."""
    return await scene.agent()


@pytest.fixture(scope="session")
async def scripted_server() -> AsyncGenerator[Scripted]:
    """The one behind `small`."""
    async with scripted() as made:
        yield made


@pytest.fixture(scope="session")
async def scripted_scene(tmp_path_factory: pytest.TempPathFactory, scripted_server: Scripted) -> AsyncGenerator[Scene]:
    """A broker before it."""
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
