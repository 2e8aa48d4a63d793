"""Listening to server-sent events: httpx reads a whole answer from an ASGI application, and a stream has no end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from starlette.types import ASGIApp, Message

LONGEST = 10.0
"""Seconds that a test waits for something to be said."""


@dataclass
class Heard:
    """What a stream has said: the status, then one piece after the other; None when it has ended."""

    status: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    pieces: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue[str | None])

    async def piece(self) -> str | None:
        """The next piece."""
        async with asyncio.timeout(LONGEST):
            return await self.pieces.get()

    async def event(self) -> tuple[str, dict[str, Any]]:
        """The next event that tells something, and its data."""
        while (piece := await self.piece()) is not None:
            if piece.startswith("event:") and not piece.startswith("event: beat"):
                name, data = piece.strip().split("\n")
                return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))
        raise AssertionError("the stream has ended")

    async def end(self) -> None:
        """Wait until the stream ends by itself."""
        while await self.piece() is not None:
            continue


@asynccontextmanager
async def listening(app: ASGIApp, client: httpx2.AsyncClient, address: str) -> AsyncGenerator[Heard]:
    """Ask for `address` as `client`, and leave at the end of the block."""
    heard, leaving = Heard(), asyncio.Event()
    request = client.build_request("GET", address)
    asked: list[Message] = [{"type": "http.request", "body": b""}]

    async def receive() -> Message:
        if asked:
            return asked.pop()
        await leaving.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            heard.status = message["status"]
            heard.begun.set()
        elif message.get("body"):
            heard.pieces.put_nowait(message["body"].decode())

    async def answer() -> None:
        await app(_scope(request), receive, send)
        heard.pieces.put_nowait(None)

    answering = asyncio.create_task(answer())
    async with asyncio.timeout(LONGEST):
        await heard.begun.wait()
    yield heard
    leaving.set()
    async with asyncio.timeout(LONGEST):
        await answering


def _scope(request: httpx2.Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.url.path,
        "raw_path": request.url.raw_path,
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8750),
    }
