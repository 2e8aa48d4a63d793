"""Answers over HTTP that are legal and rarely seen come through as the bytes that they are, wherever they come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.differential.comparison import answered, assert_same
from tests.differential.over_http import HttpClient
from tests.gateway.scene import Agent
from tests.servers.every import odd
from tests.servers.every.over_http import EveryHttp
from tests.servers.every.speech import Message, Style

LOOKED_INTO = [name for name in odd.ANSWERS if name != "stream/never-ended"]
"""Where the broker looks for tools that are hidden, it leaves out what every client throws away."""

Ask = Callable[[HttpClient], Awaitable[Any]]


async def _compare(ask: Ask, server: EveryHttp, http: aiohttp.ClientSession, agent: Agent, *, modern: bool) -> None:
    async def asked(client: HttpClient) -> list[Any]:
        server.reset(Style.PLAIN)
        async with client:
            await client.open()
            await client.ended(await ask(client))
            await client.close()
        return answered(client)

    alone = await asked(HttpClient(http, server.url, modern=modern))
    assert_same(await asked(HttpClient(http, agent.at("http"), agent.token, modern=modern)), alone)


def _request(method: str, answer: str) -> Ask:
    async def ask(client: HttpClient) -> Any:
        named: Message = {"name": "content", "arguments": {}} if method == "tools/call" else {}
        return await client.begin(method, {**named, "_meta": {odd.ASKED: answer}})

    return ask


@pytest.mark.parametrize("answer", odd.ANSWERS)
@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_a_call_is_answered_with_the_same_bytes(
    era: str, answer: str, every_server: EveryHttp, http: aiohttp.ClientSession, shared_agent: Agent
) -> None:
    await _compare(_request("tools/call", answer), every_server, http, shared_agent, modern=era == "stateless")


@pytest.mark.parametrize("answer", LOOKED_INTO)
async def test_a_list_of_tools_is_answered_with_the_same_bytes(
    answer: str, every_server: EveryHttp, http: aiohttp.ClientSession, shared_agent: Agent
) -> None:
    await _compare(_request("tools/list", answer), every_server, http, shared_agent, modern=True)


@pytest.mark.parametrize("answer", odd.ANSWERS)
async def test_a_request_that_nobody_knows_is_answered_with_the_same_bytes(
    answer: str, every_server: EveryHttp, http: aiohttp.ClientSession, shared_agent: Agent
) -> None:
    await _compare(_request("example.com/unheard", answer), every_server, http, shared_agent, modern=True)


@pytest.mark.parametrize("answer", LOOKED_INTO)
async def test_a_get_is_answered_with_the_same_bytes(
    answer: str, every_server: EveryHttp, http: aiohttp.ClientSession, shared_agent: Agent
) -> None:
    async def ask(client: HttpClient) -> Any:
        return await client.get(**{odd.ASKED_FIELD: answer})

    await _compare(ask, every_server, http, shared_agent, modern=False)
