"""A broker for the whole run with real servers behind it, and a second one that a test may break."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.scene import Repository, Scene, playing
from tests.servers import ROOT, features_stdio, git_http
from tests.warm import warm

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


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The repository behind the git servers."""
    return Repository(tmp_path_factory.mktemp("git") / "repository")


@pytest.fixture(scope="session")
async def git_url(repository: Repository) -> AsyncGenerator[str]:
    """mcp-server-git over HTTP."""
    async with git_http(repository.path) as url:
        yield url


@pytest.fixture(scope="session")
async def scene(
    tmp_path_factory: pytest.TempPathFactory, repository: Repository, effects: Path, git_url: str, features_url: str
) -> AsyncGenerator[Scene]:
    """A broker with each real server behind stdio and behind HTTP, for tests that leave it as it was."""
    git: dict[str, Any] = {"command": warm("mcp_server_git", "--repository", str(repository.path))}
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
