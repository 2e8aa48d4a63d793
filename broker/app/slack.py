"""Slack, made from the settings: what the broker needs of it, and how its connection fares.

What belongs here: which setting becomes which value of Slack's parts. What does not: what these do (`integrations`).
"""

from __future__ import annotations

from types import TracebackType

from broker.domain.clock import Clock
from broker.settings import Settings, SlackSettings
from broker.store.writer import Store
from broker.ticks import Tick
from integrations.slack.channel import SlackChannel
from integrations.slack.directory import Directory
from integrations.slack.web_api import WebApi

LOOK_EVERY = 60.0
"""Seconds between looks whether Slack takes the token, and who is in its user groups."""


class Slack:
    """One workspace, for as long as the context lasts.

    Raises:
        SettingsError: a token is missing.
    """

    def __init__(self, settings: Settings, terms: SlackSettings, store: Store, clock: Clock) -> None:
        self._web = WebApi(settings.slack_secret("bot_token") or "", terms.api_url)
        self._directory = Directory(self._web, store, clock, terms.groups)
        self.channel = SlackChannel(self._web, self._directory, terms.channel)
        self.tick = Tick("slack", LOOK_EVERY, self._look, "Held calls are decided in the browser meanwhile.")

    async def __aenter__(self) -> Slack:
        await self._web.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._web.__aexit__(kind, error, trace)

    def trouble(self) -> str | None:
        """What is wrong with Slack, as far as that is known without a message for it."""
        return self.tick.trouble

    async def _look(self) -> None:
        await self._web.call("auth.test")
        await self._directory.refresh()
