"""The open line to a caller whose call is held: what is sent to it comes out as the body of its answer.

What belongs here: passing bytes on, and knowing that the caller hung up. What does not: what is said.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

AHEAD = 64
"""Chunks that a slow caller may be behind."""


class Line:
    """One caller's stream of server-sent events.

    Args:
        on_hang_up: called once when the caller goes away, with why.
    """

    def __init__(self, on_hang_up: Callable[[], None]) -> None:
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(AHEAD)
        self._on_hang_up = on_hang_up
        self._ended = False
        self.gone: str | None = None

    async def send(self, chunk: bytes) -> None:
        """Pass `chunk` on; what a caller that hung up would have got is dropped."""
        if self.gone is None:
            await self._chunks.put(chunk)

    def offer(self, chunk: bytes) -> None:
        """Pass `chunk` on, or drop it when the caller is too far behind: an execution does not wait for its caller."""
        if self.gone is None and not self._chunks.full():
            self._chunks.put_nowait(chunk)

    async def end(self) -> None:
        """Nothing more follows; a second end is none."""
        if self.gone is None and not self._ended:
            await self._chunks.put(None)  # may wait for room, and a caller that leaves meanwhile makes it
        self._ended = True

    def hang_up(self, why: str) -> None:
        """The caller went away, `cancelled` or `lost`."""
        if self.gone is not None or self._ended:
            return
        self.gone = why
        while not self._chunks.empty():  # lets a sender that waits for room go on
            self._chunks.get_nowait()
        self._chunks.put_nowait(None)
        self._on_hang_up()

    async def chunks(self) -> AsyncGenerator[bytes]:
        """What was sent, until the end."""
        while (chunk := await self._chunks.get()) is not None:
            yield chunk
