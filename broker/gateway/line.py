"""The open line to a caller whose call is held: what is sent to it comes out as the body of its answer.

What belongs here: passing bytes on, and knowing that the caller hung up. What does not: what is said.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from broker.gateway.flag import Flag

AHEAD = 256 * 1024
"""Bytes that a slow caller may be behind; the chunk that goes beyond is still taken whole."""

LOST = "lost"
"""Why a caller is gone that did not say so itself."""

PATIENCE = 30.0
"""Seconds in which a caller that is that far behind has to read on; then it is taken for gone."""


class Line:
    """One caller's stream of server-sent events.

    Args:
        on_hang_up: called once when the caller goes away, with why.
    """

    __slots__ = ("_chunks", "_ended", "_news", "_on_hang_up", "_room", "_size", "gone")

    def __init__(self, on_hang_up: Callable[[], None]) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._news = Flag()
        self._room: asyncio.Event | None = None  # for who has to wait for it
        self._on_hang_up = on_hang_up
        self._ended = False
        self.gone: str | None = None

    async def send(self, chunk: bytes) -> None:
        """Pass `chunk` on, when the caller has read enough of the others; dropped when it hung up."""
        if self._is_full():
            self._room = self._room or asyncio.Event()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._room.wait()
            except TimeoutError:
                self.hang_up(LOST)
        self._put(chunk)

    def offer(self, chunk: bytes) -> None:
        """Pass `chunk` on, or drop it when the caller is too far behind: for signs of life, which can be missed."""
        if not self._is_full():
            self._put(chunk)

    def end(self) -> None:
        """Nothing more follows; a second end is none."""
        self._ended = True
        self._make_room()  # who sends too late is not kept waiting for it
        self._news.set()

    def hang_up(self, why: str) -> None:
        """The caller went away: `cancelled`, or `lost`. Only the first time counts."""
        if self.gone is not None or self._ended:
            return
        self.gone = why
        self._chunks.clear()
        self._make_room()
        self._news.set()
        self._on_hang_up()

    async def chunks(self) -> AsyncGenerator[bytes]:
        """What was sent, until the end."""
        while True:
            while self._chunks:
                chunk = self._chunks.pop(0)
                self._size -= len(chunk)
                if not self._is_full():
                    self._make_room()
                yield chunk
            if self._ended or self.gone is not None:
                return
            self._news.clear()
            await self._news.wait()

    def _is_full(self) -> bool:
        return self._size > AHEAD and not self._ended and self.gone is None

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    def _put(self, chunk: bytes) -> None:
        if self.gone is not None or self._ended:
            return
        self._chunks.append(chunk)
        self._size += len(chunk)
        self._news.set()
