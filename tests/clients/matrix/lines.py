"""What a driver of a Python SDK says and hears: lines of JSON on standard input and output.

What belongs here: the protocol, which the drivers in `tests/clients/npm` speak too. What does not: any SDK. It runs in
the environment of the SDK that is driven, so nothing beyond the standard library is imported.

    {"open": NAME, "url": U, "grant": TOKEN, "era": E}        → {"opened": NAME}
    {"open": NAME, "command": [...], "env": {...}, "era": E}  → {"opened": NAME}
    {"call": ID, "over": NAME, "tool": T, "arguments": {...}, "token": BOOL, "limit": SECONDS or null}
        → {"call": ID, "heard": MESSAGE} for each progress, then {"call": ID, "result": {...}} or
          {"call": ID, "error": WHY}
    {"cancel": ID}                                            → {"call": ID, "error": "cancelled"}
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

Message = dict[str, Any]


class Hear(Protocol):
    """Takes note of progress."""

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        """Once for each."""
        ...


Call = Callable[[str, Message, Hear | None, float | None], Awaitable[Message]]
"""Calls a tool with arguments, a callback for progress, and a limit in seconds; gives the result as JSON."""

Connect = Callable[[Message], AbstractAsyncContextManager[Call]]
"""Opens a connection as a line asks for it."""


def drive(connect: Connect) -> None:
    """Do what the lines say, until they end."""
    asyncio.run(_Driver(connect).run())


def say(message: Message) -> None:
    """Write a line."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class _Driver:
    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connections: dict[str, Call] = {}
        self._tasks: dict[Any, asyncio.Task[None]] = {}

    async def run(self) -> None:
        async for message in _said():
            if "open" in message:
                self._tasks[message["open"]] = asyncio.create_task(self._open(message))
            elif "cancel" in message:
                self._tasks[message["cancel"]].cancel()
            else:
                self._tasks[message["call"]] = asyncio.create_task(self._call(message))

    async def _open(self, asked: Message) -> None:
        async with self._connect(asked) as call:
            self._connections[asked["open"]] = call
            say({"opened": asked["open"]})
            await asyncio.Event().wait()  # the connection belongs to this task

    async def _call(self, asked: Message) -> None:
        async def hear(progress: float, total: float | None, message: str | None) -> None:
            say({"call": asked["call"], "heard": message})

        call = self._connections[asked["over"]]
        try:
            result = await call(asked["tool"], asked["arguments"], hear if asked["token"] else None, asked["limit"])
            say({"call": asked["call"], "result": result})
        except asyncio.CancelledError:
            say({"call": asked["call"], "error": "cancelled"})
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises is what its agent gets
            say({"call": asked["call"], "error": f"{type(error).__name__}: {error}"})


async def _said() -> AsyncGenerator[Message]:
    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)
