"""The scripted client of a server that is a command."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncGenerator, Mapping

from tests.differential.client import BOUND, Client, Exchange
from tests.servers import ROOT
from tests.servers.every.speech import Message, Style


def command(style: Style) -> list[str]:
    """What starts the server."""
    return [sys.executable, "-m", "tests.servers.every.over_stdio", style]


class StdioClient(Client):
    """A client at the pipes of a process."""

    def __init__(self, process: asyncio.subprocess.Process, *, modern: bool) -> None:
        super().__init__(modern=modern)
        self._process = process
        self._reading = asyncio.create_task(self._read())

    async def listen(self) -> None:
        """There is one pipe for everything."""

    async def cancel(self, exchange: Exchange) -> None:
        """By a notification; in the modern era it says no more than a stream that is closed."""
        reason = {} if self.modern else {"reason": "no more wanted"}
        await self.tell("notifications/cancelled", {"requestId": exchange.id, **reason})

    async def close(self) -> None:
        """Close the input, which ends the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await asyncio.wait_for(self._reading, BOUND)
        await asyncio.wait_for(self._process.wait(), BOUND)

    async def _send(self, message: Message, fields: Mapping[str, str]) -> Exchange:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self.exchanges.append(Exchange(str(message.get("method", "answer")), message.get("id")))
        return self.exchanges[-1]

    async def _finish(self, exchange: Exchange) -> None:
        pass

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            await self._take(line, json.loads(line))


@contextlib.asynccontextmanager
async def stdio_client(style: Style, *, modern: bool) -> AsyncGenerator[StdioClient]:
    """One with a server of its own."""
    process = await asyncio.create_subprocess_exec(
        *command(style),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    client = StdioClient(process, modern=modern)
    try:
        yield client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await client._reading  # pyright: ignore[reportPrivateUsage] - it is this module's
