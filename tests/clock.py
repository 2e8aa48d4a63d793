"""The clock that tests move: a `broker.domain.clock.Clock` on which no time passes by itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 7, 28, 12, 0, tzinfo=UTC)


class MovableClock:
    """Stands still until it is advanced. Belongs to one event loop.

    Args:
        start: the first instant, aware, in UTC.
    """

    def __init__(self, start: datetime = NOON) -> None:
        self._now = start
        self._sleepers: dict[asyncio.Future[None], datetime] = {}

    def now(self) -> datetime:
        """The instant the clock was moved to."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Move the clock on and wake everybody whose instant has come; they run when the caller next awaits."""
        self._now += by
        for sleeper, instant in self._sleepers.items():
            if instant <= self._now and not sleeper.done():
                sleeper.set_result(None)

    async def sleep_until(self, instant: datetime) -> None:
        """Return once the clock has been moved to `instant`, at once when it already is there."""
        if instant <= self._now:
            return
        sleeper = asyncio.get_running_loop().create_future()
        self._sleepers[sleeper] = instant
        try:
            await sleeper
        finally:
            del self._sleepers[sleeper]
