"""Serving: who gets which request, and how all of it ends.

What belongs here: the way of a connection to the part that answers it. What does not: answering.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.approvals.feed import Feed
from broker.approvals.outbox import Outbox
from broker.front import Connection, Place, Server, SharedConnection, taking
from broker.gateway.endpoint import PATH, Endpoint

if TYPE_CHECKING:
    from integrations.slack.inbound import Inbound

log = logging.getLogger(__name__)

FOR_WHAT_RUNS, FOR_UPSTREAMS, FOR_CLIENTS = 0.6, 0.85, 0.9
"""The parts of `server.stop_within` until calls may still end, then their upstreams, and clients read what they are
told. What is left is for what they leave behind, and for the store."""

FOR_MESSAGES = 0.05
"""The part of it that a message which is being posted has to end, while clients read."""


class Router:
    """Sends `/mcp/…` to the gateway, some `paths` to others, and everything else to the pages and the API."""

    def __init__(self, gateway: ASGIApp, web: ASGIApp, paths: Mapping[str, ASGIApp]) -> None:
        self._gateway = gateway
        self._web = web
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one on, as ASGI has it."""
        await self._app(scope)(scope, receive, send)

    def _app(self, scope: Scope) -> ASGIApp:
        if scope["type"] != "http":
            return self._web
        return self._gateway if scope["path"].startswith(PATH) else self._paths.get(scope["path"], self._web)


@asynccontextmanager
async def serving(
    app: ASGIApp,
    listener: socket.socket,
    place: Place | None,
    limit: float,
    closing: Callable[[], Awaitable[None]],
) -> AsyncGenerator[None]:
    """Serve until the end of the context, which comes after `limit` seconds at the latest.

    Args:
        place: of this process among those that share the listener; None: it has it alone.
        closing: ends what is under way, once no new connection is taken.
    """
    config = uvicorn.Config(
        app,
        http=Connection if place is None else partial(SharedConnection, place),  # pyright: ignore[reportArgumentType] - it is called
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # what a request says of where it came from is anybody's word
    )
    server = Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        with nullcontext() if place is None else taking(place, server):
            yield
    finally:
        deadline = asyncio.get_running_loop().time() + limit
        server.should_exit = True  # takes no new connection from here on
        await closing()
        await server.end(serving, deadline - limit * (1 - FOR_CLIENTS), deadline)


async def close(
    endpoint: Endpoint, inbounds: Sequence[Inbound], feed: Feed, outboxes: Sequence[Outbox], limit: float
) -> None:
    """End what people just clicked and the agents' calls, then whoever follows the feed, then what is being told."""
    await asyncio.gather(_close(endpoint, limit), *(inbound.end(limit * FOR_WHAT_RUNS) for inbound in inbounds))
    feed.dismiss()
    await asyncio.gather(*(outbox.end(limit * FOR_MESSAGES) for outbox in outboxes))


async def _close(endpoint: Endpoint, limit: float) -> None:
    try:
        async with asyncio.timeout(limit * FOR_UPSTREAMS):
            await endpoint.close(limit * FOR_WHAT_RUNS)
    except TimeoutError:
        log.warning("The broker's MCP servers did not end in time: they are ended by force.")
        endpoint.kill()
