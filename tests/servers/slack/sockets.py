"""Socket Mode: `apps.connections.open`, the WebSocket connections of the app, and envelopes that it must acknowledge.

What belongs here: connections, and getting one envelope acknowledged. What does not: what payloads look like.
Source: https://docs.slack.dev/apis/events-api/using-socket-mode/
"""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from tests.servers.slack.objects import APP, Json
from tests.servers.slack.workspace import Workspace

MOST_CONNECTIONS = 10
"""https://docs.slack.dev/apis/events-api/using-socket-mode/#connections"""


@dataclass(eq=False)
class Connection:
    """One WebSocket connection of the app; `gone` is set at its end, `pongs` are what its pings were answered."""

    request: web.Request
    ws: web.WebSocketResponse
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    pongs: list[bytes] = field(default_factory=list[bytes])


class NotConnected(Exception):
    """The app has no connection, so nothing can be delivered."""


@dataclass
class Sockets:
    """The connections of the app.

    Attributes:
        base: the URL at which connections are made, `ws://…/link`.
        open: the present connections, oldest first.
        opened: how many there ever were.
        refusing: whether handshakes are answered 503.
        silent: whether pings are left unanswered, so that the app takes its connection for dead.
        astray: what the app sent that acknowledges nothing.
    """

    slack: Workspace
    base: str = ""
    open: list[Connection] = field(default_factory=list[Connection])
    opened: int = 0
    refusing: bool = False
    silent: bool = False
    astray: list[str] = field(default_factory=list[str])
    _tickets: set[str] = field(default_factory=set[str])
    _pending: dict[str, asyncio.Future[Json]] = field(default_factory=dict[str, "asyncio.Future[Json]"])
    _count: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def new_url(self) -> str:
        """A URL for one connection."""
        ticket = f"ticket-{next(self._count)}"
        self._tickets.add(ticket)
        return f"{self.base}/?ticket={ticket}&app_id={APP}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One connection, from its handshake to its end."""
        ticket = request.query.get("ticket", "")
        if self.refusing:
            return web.Response(status=503)
        if ticket not in self._tickets:
            return web.Response(status=403)
        self._tickets.remove(ticket)
        ws = web.WebSocketResponse(autoping=False)
        await ws.prepare(request)
        if len(self.open) >= MOST_CONNECTIONS:
            await ws.send_json({"type": "disconnect", "reason": "too_many_websockets", "debug_info": DEBUG})
            await ws.close()
            return ws
        connection = Connection(request, ws)
        self.open.append(connection)
        self.opened += 1
        await ws.send_json(self._hello())
        self.slack.news.set()
        try:
            await self._listen(connection)
        finally:
            self._leave(connection)
        return ws

    def _hello(self) -> Json:
        info = {**DEBUG, "approximate_connection_time": 18060}
        connection = {"app_id": APP}
        return {
            "type": "hello",
            "num_connections": len(self.open),
            "connection_info": connection,
            "debug_info": info,
        }

    async def _listen(self, connection: Connection) -> None:
        async for frame in connection.ws:
            if frame.type is WSMsgType.PING and not self.silent:
                await connection.ws.pong(frame.data)
            elif frame.type is WSMsgType.PONG:
                connection.pongs.append(bytes(frame.data))
            elif frame.type is WSMsgType.TEXT:
                self._acknowledged(frame.data)
            self.slack.news.set()

    def _acknowledged(self, text: str) -> None:
        try:
            said = json.loads(text)
            waiting = self._pending[said["envelope_id"]]
        except (ValueError, KeyError, TypeError):
            self.astray.append(text)
            return
        if not waiting.done():
            waiting.set_result(said.get("payload") or {})

    def _leave(self, connection: Connection) -> None:
        if connection in self.open:
            self.open.remove(connection)
        connection.gone.set()
        self.slack.news.set()

    async def deliver(self, kind: str, payload: Json, *, answerable: bool) -> Json:
        """Send an envelope until it is acknowledged; gives the payload of the acknowledgement, `{}` without one.

        It is sent again over another connection if the one that it went over is closed before.

        Raises:
            NotConnected: there was no connection to begin with.
        """
        if not self.open:
            raise NotConnected
        name = f"envelope-{next(self._count)}"
        acknowledged = self._pending[name] = asyncio.get_running_loop().create_future()
        envelope: Json = {"envelope_id": name, "type": kind, "accepts_response_payload": answerable, "payload": payload}
        try:
            for attempt in itertools.count():
                again = {"retry_attempt": attempt, "retry_reason": "timeout"} if attempt else {}
                if await self._sent(envelope | again, acknowledged):
                    return acknowledged.result()
                await self.slack.until(lambda: self.open)
        finally:
            del self._pending[name]
        raise AssertionError

    async def _sent(self, envelope: Json, acknowledged: asyncio.Future[Json]) -> bool:
        connection = self.open[0]
        self.open.append(self.open.pop(0))
        gone = asyncio.ensure_future(connection.gone.wait())
        try:
            await connection.ws.send_json(envelope)
            await asyncio.wait({gone, acknowledged}, return_when=asyncio.FIRST_COMPLETED)
        except ConnectionError:
            self._leave(connection)
        finally:
            gone.cancel()
        return acknowledged.done()

    async def disconnect(self, reason: str = "refresh_requested") -> None:
        """Ask the app to connect anew: `warning` closes nothing yet, `refresh_requested` and `link_disabled` close."""
        for connection in list(self.open):
            await connection.ws.send_json({"type": "disconnect", "reason": reason, "debug_info": DEBUG})
            if reason != "warning":
                await connection.ws.close()

    def cut(self) -> None:
        """Lose all connections, without a word."""
        for connection in list(self.open):
            if connection.request.transport is not None:
                connection.request.transport.abort()
            self._leave(connection)

    async def ping(self) -> None:
        """Send a ping over every connection and wait until all are answered.

        Raises:
            TimeoutError: one was not.
        """
        word = f"ping-{next(self._count)}".encode()
        asked = list(self.open)
        for connection in asked:
            await connection.ws.ping(word)
        await self.slack.until(lambda: all(word in each.pongs for each in asked))


DEBUG: Json = {"host": "applink-local", "build_number": 1}
