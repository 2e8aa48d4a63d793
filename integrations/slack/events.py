"""Requests of Slack over HTTP, at `/slack/events`.

What belongs here: what a request may be before Bolt sees it, and that none is taken twice. What does not: signatures
and timestamps, which Bolt checks, and what a request says (`inbound`).

https://docs.slack.dev/authentication/verifying-requests-from-slack
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from slack_bolt.async_app import AsyncApp
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_bolt.response import BoltResponse
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)

PATH = "/slack/events"

LARGEST = 1 << 20
"""Bytes of a body: Slack's largest messages come far below."""

KINDS = frozenset({"application/x-www-form-urlencoded", "application/json"})

STAMP = "x-slack-request-timestamp"

SIGNED = ("content-type", STAMP, "x-slack-signature")
"""The fields that Bolt is given: others are not signed, and some of them would change what it does."""

GOOD_FOR = 600.0
"""Seconds after which a request is refused for its age alone: those by which it may be too early, and too late."""


class Events:
    """The ASGI app. Requests that were taken are remembered in this process for as long as they could come again."""

    def __init__(self, app: AsyncApp) -> None:
        self._app = app
        self._taken: dict[str, float] = {}
        app.use(self._once)  # pyright: ignore[reportUnknownMemberType]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
        except ClientDisconnect:
            return
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            return Response(status_code=405, headers={"Allow": "POST"})
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in KINDS:
            return Response(status_code=415)
        signed = {name: request.headers.get(name, "") for name in SIGNED}
        if not signed[STAMP].isdecimal():
            return Response(status_code=401)
        if (body := await _read(request)) is None:
            return Response(status_code=413)
        try:
            given = AsyncBoltRequest(body=body.decode(), headers={**signed})
            answer = await self._app.async_dispatch(given)
        except Exception as error:  # noqa: BLE001 - Bolt takes bodies apart without a look at what they are
            log.warning("Slack, or somebody else, sent what cannot be read (%s).", type(error).__name__)
            return Response(status_code=400)
        return Response(answer.body, answer.status, {name: each[0] for name, each in answer.headers.items()})

    async def _once(
        self, request: AsyncBoltRequest, next_: Callable[[], Awaitable[BoltResponse]]
    ) -> BoltResponse | None:
        """Refuse what was taken before: of a request with the same signature every byte is the same."""
        now = time.monotonic()
        self._taken = {each: until for each, until in self._taken.items() if now < until}
        for signature in request.headers.get("x-slack-signature", ()):
            if signature in self._taken:
                return BoltResponse(status=401, body="")
            self._taken[signature] = now + GOOD_FOR
        return await next_()


async def _read(request: Request) -> bytes | None:
    """The body; None when it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            return None
    return bytes(body)
