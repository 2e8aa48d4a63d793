"""How the app gets what people did: signed over HTTP, or over Socket Mode; and the three seconds that it has.

What belongs here: one delivery and what came of it. What does not: what is delivered (interactions.py).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp

from tests.servers.slack.interactions import Interaction
from tests.servers.slack.objects import Json
from tests.servers.slack.sockets import NotConnected, Sockets
from tests.servers.slack.workspace import Workspace

SECONDS_TO_ACKNOWLEDGE = 3.0
"""https://docs.slack.dev/interactivity/handling-user-interaction#acknowledgment_response"""


@dataclass
class Delivery:
    """One delivery of an interaction.

    Attributes:
        seconds: until it was acknowledged, or failed.
        failed: what the person was told instead, empty if it was acknowledged in time: `operation_timeout` (not within
            3 s), `dispatch_failed` (refused, no answer, or no connection).
        answer: what the acknowledgement carried.
        status: the HTTP status, 0 in Socket Mode.
        headers, body: the request over HTTP, so that it can be sent again.
    """

    interaction: Interaction
    seconds: float = 0.0
    failed: str = ""
    answer: Json = field(default_factory=Json)
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: str = ""


def signed(body: str, secret: str, at: float) -> dict[str, str]:
    """The headers of a request, https://docs.slack.dev/authentication/verifying-requests-from-slack"""
    stamp = str(int(at))
    digest = hmac.new(secret.encode(), f"v0:{stamp}:{body}".encode(), hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/x-www-form-urlencoded",
        "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
        "X-Slack-Request-Timestamp": stamp,
        "X-Slack-Signature": f"v0={digest}",
    }


@dataclass
class Deliveries:
    """The way to the app.

    Attributes:
        request_url: the app's URL; without one, the app is in Socket Mode.
        patience: seconds that the app has to acknowledge.
        made: all that were made, oldest first.
    """

    slack: Workspace
    sockets: Sockets
    http: aiohttp.ClientSession
    signing_secret: str
    request_url: str | None = None
    patience: float = SECONDS_TO_ACKNOWLEDGE
    made: list[Delivery] = field(default_factory=list[Delivery])

    async def deliver(self, interaction: Interaction) -> Delivery:
        """Deliver, and wait until it is acknowledged or failed."""
        delivery = Delivery(interaction)
        self.made.append(delivery)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self.patience):
                await self._deliver(delivery)
        except TimeoutError:
            delivery.failed = "operation_timeout"
        except (NotConnected, aiohttp.ClientError):
            delivery.failed = "dispatch_failed"
        delivery.seconds = loop.time() - began
        self.slack.news.set()
        return delivery

    async def _deliver(self, delivery: Delivery) -> None:
        interaction = delivery.interaction
        if self.request_url is None:
            answerable = interaction.payload.get("type") != "block_actions"
            delivery.answer = await self.sockets.deliver(interaction.kind, interaction.payload, answerable=answerable)
            return
        delivery.body = form(interaction)
        delivery.headers = signed(delivery.body, self.signing_secret, self.slack.now())
        delivery.status, said = await self.post(delivery.body, delivery.headers)
        if delivery.status != 200:
            delivery.failed = "dispatch_failed"
        else:
            delivery.answer = said if isinstance(said, dict) else {"text": said} if said else {}

    async def post(self, body: str, headers: dict[str, str]) -> tuple[int, Any]:
        """Send a request as it is; gives the status, and the JSON or the text of the answer."""
        assert self.request_url is not None
        async with self.http.post(self.request_url, data=body.encode(), headers=headers) as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json" and bool(text)
            return answer.status, json.loads(text) if is_json else text


def form(interaction: Interaction) -> str:
    """The body of a request: a command's own fields, or `payload=` with JSON."""
    if interaction.kind == "slash_commands":
        return urlencode(interaction.payload)
    return urlencode({"payload": json.dumps(interaction.payload)})
