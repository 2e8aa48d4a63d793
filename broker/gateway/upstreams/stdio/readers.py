"""What a process said and its clients have not read yet, bounded together.

What belongs here: keeping messages for whoever reads them, and holding the process back while too much waits. What
does not: who gets which message (`connection`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any, NamedTuple

from broker.errors import UpstreamError
from broker.gateway.sse import KEEP_ALIVE, sse_event
from broker.gateway.upstreams.stdio.alarm import loop_time

MOST_WAITING = 1 << 20
"""Bytes that may wait for all readers of a process; the message that goes beyond is still taken whole."""
KEEP_ALIVE_EVERY = 15.0
"""Seconds of silence after which a stream has a comment, so that a client that is gone is noticed."""


class Said(NamedTuple):
    """A message of the process and how many bytes it had there."""

    message: dict[str, Any]
    size: int


class Readers:
    """All readers of one process.

    Args:
        hold: called with True when the process has to wait for its readers, with False when it may go on.
    """

    def __init__(self, hold: Callable[[bool], None]) -> None:
        self._hold = hold
        self._behind: set[Reader] = set()
        self._waiting = 0
        self.full = False
        """Whether the process has to wait."""

    def slowest(self, before: float) -> Reader | None:
        """Who makes the process wait: the one with most to read that took nothing since `before`; None without any.

        When those that do read have too much to read by themselves, nobody else is to blame.
        """
        idle = [reader for reader in self._behind if reader.since <= before]
        if not self.full or self._waiting - sum(reader.waiting for reader in idle) > MOST_WAITING:
            return None
        return max(idle, key=lambda reader: reader.waiting, default=None)

    def changed(self, reader: Reader, by: int) -> None:
        """So many bytes more, or fewer, wait for `reader`."""
        self._waiting += by
        (self._behind.add if reader.waiting else self._behind.discard)(reader)
        if self.full != (self._waiting > MOST_WAITING):
            self.full = not self.full
            self._hold(self.full)


class Reader:
    """One stream to a client, or one answer: messages in their order, and an end."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._said: deque[Said] = deque()
        self._news: asyncio.Future[None] | None = None
        self._ended = False
        self._error: UpstreamError | None = None
        self.waiting = 0
        self.since = 0.0
        """When it last took something, or had nothing to take."""

    def put(self, said: Said) -> None:
        """Keep a message for it; after the end nothing is kept."""
        if self._ended:
            return
        if not self._said:
            self.since = loop_time()
        self._said.append(said)
        self._wake()
        self._moved(said.size)

    async def get(self) -> dict[str, Any] | None:
        """The next message, or None at the end; for one caller at a time.

        Raises:
            UpstreamError: it ended with this.
        """
        while not self._said:
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        said = self._said.popleft()
        self.since = loop_time()
        self._moved(-said.size)
        return said.message

    def end(self, error: UpstreamError | None = None) -> None:
        """Nothing follows what waits already; only the first end counts."""
        if not self._ended:
            self._ended, self._error = True, error
            self._wake()

    def clear(self) -> list[Said]:
        """Take back what it has not read."""
        unread = list(self._said)
        self._said.clear()
        self._moved(-self.waiting)
        return unread

    async def events(self, first: dict[str, Any] | None = None) -> AsyncGenerator[bytes]:
        """`first` and everything that follows as server-sent events; begins and goes on with comments in silence."""
        yield KEEP_ALIVE if first is None else sse_event(first)
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE_EVERY):
                    message = await self.get()
            except TimeoutError:
                yield KEEP_ALIVE
                continue
            if message is None:
                return
            yield sse_event(message)

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _moved(self, by: int) -> None:
        self.waiting += by
        self._readers.changed(self, by)
