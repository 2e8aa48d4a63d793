"""Socket Mode keeps itself connected, and says in a sentence why it is not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest
from slack_bolt.async_app import AsyncApp

from integrations.slack.sockets import SocketMode
from integrations.slack.web_api import WebApi
from tests.servers import BOUND
from tests.servers.slack import APP_TOKEN, BOT_TOKEN, Slack, running_slack


@pytest.fixture
async def slack() -> AsyncGenerator[Slack]:
    async with running_slack() as made:
        yield made


@contextlib.asynccontextmanager
async def connecting(slack: Slack, within: float = BOUND) -> AsyncGenerator[SocketMode]:
    """An app that does nothing and is to be connected."""
    async with WebApi(BOT_TOKEN, slack.api_url) as web:
        app = AsyncApp(token=BOT_TOKEN, request_verification_enabled=False)
        made = SocketMode(app, web, APP_TOKEN, within=within)
        running = asyncio.ensure_future(made.run())
        yield made
        running.cancel()
        await asyncio.wait([running], timeout=BOUND)
        assert running.done()
    await slack.until(lambda: not slack.sockets.open)


async def in_trouble(made: SocketMode, *, expected: bool = True) -> str | None:
    """Its trouble, as soon as there is one; or nothing, as soon as there is none."""
    async with asyncio.timeout(BOUND):
        while (made.trouble is not None) is not expected:  # noqa: ASYNC110 - it tells nobody, it is asked
            await asyncio.sleep(0.01)
    return made.trouble


async def connected(slack: Slack, times: int) -> None:
    """Return when the app has connected so often, and is."""
    await slack.until(lambda: slack.sockets.opened >= times and slack.sockets.open)


@pytest.mark.parametrize("reason", ["warning", "refresh_requested"])
async def test_it_connects_anew_when_slack_asks_for_that(slack: Slack, reason: str) -> None:
    async with connecting(slack) as made:
        await connected(slack, 1)
        await slack.sockets.disconnect(reason)
        await connected(slack, 2)
        assert made.trouble is None


async def test_it_connects_anew_when_the_connection_is_lost(slack: Slack) -> None:
    async with connecting(slack):
        await connected(slack, 1)
        slack.sockets.cut()
        await connected(slack, 2)


async def test_a_token_that_slack_does_not_take_is_said_with_what_to_do_and_tried_again(
    slack: Slack, caplog: pytest.LogCaptureFixture
) -> None:
    slack.revoke(APP_TOKEN)
    async with connecting(slack) as made:
        trouble = await in_trouble(made)
        assert trouble is not None
        assert "slack.app_token" in trouble
        assert "revoked" in trouble
        assert trouble.endswith("Clicks in Slack do not arrive.")
        assert trouble in caplog.text
        slack.grant(APP_TOKEN, ["connections:write"])
        await in_trouble(made, expected=False)
        assert slack.sockets.open
    assert "clicks arrive again" in caplog.text
    assert APP_TOKEN not in caplog.text


@pytest.mark.parametrize("order", ["500", "close", "garbage", "internal_error"])
async def test_an_address_that_slack_does_not_give_is_asked_for_again(slack: Slack, order: str) -> None:
    slack.order(order, "apps.connections.open")
    async with connecting(slack) as made:
        await in_trouble(made)
        await connected(slack, 1)


async def test_it_asks_no_sooner_than_slack_wants(slack: Slack) -> None:
    slack.order("429 600", "apps.connections.open")
    async with connecting(slack) as made:
        assert "fewer messages" in str(await in_trouble(made))
        assert len(slack.asked("apps.connections.open")) == 1


async def test_an_address_that_does_not_answer_is_given_up_for_another(slack: Slack) -> None:
    slack.sockets.refusing = True
    async with connecting(slack, within=0.2) as made:
        await in_trouble(made)
        slack.sockets.refusing = False
        await connected(slack, 1)
    assert len(slack.asked("apps.connections.open")) > 1
