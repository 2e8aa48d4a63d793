"""The local Slack, for the tests of the servers here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.servers.slack import Slack, running_slack
from tests.servers.slack.apps import client_of


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    async with running_slack() as slack:
        yield slack


@pytest.fixture
def client(slack: Slack) -> Any:
    return client_of(slack)
