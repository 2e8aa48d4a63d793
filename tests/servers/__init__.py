"""Real MCP servers for tests, and the means to start them on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from tests.warm import ROOT, warm

RAW_STDIO = (sys.executable, "-m", "tests.servers.raw_server")
TRANSPORTS = ("stdio", "http")
BOUND = 20.0
"""Seconds within which anything that a test waits for has to happen."""
PAUSE = 0.01
"""Seconds between two looks at what tells nobody: a look takes the machine from what is waited for."""

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def features_stdio(effects: Path) -> dict[str, Any]:
    """The feature server as a command, as the broker's settings have it."""
    return {"command": warm("tests.servers.feature_server", "--stdio"), "env": {"FEATURE_SERVER_FILE": str(effects)}}


def asking_stdio() -> dict[str, Any]:
    """The asking server in the same way."""
    return {"command": warm("tests.servers.asking_server")}


def feature_http(effects: Path) -> contextlib.AbstractAsyncContextManager[str]:
    """The feature server on a free loopback port, as its own process; gives its MCP URL."""
    command = warm("tests.servers.feature_server", "--http")
    return http_process(*command, env={"FEATURE_SERVER_FILE": str(effects)})


def git_http(repository: Path) -> contextlib.AbstractAsyncContextManager[str]:
    """mcp-server-git over HTTP, as its own process; gives its MCP URL."""
    return http_process(*warm("tests.servers.git_http", str(repository)))


@contextlib.asynccontextmanager
async def http_process(*command: str, env: Mapping[str, str] | None = None) -> AsyncGenerator[str]:
    """A server that is a process of its own and writes its MCP URL first, and nothing else; gives that URL."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **(env or {})},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        yield (await asyncio.wait_for(process.stdout.readline(), BOUND)).decode().strip()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@contextlib.asynccontextmanager
async def raw_http(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncGenerator[str]:
    """A server whose every connection is handled byte by byte by `handler`; gives its URL."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/mcp" if tls is None else f"https://localhost:{port}/mcp"
    finally:
        server.close()


async def read_http(reader: asyncio.StreamReader) -> tuple[list[str], bytes]:
    """One HTTP request: its head as lines, and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    length = next((int(line[15:]) for line in head if line.lower().startswith("content-length:")), 0)
    return head, await reader.readexactly(length)
