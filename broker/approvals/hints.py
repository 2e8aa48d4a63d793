"""When to look again for what is to be done: at once upon a hint, and from time to time without one.

What belongs here: waiting for that. What does not: looking, and what is found (`feed`, `outbox`, and who runs tasks).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

LOOK_EVERY = 1.0
"""Seconds between looks when no hint comes."""


class Hint:
    """That there may be something to do. Who looks waits for it before the next look."""

    def __init__(self) -> None:
        self._given = asyncio.Event()

    def give(self) -> None:
        """Look now; while somebody looks: look once more."""
        self._given.set()

    async def wait(self) -> None:
        """Return when a hint was given since the last return, after `LOOK_EVERY` seconds at the latest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY):
                await self._given.wait()
        self._given.clear()
