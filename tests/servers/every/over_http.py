"""The server at a URL: Streamable HTTP with sessions, streams that can be resumed, and the fields of both eras.

What belongs here: HTTP. What does not: what a message is answered with.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.servers.every import legacy, modern, odd, speech
from tests.servers.every.session import Session, is_modern, meta_of
from tests.servers.every.speech import Message, Style

STATUS = {-32700: 400, -32600: 400, -32602: 400, -32601: 404}
"""The HTTP status of errors in the modern era (2026-07-28, Transports)."""


@dataclass
class Stream:
    """What is said in answer to one request, or aside; events are kept, so that it can be resumed.

    Args:
        number: the first part of its events' ids; None for a stream that cannot be resumed.
    """

    number: int | None
    style: Style
    messages: list[Message] = field(default_factory=list[Message])
    sent: int = 0
    over: bool = False
    cut: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, message: Message) -> None:
        """Add a message."""
        self.messages.append(message)
        self.news.set()

    def end(self) -> None:
        """Nothing more comes."""
        self.over = True
        self.news.set()

    def close(self) -> None:
        """Close what carries it now."""
        self.cut = True
        self.news.set()

    async def first(self) -> Message | None:
        """The first message, if there is ever one."""
        while not self.messages and not self.over:
            await self._more()
        return self.messages[0] if self.messages else None

    async def events(self, after: int) -> AsyncGenerator[bytes]:
        """The events after the one of that number, until it is over or cut."""
        self.sent = after
        while True:
            while self.sent < len(self.messages):
                self.sent += 1
                yield speech.event(self.messages[self.sent - 1], self.style, self.sent, self._id(self.sent))
            if self.over or self.cut:
                self.cut = False
                return
            await self._more()

    async def _more(self) -> None:
        self.news.clear()
        await self.news.wait()

    def _id(self, number: int) -> str | None:
        return None if self.number is None else f"{self.number}-{number}"


@dataclass
class _Served:
    """A legacy session: stream 0 is the one that a GET opens."""

    streams: list[Stream]
    session: Session
    listened_to: bool = False


class EveryHttp:
    """The server.

    Args:
        received: what it was sent, oldest first: fields and message.
    """

    def __init__(self) -> None:
        self.url = ""
        self.reset(Style.PLAIN)

    def reset(self, style: Style) -> None:
        """Be as new, and speak in this style."""
        self.style = style
        self.received: list[tuple[dict[str, str], Message | None]] = []
        self._sessions: dict[str, _Served] = {}
        self._opened = 0
        self._modern = Session(lambda message: None)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request."""
        message: Message | None = json.loads(await request.read()) if request.method == "POST" else None
        fields = {name.lower(): ", ".join(request.headers.getall(name)) for name in request.headers}
        self.received.append(({":method": request.method, **fields}, message))
        asked = request.headers.get(odd.ASKED_FIELD) or meta_of(message or {}).get(odd.ASKED)
        if asked is not None:
            return await _oddly(request, odd.ANSWERS[asked], (message or {}).get("id"))
        if message is not None and is_modern(message):
            return await self._post_modern(request, message)
        return await self._legacy(request, message)

    async def _post_modern(self, request: web.BaseRequest, message: Message) -> web.StreamResponse:
        stream = Stream(None, self.style)
        task = self._modern.take(message, modern.METHODS, stream.say, stream.close)
        if task is None:
            return web.Response(status=202)
        task.add_done_callback(lambda _: stream.end())
        try:
            first = await stream.first()
            if first is not None and "method" not in first:
                return self._whole(first, STATUS.get(first.get("error", {}).get("code"), 200))
            return await self._streamed(request, stream, b"", 0)
        finally:
            task.cancel()

    # -- legacy -------------------------------------------------------------------------------------------------------

    async def _legacy(self, request: web.BaseRequest, message: Message | None) -> web.StreamResponse:
        session_id = request.headers.get("mcp-session-id")
        if message is not None and message.get("method") == "initialize":
            return await self._initialize(message)
        if session_id is None:
            return self._refuse(400, -32600, "Bad Request: Mcp-Session-Id is missing")
        served = self._sessions.get(session_id)
        if served is None:
            return self._refuse(404, -32001, "Session not found")
        if request.headers.get("mcp-protocol-version", "2025-11-25") != "2025-11-25":
            return self._refuse(400, -32600, "Bad Request: unsupported protocol version")
        match request.method:
            case "POST":
                return await self._post(request, served, message or {})
            case "GET":
                return await self._get(request, served)
            case _:
                del self._sessions[session_id]
                for stream in served.streams:
                    stream.end()
                return web.Response(status=204)

    async def _initialize(self, message: Message) -> web.StreamResponse:
        self._opened += 1
        session_id, stream = f"session-{self._opened}", Stream(0, self.style)
        served = self._sessions[session_id] = _Served([stream], Session(stream.say))
        answered = Stream(None, self.style)
        served.session.take(message, legacy.METHODS, answered.say, answered.close)
        response = self._whole(await answered.first() or {})
        response.headers["Mcp-Session-Id"] = session_id
        return response

    async def _post(self, request: web.BaseRequest, served: _Served, message: Message) -> web.StreamResponse:
        stream = Stream(len(served.streams), self.style)
        task = served.session.take(message, legacy.METHODS, stream.say, stream.close)
        if task is None:
            return web.Response(status=202)
        served.streams.append(stream)
        task.add_done_callback(lambda _: stream.end())
        first = await stream.first()
        if first is not None and "method" not in first:
            return self._whole(first)
        return await self._streamed(request, stream, speech.priming(f"{stream.number}-0"), 0)

    async def _get(self, request: web.BaseRequest, served: _Served) -> web.StreamResponse:
        if (last := request.headers.get("last-event-id")) is not None:
            number, after = map(int, last.split("-"))
            return await self._streamed(request, served.streams[number], b"", after)
        if served.listened_to:
            return self._refuse(409, -32600, "Conflict: there is a stream already")
        served.listened_to = True
        try:
            return await self._streamed(request, served.streams[0], speech.priming("0-0"), 0)
        finally:
            served.listened_to = False

    # -- answers ------------------------------------------------------------------------------------------------------

    async def _streamed(self, request: web.BaseRequest, stream: Stream, first: bytes, after: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        await response.write(speech.opening(self.style) + first or b":\n\n")
        async for event in stream.events(after):
            await response.write(event)
        return response

    def _whole(self, message: Message, status: int = 200) -> web.Response:
        return web.Response(body=speech.body(message, self.style), status=status, content_type="application/json")

    def _refuse(self, status: int, code: int, told: str) -> web.Response:
        return self._whole({"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": told}}, status)


async def _oddly(request: web.BaseRequest, answer: odd.Answer, request_id: Any) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status)
    for name, value in (*answer.fields, *([("Content-Type", answer.kind)] if answer.kind else [])):
        response.headers.add(name, value)
    await response.prepare(request)
    for chunk in answer.filled(request_id):
        await response.write(chunk)
    return response


@contextlib.asynccontextmanager
async def every_http() -> AsyncGenerator[EveryHttp]:
    """A running one on a free port."""
    server = EveryHttp()
    runner = web.ServerRunner(web.Server(server.answer, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}/mcp"
    try:
        yield server
    finally:
        await runner.cleanup()
