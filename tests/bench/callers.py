"""Callers whose calls are held: each has a connection of its own, and hears signs of life until its answer comes.

What belongs here: what a caller notices, and when. What does not: the broker that holds, who decides.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

from tests.bench.requests import whole

AT_ONCE = 32
"""How many make their call at the same time; each of them goes on with the next when it hears that its call is held."""

_STATUS = re.compile(rb'"status":"(\w+)"')


class Caller(asyncio.Protocol):
    """One connection and its call.

    `first_sign` and `answered` are done with the instants at which the call was known to be held and its answer was
    there to its end; `quiet` is the longest time in which nothing was heard.
    """

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.quiet = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def call(self) -> None:
        """Make the call, for the first time or when the last one was answered."""
        loop = asyncio.get_running_loop()
        self.first_sign: asyncio.Future[float] = loop.create_future()
        self.answered: asyncio.Future[float] = loop.create_future()
        self._got = b""
        self.asked = self._heard = perf_counter()
        self._transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        self.quiet, self._heard = max(self.quiet, now - self._heard), now
        self._got += data
        if not self.first_sign.done() and self._got.partition(b"\r\n\r\n")[2]:
            self.first_sign.set_result(now)
        if whole(self._got):
            self.answered.set_result(now)

    def connection_lost(self, exc: Exception | None) -> None:
        for awaited in (self.first_sign, self.answered):
            if not awaited.done():
                awaited.set_exception(ConnectionResetError("The broker closed the connection of a held call."))

    def leave(self) -> None:
        """Close the connection."""
        for awaited in (self.first_sign, self.answered):
            awaited.cancel()
        self._transport.abort()

    @property
    def answer(self) -> bytes:
        """What came since it called."""
        return self._got

    @property
    def outcome(self) -> str:
        """What became of its call: the status in the answer, or `lost` when there is none."""
        if not self.answered.done() or self.answered.cancelled() or self.answered.exception() is not None:
            return "lost"
        return _STATUS.findall(self._got)[-1].decode()


async def hold(url: str, requests: Iterable[bytes], heard: Callable[[], None]) -> list[Caller]:
    """Callers that made these requests, once each of them had its first sign; `heard` is called for each."""
    loop, address = asyncio.get_running_loop(), urlsplit(url)
    callers: list[Caller] = []
    left = iter(requests)

    async def each() -> None:
        for request in left:
            _, caller = await loop.create_connection(
                lambda request=request: Caller(request), address.hostname or "", address.port or 80
            )
            callers.append(caller)
            caller.call()
            await caller.first_sign
            heard()

    async with asyncio.TaskGroup() as openers:
        for _ in range(AT_ONCE):
            openers.create_task(each())
    return callers
