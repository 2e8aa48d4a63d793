"""The client of this process: its lines on standard input, ours on standard output.

What belongs here: bytes, lines and their ends. What does not: what a line says. Both sides block in threads of their
own, which do not keep the process alive: so pipes, sockets and files all do, and nothing is changed about them that
another process would notice.
"""

from __future__ import annotations

import asyncio
import os
import queue
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

LONGEST_LINE = 64 * 1024 * 1024
"""A longer line is cut there, and so it is no JSON any more."""

READ_AHEAD = 64
"""Lines that are read before somebody takes them: the end of the input shall be noticed while a line is dealt with."""

_CHUNK = 1 << 16


class StdioClient:
    """Whoever started this process.

    Args:
        source: what is read, standard input by default.
        target: what is written.
    """

    def __init__(self, source: int = 0, target: int = 1) -> None:
        self.ended = asyncio.Event()
        """Set when nothing more comes from the client."""
        self.deaf = asyncio.Event()
        """Set when the client does not read any more."""
        self._source, self._target = source, target
        self._loop = asyncio.get_running_loop()
        self._room = threading.Semaphore(READ_AHEAD)
        self._arrived = asyncio.Queue[bytes | None]()
        self._leaving = queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]]()
        self._turn = asyncio.Lock()

    def start(self) -> None:
        """Begin to read and to write."""
        for work in (self._read, self._write):
            threading.Thread(target=work, daemon=True).start()

    async def line(self) -> bytes | None:
        """The next line without its end; None at the end of the input."""
        line = await self._arrived.get()
        self._room.release()
        return line

    async def write(self, line: bytes) -> None:
        """Write one line, after those that were given before; return when the client's side has taken it."""
        async with self._turn:
            done = self._loop.create_future()
            self._leaving.put((line + b"\n", done))
            await done

    # -- in threads ---------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        for line in read_lines(self._source):
            self._room.acquire()
            self._post(self._arrived.put_nowait, line)
        self._post(self._arrived.put_nowait, None)
        self._post(self.ended.set)

    def _write(self) -> None:
        while True:
            data, done = self._leaving.get()
            try:
                _write_all(self._target, data)
            except OSError:
                self._post(self.deaf.set)
            self._post(_settle, done)

    def _post(self, callback: Callable[..., object], *given: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: everything has ended
            self._loop.call_soon_threadsafe(callback, *given)


def read_lines(source: int, longest: int = LONGEST_LINE) -> Iterator[bytes]:
    """The lines of a file descriptor until its end, without their line feeds. Takes linear time."""
    rest = bytearray()
    while chunk := _read_some(source):
        *ended, begun = chunk.split(b"\n")
        for piece in ended:
            rest += piece[: longest - len(rest)]
            yield bytes(rest)
            rest.clear()
        rest += begun[: longest - len(rest)]
    if rest:
        yield bytes(rest)


def _read_some(source: int) -> bytes:
    while True:
        try:
            return os.read(source, _CHUNK)
        except BlockingIOError:  # whoever made it wants it so
            select.select([source], [], [])
        except OSError:
            return b""


def _write_all(target: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(target, left) :]
        except BlockingIOError:
            select.select([], [target], [])


def _settle(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
