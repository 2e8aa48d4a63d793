"""A broker for the whole run with real servers behind it, and a second one that a test may break."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.scene import Agent, Repository, Scene, playing
from tests.servers import FEATURE_STDIO, ROOT, feature_http, git_http
from tests.servers.scripted import Scripted, scripted

GIT_POLICY: dict[str, Any] = json.loads((ROOT / "policies" / "git.json").read_text())
HOLD_BRIEFLY: dict[str, Any] = {
    "default": "allow",
    "tools": {"git_commit": {"action": "hold", "approval": {"timeout": "1s"}}},
}
OPEN: dict[str, Any] = {
    "default": "allow",
    "hide": ["secret"],
    "tools": {
        "append_line": {"action": "hold", "reason": "Leaves a trace", "risk": "low"},
        "failing": {"action": "deny", "reason": "It only fails."},
        "large": {"limits": [{"counter": "large", "window": "hour", "max": 3, "on_deny": "Three are enough."}]},
    },
}
HELD: dict[str, Any] = {"default": "hold", "hide": ["secret"]}

HOLD_ACT: dict[str, Any] = {"default": "allow", "tools": {"act": {"action": "hold"}}}

TRANSPORTS = ("stdio", "http")


@pytest.fixture(scope="session")
def effects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the feature server's tools write to."""
    path = tmp_path_factory.mktemp("effects") / "lines"
    path.touch()
    return path


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The repository behind the git servers."""
    return Repository(tmp_path_factory.mktemp("git") / "repository")


@pytest.fixture(scope="session")
async def features_url(effects: Path) -> AsyncGenerator[str]:
    """The feature server over HTTP."""
    async with feature_http(effects) as url:
        yield url


@pytest.fixture(scope="session")
async def git_url(repository: Repository) -> AsyncGenerator[str]:
    """mcp-server-git over HTTP."""
    async with git_http(repository.path) as url:
        yield url


def features_stdio(effects: Path) -> dict[str, Any]:
    """The feature server as a command."""
    return {"command": list(FEATURE_STDIO), "env": {"FEATURE_SERVER_FILE": str(effects), "PYTHONPATH": str(ROOT)}}


@pytest.fixture(scope="session")
async def scene(
    tmp_path_factory: pytest.TempPathFactory, repository: Repository, effects: Path, git_url: str, features_url: str
) -> AsyncGenerator[Scene]:
    """A broker with each real server behind stdio and behind HTTP, for tests that leave it as it was."""
    git: dict[str, Any] = {"command": [sys.executable, "-m", "mcp_server_git", "--repository", str(repository.path)]}
    features = features_stdio(effects)
    upstreams: dict[str, Any] = {
        "git-stdio": {**git, "policy": GIT_POLICY},
        "git-http": {"url": git_url, "policy": GIT_POLICY},
        "brief-stdio": {**git, "policy": HOLD_BRIEFLY},
        "brief-http": {"url": git_url, "policy": HOLD_BRIEFLY},
        "open-stdio": {**features, "policy": OPEN},
        "open-http": {"url": features_url, "policy": OPEN},
        "held-stdio": {**features, "policy": HELD},
        "held-http": {"url": features_url, "policy": HELD},
    }
    async with playing(tmp_path_factory.mktemp("broker"), upstreams) as made:
        yield made


@pytest.fixture
async def agent(scene: Scene) -> Agent:
    """A grant of the test's own on every upstream of `scene`."""
    return await scene.agent()


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
