"""An HTTP upstream before a server that a test writes byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from broker.gateway.upstreams import Headers, UpstreamReply, UpstreamRequest
from broker.gateway.upstreams.http import HttpUpstream
from tests.servers import BOUND, Handler, raw_http, read_http

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
BEGUN = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n3\r\n: a\r\n"


@contextlib.asynccontextmanager
async def upstream(url: str, headers: dict[str, str] | None = None, **options: Any) -> AsyncGenerator[HttpUpstream]:
    """One at a URL."""
    made = HttpUpstream("git", url, headers, **options)
    try:
        async with asyncio.timeout(BOUND):
            yield made
    finally:
        await made.close()


@contextlib.asynccontextmanager
async def answering(
    handler: Handler, headers: dict[str, str] | None = None, **options: Any
) -> AsyncGenerator[HttpUpstream]:
    """One before a server whose connections `handler` serves."""
    async with raw_http(handler) as url, upstream(url, headers, **options) as server:
        yield server


def always(response: bytes) -> Handler:
    """Answers one request and closes the connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        writer.write(response)

    return handle


def each(*responses: bytes) -> Handler:
    """Answers the requests of a connection one after the other, and then waits for its end."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for response in responses:
            await read_http(reader)
            writer.write(response)
        await reader.read()

    return handle


def post(
    message: dict[str, Any] | None = None,
    headers: Headers = (),
    session: str | None = None,
    *,
    modern: bool = False,
    grant: str = "g1",
) -> UpstreamRequest:
    """A request with a message."""
    return UpstreamRequest("POST", grant, modern, message or {"id": 1, "method": "m"}, headers, session)


def get(session: str | None = "s1") -> UpstreamRequest:
    """A request for the stream of a session."""
    return UpstreamRequest("GET", "g1", modern=False, session=session)


async def text(reply: UpstreamReply) -> bytes:
    """The whole body."""
    return b"".join([chunk async for chunk in reply.chunks])


async def asked(
    request: UpstreamRequest, headers: dict[str, str] | None = None
) -> tuple[str, dict[str, list[str]], bytes]:
    """What a server sees of `request`: the request line, its fields and the body."""
    seen: list[tuple[list[str], bytes]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_http(reader))
        writer.write(OK)

    async with answering(handle, headers) as server:
        await text(await server.send(request))
    (head, body), fields = seen[0], dict[str, list[str]]()
    for line in head[1:]:
        name, _, value = line.partition(": ")
        fields.setdefault(name.lower(), []).append(value)
    return head[0], fields, body
