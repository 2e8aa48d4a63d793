"""Socket Mode: the connection over which Slack tells what people do, for brokers that nobody reaches from outside.

What belongs here: being connected, and saying why not. What does not: what comes over it (`inbound`).

Slack's own client answers pings and connects anew when Slack asks for that. It would try an address over and over that
is good once, and says nothing of what is wrong; so one that lost its connection is given up, and another is made.

https://docs.slack.dev/apis/events-api/using-socket-mode
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp

from broker.approvals.troubles import delay
from broker.errors import ChannelError
from integrations.slack.web_api import CALL_ERRORS, WebApi, proxy_for, refusal

log = logging.getLogger(__name__)

WITHIN = 10.0
"""Seconds in which a connection is made, or given up."""

LOOK_EVERY = 0.5
"""Seconds between looks whether it is there; one that is missing at two of them is lost."""

PING_EVERY = 5.0
"""Seconds between pings; a connection on which four are not answered is lost."""


class SocketMode:
    """Keeps an app connected.

    Args:
        app_token: with the scope `connections:write`.
        within: the seconds that a connection may take to be made.
    """

    def __init__(self, app: AsyncApp, web_api: WebApi, app_token: str, *, within: float = WITHIN) -> None:
        self.trouble: str | None = None
        self._app = app
        self._web_api = web_api
        self._app_token = app_token
        self._within = within

    async def run(self) -> None:
        """Be connected, until cancelled. What is in the way is logged when it begins, and when it is over."""
        failures = 0
        while True:
            try:
                async with self._connected() as handler:
                    failures = 0
                    self._works()
                    await _until_lost(handler)
            except ChannelError as error:
                failures += 1
                self._fails(error)
                await asyncio.sleep(max(delay(failures).total_seconds(), error.retry_after or 0))

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[AsyncSocketModeHandler]:
        url = await self._address()
        handler = AsyncSocketModeHandler(
            self._app, self._app_token, web_client=self._web_api.client, ping_interval=PING_EVERY
        )
        handler.client.proxy = proxy_for(url)
        handler.client.wss_uri = url
        try:
            try:
                async with asyncio.timeout(self._within):
                    await handler.connect_async()
            except TimeoutError:
                raise ChannelError("Slack does not answer where it says that Socket Mode is") from None
            yield handler
        finally:
            await handler.close_async()

    async def _address(self) -> str:
        """Where to connect, once.

        Raises:
            ChannelError: Slack does not say.
        """
        client: Any = self._web_api.client  # whose methods have incomplete types
        try:
            return str((await client.apps_connections_open(app_token=self._app_token))["url"])
        except CALL_ERRORS as error:
            raise refusal(error, setting="slack.app_token") from None

    def _works(self) -> None:
        if self.trouble is not None:
            log.warning("Slack: clicks arrive again.")
        self.trouble = None

    def _fails(self, error: ChannelError) -> None:
        trouble = f"{str(error).rstrip('.')}. Clicks in Slack do not arrive."
        if trouble != self.trouble:
            log.warning("Slack: %s", trouble)
        self.trouble = trouble


async def _until_lost(handler: AsyncSocketModeHandler) -> None:
    missing = 0
    while missing < 2:
        await asyncio.sleep(LOOK_EVERY)
        missing = 0 if await handler.client.is_connected() else missing + 1
