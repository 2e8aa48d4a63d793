"""The strict local Slack, driven by Slack's own client and framework."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from tests.servers.slack import (
    APP_TOKEN,
    BOT_SCOPES,
    BOT_TOKEN,
    SIGNING_SECRET,
    TEAM,
    Slack,
    running_slack,
)

BUTTONS: list[dict[str, Any]] = [
    {"type": "section", "text": {"type": "plain_text", "text": "Run it?"}},
    {
        "type": "actions",
        "elements": [
            {
                "type": "button",
                "action_id": "yes",
                "value": "1",
                "style": "primary",
                "text": {"type": "plain_text", "text": "Yes"},
            },
            {"type": "button", "action_id": "ask", "text": {"type": "plain_text", "text": "Why?"}},
        ],
    },
]
MODAL: dict[str, Any] = {
    "type": "modal",
    "callback_id": "why",
    "title": {"type": "plain_text", "text": "Why?"},
    "submit": {"type": "plain_text", "text": "Send"},
    "blocks": [
        {
            "type": "input",
            "block_id": "reason",
            "label": {"type": "plain_text", "text": "Reason"},
            "element": {"type": "plain_text_input", "action_id": "text", "multiline": True, "max_length": 100},
        }
    ],
}


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    async with running_slack() as slack:
        yield slack


@pytest.fixture
def client(slack: Slack) -> Any:
    return AsyncWebClient(BOT_TOKEN, base_url=slack.api_url, retry_handlers=[])


async def refusal(answering: Any) -> dict[str, Any]:
    """What a call was refused with."""
    with pytest.raises(SlackApiError) as caught:
        await answering
    error: Any = caught.value
    return error.response.data


def asking_app(slack: Slack, heard: list[dict[str, Any]]) -> AsyncApp:
    """A small app: it rewrites the message that is clicked, opens a modal, and answers a command."""
    app: Any = AsyncApp(client=AsyncWebClient(BOT_TOKEN, base_url=slack.api_url), signing_secret=SIGNING_SECRET)

    async def yes(ack: Any, body: dict[str, Any], client: Any) -> None:
        await ack()
        heard.append(body)
        await client.chat_update(channel=body["channel"]["id"], ts=body["message"]["ts"], text="Done", blocks=[])

    async def ask(ack: Any, body: dict[str, Any], client: Any) -> None:
        await ack()
        await client.views_open(trigger_id=body["trigger_id"], view=MODAL)

    async def why(ack: Any, body: dict[str, Any]) -> None:
        await ack()
        heard.append(body)

    async def approvals(ack: Any, body: dict[str, Any], respond: Any) -> None:
        await ack(f"Nothing waits for {body['user_name']}")
        await respond("Still nothing")

    app.action("yes")(yes)
    app.action("ask")(ask)
    app.view("why")(why)
    app.command("/approvals")(approvals)
    return app


@contextlib.asynccontextmanager
async def over_http(slack: Slack, app: AsyncApp) -> AsyncGenerator[None]:
    """The app behind a URL."""

    async def handle(request: web.Request) -> web.Response:
        asked = AsyncBoltRequest(body=await request.text(), headers={**request.headers})
        answer = await app.async_dispatch(asked)
        kind = answer.first_headers_without_set_cookie().get("content-type", "text/plain").partition(";")[0]
        return web.Response(status=answer.status, text=answer.body, content_type=kind)

    server = web.Application()
    server.router.add_post("/slack/events", handle)
    runner = web.AppRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    slack.deliveries.request_url = f"http://127.0.0.1:{runner.addresses[0][1]}/slack/events"
    try:
        yield
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def over_sockets(slack: Slack, app: AsyncApp) -> AsyncGenerator[None]:
    """The app in Socket Mode."""
    handler = AsyncSocketModeHandler(app, APP_TOKEN, ping_interval=0.2)
    await handler.connect_async()
    try:
        yield
    finally:
        await handler.close_async()


MODES = pytest.mark.parametrize("mode", [over_http, over_sockets])


async def test_the_client_learns_who_it_is(client: Any) -> None:
    assert (await client.auth_test())["team_id"] == TEAM


@MODES
async def test_a_click_reaches_the_app_which_rewrites_the_message(mode: Any, slack: Slack, client: Any) -> None:
    alice, heard = slack.person("Alice", "alice@example.com"), list[dict[str, Any]]()
    slack.channel("desktop", [alice])
    async with mode(slack, asking_app(slack, heard)):
        await client.chat_postMessage(channel="#desktop", text="Run it?", blocks=BUTTONS)
        [message] = slack.messages("#desktop")
        delivery = await slack.click(alice, message, "yes")
        await slack.until(lambda: message.text == "Done")
    assert not delivery.failed
    assert delivery.seconds < 3
    assert slack.buttons(message) == []
    [body] = heard
    assert body["user"]["id"] == alice.id
    assert body["container"]["message_ts"] == message.ts
    assert body["actions"][0]["value"] == "1"


@MODES
async def test_a_modal_opens_and_what_is_filled_in_reaches_the_app(mode: Any, slack: Slack, client: Any) -> None:
    alice, heard = slack.person("Alice", "alice@example.com"), list[dict[str, Any]]()
    slack.channel("desktop", [alice])
    async with mode(slack, asking_app(slack, heard)):
        await client.chat_postMessage(channel="#desktop", text="Run it?", blocks=BUTTONS)
        await slack.click(alice, slack.messages("#desktop")[0], "ask")
        view = await slack.until(lambda: slack.modal(alice))
        delivery = await slack.submit(view, {"reason": "It is late"})
    assert not delivery.failed
    assert not view.open
    assert heard[0]["view"]["state"]["values"] == {
        "reason": {"text": {"type": "plain_text_input", "value": "It is late"}}
    }


@MODES
async def test_a_command_is_answered_to_its_person_alone(mode: Any, slack: Slack) -> None:
    alice, bob = slack.person("Alice", "alice@example.com"), slack.person("Bob", "bob@example.com")
    slack.channel("desktop", [alice, bob])
    async with mode(slack, asking_app(slack, [])):
        await slack.command(alice, "/approvals", place="#desktop")
        told = await slack.until(lambda: slack.ephemerals(alice, "#desktop")[1:] and slack.ephemerals(alice))
    assert {each.text for each in told} == {"Nothing waits for alice", "Still nothing"}
    assert slack.ephemerals(bob) == []
    assert slack.messages("#desktop") == []


async def test_a_scope_that_was_not_granted_is_missed_by_name(slack: Slack, client: Any) -> None:
    slack.grant(BOT_TOKEN, BOT_SCOPES - {"chat:write"})
    told = await refusal(client.chat_postMessage(channel="#desktop", text="Hello"))
    assert (told["error"], told["needed"]) == ("missing_scope", "chat:write")
    assert "users:read" in told["provided"].split(",")


async def test_nobody_listens_while_it_is_down_and_it_comes_back_at_the_same_place(slack: Slack, client: Any) -> None:
    await slack.go_down()
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.auth_test()
    await slack.come_up()
    assert (await client.auth_test())["ok"]
