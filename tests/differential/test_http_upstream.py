"""A server at a URL, alone and behind the broker: the answers are the same bytes, and so is what reaches the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.differential import legacy_scripts, modern_scripts
from tests.differential.comparison import answered, assert_same, received
from tests.differential.over_http import HttpClient
from tests.gateway.scene import Agent
from tests.servers.every.over_http import EveryHttp
from tests.servers.every.speech import Style

Script = Callable[[Any], Awaitable[None]]

LEGACY = (*legacy_scripts.SCRIPTS, *legacy_scripts.HTTP_SCRIPTS)
MODERN = (*modern_scripts.SCRIPTS, *modern_scripts.HTTP_SCRIPTS)

pytestmark = pytest.mark.parametrize("style", Style)


async def _followed(script: Script, server: EveryHttp, style: Style, client: HttpClient) -> tuple[list[Any], list[Any]]:
    """What the client was answered and the server received."""
    server.reset(style)
    async with client:
        await client.open()
        await script(client)
        await client.close()
    return answered(client), received(server.received)


async def _compare(
    script: Script, server: EveryHttp, style: Style, http: aiohttp.ClientSession, agent: Agent, *, modern: bool
) -> None:
    alone = await _followed(script, server, style, HttpClient(http, server.url, modern=modern))
    through = HttpClient(http, agent.at("http"), agent.token, modern=modern)
    answers, requests = await _followed(script, server, style, through)
    assert_same(answers, alone[0])
    assert_same(requests, alone[1])


@pytest.mark.parametrize("script", LEGACY)
async def test_a_client_of_the_handshake_era_sees_and_does_the_same(
    script: Script, every_server: EveryHttp, style: Style, http: aiohttp.ClientSession, shared_agent: Agent
) -> None:
    await _compare(script, every_server, style, http, shared_agent, modern=False)


@pytest.mark.parametrize("script", MODERN)
async def test_a_client_of_the_stateless_era_sees_and_does_the_same(
    script: Script, every_server: EveryHttp, style: Style, http: aiohttp.ClientSession, shared_agent: Agent
) -> None:
    await _compare(script, every_server, style, http, shared_agent, modern=True)
