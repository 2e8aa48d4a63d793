"""The fast upstream over Streamable HTTP, on a free loopback port; prints its URL."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import httptools
import uvloop

from tests.bench.answers import answer


class _Connection(asyncio.Protocol):
    """One client's connection; the `on_` methods are what httptools calls."""

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
        method, response = answer(self._body) if self._body else ("", b"")  # a DELETE has no body
        status = "200 OK" if response or not self._body else "202 Accepted"
        session = "Mcp-Session-Id: fast\r\n" if method == "initialize" else ""
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{session}Content-Length: {len(response)}\r\n\r\n"
        )
        self._transport.write(head.encode() + response)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp\n")
    sys.stdout.flush()
    await server.serve_forever()


uvloop.run(_serve())
