"""The era of sessions (2024-11-05 to 2025-11-25): opened by `initialize`, listened to by `GET`, ended by `DELETE`.

What belongs here: the session, and opening another one when the broker does not know it any more. What does not:
requests within it (`exchange`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass
from typing import Any, cast

import aiohttp

from broker.bridge.exchange import JSON_FIELDS, Exchange, Fields, Write
from broker.bridge.http import FIRST_PAUSE, LONGEST_PAUSE, BrokerHttp, Refused, is_stream
from broker.bridge.streams import Stream
from broker.errors import BrokerError, SessionUnknown, UpstreamError, UpstreamInterrupted, UpstreamUnreachable
from broker.gateway.jsonrpc import Message

LEAVE_WITHIN = 0.8
"""Seconds that the end of a session may take when the client has left, which soon terminates who is still there."""

RENEWED_WITHIN = 10.0
"""Seconds that a session that was opened again may take for what the lost one had been asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """What a server said in its answer to `initialize`."""

    id: str | None
    version: str | None

    @property
    def fields(self) -> Fields:
        """The fields that name it."""
        named = {"mcp-session-id": self.id, "mcp-protocol-version": self.version}
        return {name: value for name, value in named.items() if value is not None}


class Wishes:
    """What the client asked of its session as a whole: its log level, and the resources it wants to hear of."""

    def __init__(self) -> None:
        self._granted: dict[tuple[str, str], Exchange] = {}

    def note(self, exchange: Exchange) -> None:
        """Take note of a request that succeeded."""
        message = exchange.message
        uri = str(message.params.get("uri"))
        match message.method:
            case "logging/setLevel":
                self._granted[message.method, ""] = exchange
            case "resources/subscribe":
                self._granted[message.method, uri] = exchange
            case "resources/unsubscribe":
                self._granted.pop(("resources/subscribe", uri), None)
            case _:
                pass

    def __iter__(self) -> Iterator[Exchange]:
        return iter([*self._granted.values()])


class Legacy:
    """The client's session with an upstream.

    Args:
        write: passes a message on to the client.
    """

    resumes = True

    def __init__(self, http: BrokerHttp, write: Write) -> None:
        self._http = http
        self._write = write
        self._session: Session | None = None
        self._wishes = Wishes()
        self._opened: Exchange | None = None  # the client's own initialize, which opens another session as well
        self._confirmed: bytes | None = None  # and its notifications/initialized
        self._reopening: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a session."""
        return self._session is not None

    async def standing(self, message: Message) -> Session | None:
        """The present session, to which everything belongs but what opens another; one that is being opened first."""
        if message.method == "initialize":
            return None
        if self._reopening is not None:
            with suppress(BrokerError):
                await asyncio.shield(self._reopening)
        return self._session

    def fields(self, message: Message) -> Fields:
        """`Mcp-Session-Id` and `MCP-Protocol-Version`."""
        session = self._session if message.method != "initialize" else None
        return {**JSON_FIELDS, **(session.fields if session is not None else {})}

    def heard(self, exchange: Exchange, answer: Mapping[str, Any], session: str | None) -> None:
        """Take the session that `initialize` opened, and note what is asked of it."""
        result: Any = answer.get("result")
        if not isinstance(result, dict):
            return
        if exchange.message.method != "initialize":
            self._wishes.note(exchange)
        else:
            version = cast("dict[str, Any]", result).get("protocolVersion")
            self._session = Session(session, version if isinstance(version, str) else None)
            self._opened = exchange
            self._wishes = Wishes()

    async def confirm(self, line: bytes) -> None:
        """Send the client's `notifications/initialized`; then listen to what the server says of its own accord.

        Raises:
            UpstreamError: it may not have arrived.
        """
        self._confirmed = line
        await self._confirm()

    async def _confirm(self) -> None:
        session = self._session
        if session is None or self._confirmed is None:
            return
        response = await self._http.send("POST", {**JSON_FIELDS, **session.fields}, self._confirmed)
        response.release()
        if self._listening is not None:
            self._listening.cancel()
        self._listening = asyncio.create_task(self._listen(session))

    async def close(self, *, ending: bool) -> None:
        """Stop listening; if `ending`, end the session as well, if the broker can be told in time."""
        for task in (self._listening, self._reopening):
            if task is not None:
                task.cancel()
        session = self._session
        if ending and session is not None and session.id is not None:
            with suppress(UpstreamError, TimeoutError):
                async with asyncio.timeout(LEAVE_WITHIN):
                    (await self._http.send("DELETE", session.fields, patience=0)).release()

    # -- a session that is over ---------------------------------------------------------------------------------------

    async def reopen(self, lost: object) -> None:
        """Open another session with the client's own words, unless somebody has; the client does not notice.

        Raises:
            Refused, UpstreamUnreachable: it cannot be opened.
        """
        if self._opened is None:
            return
        if self._session is lost and (self._reopening is None or self._reopening.done()):
            self._reopening = asyncio.create_task(self._open_again(self._opened))
        if self._reopening is None or self._reopening.done():
            return
        try:
            await asyncio.shield(self._reopening)
        except UpstreamInterrupted as error:
            raise UpstreamUnreachable(f"The MCP session was over, and no other could be opened. {error}") from error

    async def _open_again(self, opened: Exchange) -> None:
        lost, wishes = self._session, self._wishes
        await Exchange(opened.line, opened.message, self, self._http, _to_nobody).run()
        if self._session is lost:
            raise SessionUnknown
        self._wishes = wishes
        await self._confirm()
        await self._wish_again()

    async def _wish_again(self) -> None:
        """Ask the new session for what the lost one was asked for; the client has its answers already."""
        with suppress(UpstreamError, TimeoutError):  # the broker went away again, and the next session is asked
            async with asyncio.timeout(RENEWED_WITHIN):
                for wish in self._wishes:
                    with suppress(Refused):
                        again = Exchange(wish.line, wish.message, self, self._http, _to_nobody)
                        await again.attempt(self._session)

    # -- what the server says of its own accord -----------------------------------------------------------------------

    async def _listen(self, session: Session) -> None:
        """Pass the `GET` stream on, and ask for it again whenever it ends.

        A session that is over is not opened again for it: another connection of the same grant may have taken its
        place, and would have to give way in turn.
        """
        stream, pause = Stream(), FIRST_PAUSE
        while self._session is session:
            with suppress(UpstreamError):
                response = await self._http.send("GET", stream.fields(session.fields), patience=math.inf)
                with closing(response):
                    if is_stream(response):
                        pause = await self._hear(stream, response, pause)
                    elif response.status < 500:
                        return  # 405: there is none
            await asyncio.sleep(pause)
            pause = max(stream.pause, min(2 * pause, LONGEST_PAUSE))

    async def _hear(self, stream: Stream, response: aiohttp.ClientResponse, pause: float) -> float:
        """Pass one connection of it on; returns how long to wait then: longer and longer while nothing comes."""
        async with aclosing(stream.messages(response)) as messages:
            async for line in messages:
                await self._write(line)
                pause = stream.pause
        return pause


async def _to_nobody(line: bytes) -> None:
    """The client has an answer to its `initialize`."""
