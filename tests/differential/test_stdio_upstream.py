"""A server that is a command, alone at a client's pipes and behind the broker: the messages are the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.differential import legacy_scripts, modern_scripts
from tests.differential.client import Client
from tests.differential.comparison import assert_same, in_order, renumbered, responses, told
from tests.differential.over_http import HttpClient
from tests.differential.over_stdio import stdio_client
from tests.gateway.scene import Agent
from tests.servers.every.speech import Message, Style

Script = Callable[[Any], Awaitable[None]]

pytestmark = pytest.mark.parametrize("style", Style)


async def _followed(script: Script, client: Client) -> list[Message]:
    """What the server received, as it tells at the end."""
    await client.open()
    await script(client)
    record = await client.record()
    await client.close()
    return record


async def _compare(script: Script, style: Style, http: aiohttp.ClientSession, agent: Agent, *, modern: bool) -> None:
    async with stdio_client(style, modern=modern) as alone:
        sent = await _followed(script, alone)
    through = HttpClient(http, agent.at(f"stdio-{style}"), agent.token, modern=modern)
    async with through:
        arrived = await _followed(script, through)
    assert_same(responses(through), responses(alone))
    assert_same(told(through), told(alone))
    assert [exchange for exchange in through.exchanges if not in_order(exchange, alone)] == []
    assert_same(renumbered(arrived, modern=modern), renumbered(sent, modern=modern))


@pytest.mark.parametrize("script", legacy_scripts.SCRIPTS)
async def test_a_client_of_the_handshake_era_sees_and_does_the_same(
    script: Script, style: Style, http: aiohttp.ClientSession, agent: Agent
) -> None:
    await _compare(script, style, http, agent, modern=False)


@pytest.mark.parametrize("script", modern_scripts.SCRIPTS)
async def test_a_client_of_the_stateless_era_sees_and_does_the_same(
    script: Script, style: Style, http: aiohttp.ClientSession, agent: Agent
) -> None:
    await _compare(script, style, http, agent, modern=True)
