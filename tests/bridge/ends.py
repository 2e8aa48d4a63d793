"""Both ends of the bridge: real MCP clients and bare lines on the one, a broker or a bare HTTP server on the other.

What belongs here: starting them. What does not: any statement about behaviour.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.gateway.scene import CLIENT, Agent
from tests.servers import BOUND, ROOT, Handler, raw_http
from tests.warm import warm

Message = dict[str, Any]

INITIALIZE: Message = {"jsonrpc": "2.0", "id": "open", "method": "initialize", "params": CLIENT}
INITIALIZED: Message = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def command(upstream: str, *options: str) -> list[str]:
    """What a client is told to start."""
    return warm("broker.cli", "connect", upstream, *options)


def environment(url: str, token: str) -> dict[str, str]:
    """With what."""
    return {"BROKER_URL": url, "BROKER_GRANT": token, "PYTHONPATH": str(ROOT)}


@contextlib.asynccontextmanager
async def client(agent: Agent, upstream: str, mode: str, **options: Any) -> AsyncGenerator[Client]:
    """A real client of the SDK that started the bridge."""
    program, *arguments = command(upstream)
    parameters = StdioServerParameters(command=program, args=arguments, env=environment(agent.url, agent.token))
    async with Client(stdio_client(parameters), mode=mode, **options) as made:  # pyright: ignore[reportArgumentType]
        yield made


class Bridge:
    """The bridge as its client sees it: lines in and lines out."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.stdin, self.stdout, self.stderr = process.stdin, process.stdout, process.stderr
        self._rest = bytearray()

    def say(self, *messages: Message | bytes) -> None:
        """Write lines, all at once."""
        lines = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in messages]
        self.stdin.write(b"".join(line + b"\n" for line in lines))

    async def line(self) -> bytes:
        """The next line, without its end. Between calls hardly anything is read."""
        scanned = 0
        while (end := self._rest.find(b"\n", scanned)) < 0:
            scanned = len(self._rest)
            chunk = await asyncio.wait_for(self.stdout.read(1 << 16), BOUND)
            assert chunk, "the bridge ended"
            self._rest += chunk
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line

    async def hear(self) -> Message:
        """The next message."""
        return json.loads(await self.line())

    async def ask(self, message: Message) -> Message:
        """Send a request; the next message."""
        self.say(message)
        return await self.hear()

    async def open(self) -> Message:
        """A legacy session; the answer to `initialize`."""
        answer = await self.ask(INITIALIZE)
        self.say(INITIALIZED)
        return answer

    async def ended(self) -> tuple[int, bytes, str]:
        """Its exit status, and the rest of what it wrote, once it has ended by itself."""
        out, error = await asyncio.wait_for(asyncio.gather(self.stdout.read(), self.stderr.read()), BOUND)
        return await asyncio.wait_for(self.process.wait(), BOUND), bytes(self._rest) + out, error.decode()

    async def leave(self) -> tuple[int, bytes, str]:
        """Close its input; the same."""
        self.stdin.close()
        return await self.ended()


@contextlib.asynccontextmanager
async def bridge(url: str, token: str, upstream: str, *options: str, **variables: str) -> AsyncGenerator[Bridge]:
    """The bridge, started with pipes."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command(upstream, *options),
        env={**os.environ, **environment(url, token), **variables},
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
    )
    try:
        yield Bridge(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@contextlib.asynccontextmanager
async def instead_of_a_broker(handler: Handler) -> AsyncGenerator[str]:
    """A bare HTTP server; gives what BROKER_URL is then."""
    async with raw_http(handler) as url:
        yield url.removesuffix("/mcp")


def respond(writer: asyncio.StreamWriter, body: Message | bytes, *fields: str, status: int = 200) -> None:
    """Write an answer: a message as JSON, bytes as a stream of events that ends with the connection."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "text/event-stream" if isinstance(body, bytes) else "application/json"
    length = [] if isinstance(body, bytes) else [f"content-length: {len(data)}"]
    head = [f"HTTP/1.1 {status} X", f"content-type: {kind}", *length, *fields, "connection: close", "", ""]
    writer.write("\r\n".join(head).encode() + data)


def field(head: list[str], name: str) -> str | None:
    """A field of a request."""
    return next((line.partition(":")[2].strip() for line in head if line.lower().startswith(f"{name}:")), None)


def lines(path: Path) -> list[str]:
    """What a file holds."""
    return path.read_text().splitlines()
