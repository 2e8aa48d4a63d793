"""Slack, made from the settings: what the broker needs of it, and how its connection fares.

What belongs here: which setting becomes which value of Slack's parts. What does not: what these do (`integrations`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

from starlette.types import ASGIApp

from broker.approvals.service import Approvals
from broker.domain.clock import Clock
from broker.errors import ChannelError
from broker.settings import Settings, SlackSettings
from broker.store.writer import Store
from broker.ticks import Tick
from integrations.slack.channel import SlackChannel
from integrations.slack.directory import REFRESH_EVERY, Directory
from integrations.slack.events import PATH
from integrations.slack.inbound import Inbound
from integrations.slack.web_api import WebApi


class Slack:
    """One workspace, for as long as the context lasts.

    Raises:
        SettingsError: a token is missing.
    """

    def __init__(self, settings: Settings, terms: SlackSettings, store: Store, clock: Clock) -> None:
        self._ways_in = {key: settings.slack_secret(key) for key in ("app_token", "signing_secret")}
        self._web_api = WebApi(settings.slack_secret("bot_token") or "", terms.api_url)
        self._directory = Directory(self._web_api, store, clock, terms.groups)
        self.channel = SlackChannel(self._web_api, self._directory, terms.channel)
        self._inbound: Inbound | None = None
        self.tick = Tick("slack", REFRESH_EVERY, self._look, "Held calls are decided in the browser meanwhile.")

    async def __aenter__(self) -> Slack:
        await self._web_api.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._web_api.__aexit__(kind, error, trace)

    def inbound(self, approvals: Approvals, card: Callable[[str], str]) -> Inbound:
        """The way back: what people click there."""
        self._inbound = Inbound(self._web_api, self._directory, approvals, card, **self._ways_in)
        return self._inbound

    @property
    def paths(self) -> Mapping[str, ASGIApp]:
        """Where Slack sends requests, once there is a way back; nowhere in Socket Mode."""
        events = self._inbound.events if self._inbound is not None else None
        return {PATH: events} if events is not None else {}

    def trouble(self) -> str | None:
        """What is wrong with Slack, as far as that is known without a message for it."""
        return self.tick.trouble or (self._inbound.trouble if self._inbound is not None else None)

    async def _look(self) -> None:
        """See whether Slack takes the token, and who is in its user groups."""
        try:
            await self._web_api.call("auth.test")
            await self._directory.refresh()
        except ChannelError as error:
            raise ChannelError(f"{error}.") from error
