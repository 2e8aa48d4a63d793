"""Drivers, seen from the test that starts them: each is a process with one kind of client, told by lines what to do.

What belongs here: which clients there are, starting and ending their processes, the lines. What does not: what is
expected of them (`cases`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Any

from tests.clients.nodejs import NPM, find_node
from tests.clients.old_sdk import find_old_sdk
from tests.servers import BOUND, ROOT
from tests.warm import warm

Message = dict[str, Any]
MODERN, LEGACY = "2026-07-28", "2025-11-25"


class Client(StrEnum):
    """A kind of client: an SDK in one of the eras that it speaks."""

    PYTHON_2_MODERN = f"Python 2.3, {MODERN}"
    PYTHON_2_LEGACY = f"Python 2.3, {LEGACY}"
    PYTHON_1 = f"Python 1.30, {LEGACY}"
    TYPESCRIPT_2_MODERN = f"TypeScript 2.4, {MODERN}"
    TYPESCRIPT_2_LEGACY = f"TypeScript 2.4, {LEGACY}"
    TYPESCRIPT_1 = f"TypeScript 1.32, {LEGACY}"

    @property
    def modern(self) -> bool:
        """Whether it speaks without sessions."""
        return self.value.endswith(MODERN)

    @property
    def command(self) -> list[str]:
        """What starts its driver."""
        if self in TYPESCRIPT:
            return [find_node().program, str(NPM / f"typescript{self.value.split()[1][0]}.mjs")]
        if self is Client.PYTHON_1:  # the other environment, and nothing of this one
            return [sys.executable, "-S", "-m", "tests.clients.matrix.python1"]
        return warm("tests.clients.matrix.python2")

    @property
    def environment(self) -> dict[str, str]:
        """With what."""
        paths = [str(ROOT), *([str(find_old_sdk())] if self is Client.PYTHON_1 else [])]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    @property
    def era(self) -> str:
        """How its SDK is told which era to speak."""
        return "auto" if self.modern else "legacy"


PYTHON = (Client.PYTHON_2_MODERN, Client.PYTHON_2_LEGACY, Client.PYTHON_1)
TYPESCRIPT = (Client.TYPESCRIPT_2_MODERN, Client.TYPESCRIPT_2_LEGACY, Client.TYPESCRIPT_1)


@dataclass
class Calling:
    """A call under way."""

    id: int
    outcome: asyncio.Future[Message]
    heard: list[str | None]


class Driver:
    """A running one."""

    def __init__(self, process: asyncio.subprocess.Process, client: Client) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout
        self._client = client
        self._numbers = count(1)
        self._opened: dict[str, asyncio.Future[None]] = {}
        self._calls: dict[int, Calling] = {}

    async def open(self, name: str, url: str, grant: str, *, bridged: bool) -> None:
        """Connect to an upstream at a broker, over HTTP or through `broker connect`."""
        broker, _, upstream = url.partition("/mcp/")
        way: Message = {"url": url, "grant": grant}
        if bridged:
            environment = {"BROKER_URL": broker, "BROKER_GRANT": grant, "PYTHONPATH": str(ROOT)}
            way = {"command": warm("broker.cli", "connect", upstream), "env": environment}
        self._opened[name] = asyncio.get_running_loop().create_future()
        self._say({"open": name, "era": self._client.era, **way})
        await asyncio.wait_for(self._opened[name], BOUND)

    def call(
        self, over: str, tool: str, arguments: Mapping[str, Any], *, token: bool = False, limit: float | None = None
    ) -> Calling:
        """Call a tool over an open connection. `limit` is the client's own, in seconds."""
        calling = Calling(next(self._numbers), asyncio.get_running_loop().create_future(), [])
        self._calls[calling.id] = calling
        asked = {"call": calling.id, "over": over, "tool": tool, "arguments": dict(arguments)}
        self._say({**asked, "token": token, "limit": limit})
        return calling

    def cancel(self, calling: Calling) -> None:
        """Have the client give a call up."""
        self._say({"cancel": calling.id})

    def kill(self) -> None:
        """End the client as `kill -9` does; what it started is left to itself."""
        self._process.kill()

    async def listen(self) -> None:
        """Take what it says, until it ends."""
        while line := await self._stdout.readline():
            said: Message = json.loads(line)
            if "opened" in said:
                self._opened[said["opened"]].set_result(None)
            elif "heard" in said:
                self._calls[said["call"]].heard.append(said["heard"])
            else:
                self._calls[said["call"]].outcome.set_result(said)

    def _say(self, message: Message) -> None:
        self._stdin.write(json.dumps(message).encode() + b"\n")


@contextlib.asynccontextmanager
async def driver(client: Client) -> AsyncGenerator[Driver]:
    """One that runs until the end of the block."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *client.command,
        env=client.environment,
        cwd=ROOT,
        stdin=pipe,
        stdout=pipe,
        limit=1 << 20,
        start_new_session=True,
    )
    made = Driver(process, client)
    listening = asyncio.ensure_future(made.listen())
    try:
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):  # killed, and what it had started is gone too
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await listening
