"""Streams of events of the broker, across the connections that they take (2025-11-25, Resumability and Redelivery).

What belongs here: how far a stream was read, and its messages as lines. What does not: what they mean.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import aiohttp

from broker.bridge.http import chunks
from broker.gateway.sse import events

DEFAULT_RETRY, SHORTEST_RETRY = 1.0, 0.1
"""Seconds before a stream that ended is asked for again: when the server does not say, and at least."""


class Stream:
    """One stream, however many connections it takes."""

    def __init__(self) -> None:
        self.pause = DEFAULT_RETRY
        """Seconds to wait before the next connection."""
        self._last = ""

    @property
    def resumable(self) -> bool:
        """Whether the server named a place in it to go on from."""
        return bool(self._last)

    def fields(self, others: Mapping[str, str]) -> dict[str, str]:
        """What a `GET` that goes on with it has to say."""
        place = {"last-event-id": self._last} if self._last else {}
        return {**others, "accept": "text/event-stream", **place}

    async def messages(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        """The messages that come on one connection, each on one line; they end with it, however it ends.

        Raises:
            UpstreamInterrupted: an event is over the limit.
        """
        async with aclosing(events(chunks(response))) as found:
            async for event in found:
                if event.id is not None:
                    self._last = event.id.decode(errors="replace")
                if event.retry is not None:
                    self.pause = max(event.retry / 1000, SHORTEST_RETRY)
                if event.data:
                    yield one_line(event.data)


def one_line(data: bytes) -> bytes:
    """A JSON text on one line: outside of strings a line end is white space, and inside there is none."""
    return b" ".join(data.splitlines()) if b"\n" in data or b"\r" in data else data
