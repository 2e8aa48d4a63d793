"""What comes from Slack: clicks, modals and commands, over HTTP or Socket Mode, by way of Slack's own framework.

What belongs here: recognising and acknowledging it, within Slack's three seconds and before anything else is done. What
does not: what is done about it (`deciding`), the connection (`sockets`), requests over HTTP (`events`).

https://docs.slack.dev/interactivity/handling-user-interaction
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.response import BoltResponse

from broker.approvals.service import Approvals
from broker.domain.approvals import Decision
from broker.domain.text import visible
from integrations.slack.choices import APPROVE, OPEN, REASON, REJECT
from integrations.slack.clicks import clicked, homes, submitted
from integrations.slack.deciding import Deciding
from integrations.slack.directory import Directory
from integrations.slack.events import Events
from integrations.slack.modals import reason_in
from integrations.slack.sockets import SocketMode
from integrations.slack.web_api import WebApi

log = logging.getLogger(__name__)

COMMAND = "/approvals"

Payload = Mapping[str, Any]


class Inbound:
    """The app, as Slack reaches it.

    Args:
        card: the address of an approval's card, by its id.
        signing_secret: what requests over HTTP are signed with; not needed with an `app_token`.
        app_token: with one, there is Socket Mode, and nothing is taken over HTTP.

    Attributes:
        events: the ASGI app for `/slack/events`; None in Socket Mode.
    """

    def __init__(
        self,
        web_api: WebApi,
        directory: Directory,
        approvals: Approvals,
        card: Callable[[str], str],
        *,
        signing_secret: str | None = None,
        app_token: str | None = None,
    ) -> None:
        self._deciding = Deciding(web_api, directory, approvals, card)
        self._working: set[asyncio.Task[None]] = set()
        app: Any = _app(signing_secret)  # whose methods have incomplete types
        self._socket_mode = SocketMode(app, web_api, app_token) if app_token is not None else None
        self.events = Events(app) if app_token is None else None
        app.action(APPROVE)(self._approve)
        app.action(REJECT)(self._reject)
        app.action(OPEN)(self._acknowledge)
        app.view(REASON)(self._submit)
        app.command(COMMAND)(self._list)
        app.error(self._unknown)

    @property
    def trouble(self) -> str | None:
        """Why nothing comes from Slack, in a sentence; None when nothing is known to be wrong."""
        return self._socket_mode.trouble if self._socket_mode is not None else None

    async def run(self) -> None:
        """Be reachable, until cancelled."""
        if self._socket_mode is not None:
            await self._socket_mode.run()

    async def end(self, within: float) -> None:
        """Let what was clicked be done, for so many seconds at most."""
        if self._working:
            await asyncio.wait(self._working, timeout=within)
        for task in list(self._working):
            task.cancel()

    # -- what comes ---------------------------------------------------------------------------------------------------

    async def _approve(self, ack: AsyncAck, body: Payload) -> None:
        await ack()
        self._begin(lambda: self._deciding.decide(clicked(body), Decision.APPROVE))

    async def _reject(self, ack: AsyncAck, body: Payload) -> None:
        await ack()
        self._begin(lambda: self._deciding.ask_reason(clicked(body)))

    async def _acknowledge(self, ack: AsyncAck) -> None:
        await ack()

    async def _submit(self, ack: AsyncAck, body: Payload) -> None:
        await ack()
        self._begin(lambda: self._deciding.decide(submitted(body), Decision.REJECT, reason_in(body["view"])))

    async def _list(self, ack: AsyncAck, body: Payload) -> None:
        await ack()
        self._begin(lambda: self._deciding.list_waiting(homes(body), body["user_id"], body["response_url"]))

    async def _unknown(self, error: Exception) -> BoltResponse:
        """What nobody here waits for, or what is wrong here: Slack says that it did not work."""
        log.warning("Slack sent something that the broker does not know (%s): nothing was done.", type(error).__name__)
        return BoltResponse(status=404, body="")

    # -- doing it -----------------------------------------------------------------------------------------------------

    def _begin(self, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do it, with nobody waiting for it."""
        try:
            work = make()
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            log.warning("Slack sent something that cannot be read (%s): nothing was done.", visible(str(error)))
            return
        task = asyncio.ensure_future(work)
        self._working.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("A click in Slack could not be dealt with.", exc_info=error)


def _app(signing_secret: str | None) -> AsyncApp:
    """Bolt's app: it checks signatures, and asks Slack nothing before it acknowledges."""
    return AsyncApp(
        name="approval-broker",
        logger=_silence(),
        signing_secret=signing_secret or "",
        request_verification_enabled=signing_secret is not None,
        authorize=_authorize,
        raise_error_for_unhandled_request=True,
    )


async def _authorize() -> AuthorizeResult:
    """Bolt would ask Slack who the app is at each request; what it needs a token for is done without Bolt."""
    return AuthorizeResult(enterprise_id=None, team_id=None)


def _silence() -> logging.Logger:
    """Bolt and its client log payloads and tokens; what is to be known of them is told here, and by `sockets`."""
    return logging.Logger("slack", logging.CRITICAL + 1)
