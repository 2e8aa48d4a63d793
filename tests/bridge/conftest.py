"""A broker with real servers behind it, which tests leave as it was."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Shell
from tests.gateway.scene import Scene, playing
from tests.servers import features_stdio

POLICY: dict[str, Any] = {"default": "allow", "tools": {"append_line": {"action": "hold"}}}


@pytest.fixture(scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory, effects: Path, features_url: str) -> AsyncGenerator[Scene]:
    """The feature server behind either transport; `append_line` is held."""
    upstreams = {
        "stdio": {**features_stdio(effects), "policy": POLICY},
        "http": {"url": features_url, "policy": POLICY},
    }
    async with playing(tmp_path_factory.mktemp("broker"), upstreams) as made:
        yield made


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A command line in a folder without settings."""
    return Shell(tmp_path)
