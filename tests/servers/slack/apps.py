"""A Bolt app that is connected to the local Slack, in either mode.

What belongs here: starting and stopping one. What does not: what it does.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

from aiohttp import web
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_sdk.web.async_client import AsyncWebClient

from tests.servers.slack.server import APP_TOKEN, BOT_TOKEN, SIGNING_SECRET, Slack

Running = Callable[[Slack, AsyncApp], contextlib.AbstractAsyncContextManager[None]]


def client_of(slack: Slack, token: str = BOT_TOKEN) -> Any:
    """A client of the Web API which tries nothing twice."""
    return AsyncWebClient(token, base_url=slack.api_url, retry_handlers=[])


def app_of(slack: Slack) -> Any:
    """A Bolt app that does nothing yet."""
    return AsyncApp(client=client_of(slack), signing_secret=SIGNING_SECRET)


@contextlib.asynccontextmanager
async def over_http(slack: Slack, app: AsyncApp) -> AsyncGenerator[None]:
    """The app behind a URL, which Slack is told."""

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
    """The app in Socket Mode, connected."""
    handler = AsyncSocketModeHandler(app, APP_TOKEN, ping_interval=0.1)
    await handler.connect_async()
    await slack.until(lambda: slack.sockets.open)
    try:
        yield
    finally:
        await handler.close_async()
