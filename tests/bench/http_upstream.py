"""The fast upstream over Streamable HTTP, on a free loopback port; prints its URL. Its argument: how many tools."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import httptools
import uvloop

from tests.bench.answers import Answer, Server


class _Connection(asyncio.Protocol):
    """One client's connection; the `on_` methods are what httptools calls."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        answer = self._server.answer(self._body) if self._body else Answer("", b"")  # a DELETE has no body
        status = "200 OK" if answer.body or not self._body else "202 Accepted"
        session = "Mcp-Session-Id: fast\r\n" if answer.method == "initialize" else ""
        self._transport.write(f"HTTP/1.1 {status}\r\n{session}".encode() + _framed(answer))


def _framed(answer: Answer) -> bytes:
    """The rest of an HTTP answer."""
    if answer.events:
        event = b"event: message\ndata: %s\n\n" % answer.body
        head = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        return head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(event), event)
    return b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(answer.body), answer.body)


async def _serve() -> None:
    fast = Server(*map(int, sys.argv[1:]))
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(fast), "127.0.0.1", 0)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp\n")
    sys.stdout.flush()
    await server.serve_forever()


uvloop.run(_serve())
