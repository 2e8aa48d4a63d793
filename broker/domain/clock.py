"""The one clock. Code that needs the time is given a `Clock`; tests give one that they move."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits for it."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        ...

    async def sleep_until(self, instant: datetime) -> None:
        """Return at or after `instant`, at once when it is past."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        return datetime.now(UTC)

    async def sleep_until(self, instant: datetime) -> None:
        """Return at or after `instant`; a clock that was set back makes it wait on."""
        while (left := (instant - self.now()).total_seconds()) > 0:  # noqa: ASYNC110 - waits for a time, not for an event
            await asyncio.sleep(min(left, 60.0))
