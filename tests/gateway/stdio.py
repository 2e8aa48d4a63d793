"""A command as an upstream, driven without a broker.

What belongs here: sending and reading. What does not: any statement about behaviour.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

from broker.gateway.sse import events
from broker.gateway.upstreams import UpstreamReply, UpstreamRequest
from broker.gateway.upstreams.stdio import StdioUpstream
from broker.gateway.wire import loads
from tests.servers import BOUND, RAW_STDIO, ROOT

MODERN: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
CLIENT: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}
BOTH = ((b"accept", b"application/json, text/event-stream"),)


@contextlib.asynccontextmanager
async def upstream(
    *command: str, env: Mapping[str, str] | None = None, **patience: float
) -> AsyncGenerator[StdioUpstream]:
    """A command as an upstream, the raw server when none is named."""
    made = StdioUpstream("raw", command or RAW_STDIO, env, ROOT, **patience)
    try:
        async with asyncio.timeout(BOUND):
            yield made
    finally:
        await made.close()


def post(
    method: str,
    params: Mapping[str, Any] | None = None,
    /,
    *,
    id: str | int | None = 1,  # noqa: A002 - the message's own word
    session: str | None = None,
    grant: str = "g1",
    headers: tuple[tuple[bytes, bytes], ...] = BOTH,
) -> UpstreamRequest:
    """A message of the modern era, unless there is a session."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params or {}}
    return UpstreamRequest(
        method="POST",
        grant_id=grant,
        modern=session is None and method != "initialize",
        message=message if id is None else {**message, "id": id},
        headers=headers,
        session=session,
    )


async def opened(server: StdioUpstream, grant: str = "g1") -> str:
    """A legacy session; returns its id."""
    reply = await server.send(post("initialize", CLIENT, grant=grant))
    assert reply.status == 200
    assert reply.session is not None
    return reply.session


async def said(reply: UpstreamReply) -> dict[str, Any]:
    """The one message that an answer is."""
    return loads(b"".join([chunk async for chunk in reply.chunks]))


async def result(server: StdioUpstream, request: UpstreamRequest) -> dict[str, Any]:
    """What a request is answered with."""
    return (await said(await server.send(request)))["result"]


def kind(reply: UpstreamReply) -> bytes:
    """The content type of an answer."""
    return dict(reply.headers)[b"content-type"]


def token(value: str | int, **params: Any) -> dict[str, Any]:
    """Params with a progress token."""
    return {**params, "_meta": {"progressToken": value, "kept": True}}


def runs(pid: int) -> bool:
    """Whether such a process runs; one that nobody has reaped runs no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def gone(pid: int) -> None:
    """Wait until such a process runs no more."""
    while runs(pid):  # noqa: ASYNC110 - a grandchild tells us nothing
        await asyncio.sleep(0.01)


async def streaming(server: StdioUpstream, session: str | None) -> UpstreamReply:
    """A held request, by the name of `a`, whose stream has begun with one progress."""
    held = asyncio.create_task(server.send(post("test/hold", token(1, name="a"), id=7, session=session)))
    await asyncio.sleep(0)
    await result(server, post("test/progress", {"name": "a", "progress": 1}, session=session))
    return await held


def get(session: str | None, grant: str = "g1") -> UpstreamRequest:
    """The stream for what belongs to no request."""
    return UpstreamRequest("GET", grant, modern=False, session=session)


def response(session: str, request_id: Any, **answer: Any) -> UpstreamRequest:
    """A client's answer to a request of the server."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id, **answer}
    return UpstreamRequest("POST", "g1", modern=False, message=message, session=session)


class Listening:
    """A stream that is read message by message."""

    def __init__(self, reply: UpstreamReply) -> None:
        self.reply = reply
        self._events = events(reply.chunks)

    async def next(self) -> dict[str, Any]:
        """The next message."""
        async for event in self._events:
            if event.data:
                return loads(event.data)
        raise StopAsyncIteration

    async def rest(self) -> list[dict[str, Any]]:
        """Everything that follows."""
        return [loads(event.data) async for event in self._events if event.data]

    async def ended(self) -> bool:
        """Whether nothing follows."""
        return await self.rest() == []


async def seen(server: StdioUpstream, session: str | None = None) -> list[dict[str, Any]]:
    """What the process has read."""
    return (await result(server, post("test/seen", session=session, headers=())))["seen"]


def note(method: str, **params: Any) -> dict[str, Any]:
    """A notification."""
    return {"method": method, "params": params}
