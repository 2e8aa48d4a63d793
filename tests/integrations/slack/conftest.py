"""One running broker with a Slack for each way in, for all tests of this folder."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import pytest

from tests.integrations.slack.stage import MODES, Stage, staged
from tests.servers.scripted import Scripted


@pytest.fixture(scope="session")
async def stages(
    tmp_path_factory: pytest.TempPathFactory, scripted_server: Scripted
) -> AsyncGenerator[dict[str, Stage]]:
    """A stage for each mode."""
    async with contextlib.AsyncExitStack() as stack:
        yield {
            mode: await stack.enter_async_context(staged(tmp_path_factory.mktemp(mode), scripted_server, mode))
            for mode in MODES
        }


@pytest.fixture(params=MODES)
def stage(request: pytest.FixtureRequest, stages: dict[str, Stage], server: Scripted) -> Stage:
    """A stage of each mode; what the test makes on it is its own."""
    return stages[request.param]


@pytest.fixture
def socket_stage(stages: dict[str, Stage], server: Scripted) -> Stage:
    """The one in Socket Mode, where it makes no difference."""
    return stages["socket"]


@pytest.fixture
def http_stage(stages: dict[str, Stage], server: Scripted) -> Stage:
    """The one that Slack sends requests to."""
    return stages["http"]
