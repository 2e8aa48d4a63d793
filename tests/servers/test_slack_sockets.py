"""Socket Mode of the local Slack: connecting, acknowledging, being disconnected."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import pytest

from tests.servers.slack import APP_TOKEN, BOT_TOKEN, Interaction, Slack
from tests.servers.slack.apps import app_of, client_of, over_sockets


@contextlib.asynccontextmanager
async def connected(slack: Slack) -> AsyncGenerator[aiohttp.ClientWebSocketResponse]:
    """A connection that acknowledges nothing by itself, after its hello."""
    url = (await client_of(slack).apps_connections_open(app_token=APP_TOKEN))["url"]
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as ws:
        hello = await ws.receive_json()
        assert hello["type"] == "hello"
        yield ws


def typed(slack: Slack) -> Interaction:
    """A command of somebody."""
    alice = slack.person("Alice")
    return Interaction("slash_commands", alice, {"command": "/approvals", "response_url": "none"})


async def test_an_envelope_is_acknowledged_by_its_id_and_nothing_else(slack: Slack) -> None:
    async with connected(slack) as ws:
        sending = asyncio.create_task(slack.send(typed(slack)))
        envelope = await ws.receive_json()
        assert (envelope["type"], envelope["payload"]["command"]) == ("slash_commands", "/approvals")
        await ws.send_json({"envelope_id": "another"})
        await slack.until(lambda: slack.sockets.astray)
        assert not sending.done()
        await ws.send_json({"envelope_id": envelope["envelope_id"]})
        assert not (await sending).failed


async def test_an_envelope_whose_connection_is_lost_comes_again_over_the_next(slack: Slack) -> None:
    async with connected(slack) as lost:
        sending = asyncio.create_task(slack.send(typed(slack)))
        first = await lost.receive_json()
        slack.sockets.cut()
        async with connected(slack) as ws:
            again = await ws.receive_json()
            await ws.send_json({"envelope_id": again["envelope_id"]})
            assert not (await sending).failed
    assert again["envelope_id"] == first["envelope_id"]
    assert again["retry_attempt"] == 1


async def test_a_url_connects_once(slack: Slack) -> None:
    url = (await client_of(slack).apps_connections_open(app_token=APP_TOKEN))["url"]
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(url) as ws:
            await ws.receive_json()
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(url)


async def test_pings_are_answered_both_ways(slack: Slack) -> None:
    async with over_sockets(slack, app_of(slack)):
        await slack.sockets.ping()
    async with connected(slack) as ws:
        reading = asyncio.create_task(ws.receive())
        await slack.sockets.ping()
        reading.cancel()


@pytest.mark.parametrize("reason", ["warning", "refresh_requested"])
async def test_a_real_app_connects_anew_when_it_is_told_to(slack: Slack, reason: str) -> None:
    async with over_sockets(slack, app_of(slack)):
        await slack.sockets.disconnect(reason)
        await slack.until(lambda: slack.sockets.opened == 2 and len(slack.sockets.open) == 1)


async def test_a_real_app_connects_anew_when_its_connection_is_lost_and_handshakes_are_refused_for_a_while(
    slack: Slack,
) -> None:
    async with over_sockets(slack, app_of(slack)):
        slack.sockets.refusing = True
        slack.sockets.cut()
        await slack.until(lambda: len(slack.asked("apps.connections.open")) >= 2)
        slack.sockets.refusing = False
        await slack.until(lambda: slack.sockets.opened == 2)


async def test_only_the_token_of_the_app_opens_connections_and_only_in_the_header(slack: Slack) -> None:
    url = f"{slack.api_url}apps.connections.open"
    async with aiohttp.ClientSession() as http:
        answers: list[Any] = []
        for headers, data in (
            ({"Authorization": f"Bearer {BOT_TOKEN}"}, {}),
            ({}, {"token": APP_TOKEN}),
            ({"Authorization": f"Bearer {APP_TOKEN}"}, {"token": "ignored"}),
        ):
            async with http.post(url, headers=headers, data=data) as answer:
                answers.append(await answer.json())
    assert [each.get("error") for each in answers] == ["not_allowed_token_type", "not_authed", None]


async def test_a_real_app_connects_anew_when_its_pings_are_not_answered(slack: Slack) -> None:
    async with over_sockets(slack, app_of(slack)):
        slack.sockets.silent = True
        await slack.until(lambda: slack.sockets.opened >= 2)
