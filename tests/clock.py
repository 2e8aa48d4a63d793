"""The clock that tests move: a `broker.domain.clock.Clock` on which no time passes by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 7, 28, 12, 0, tzinfo=UTC)


class MovableClock:
    """Stands still until it is advanced.

    Args:
        start: the first instant, aware, in UTC.
    """

    def __init__(self, start: datetime = NOON) -> None:
        self._now = start

    def now(self) -> datetime:
        """The instant the clock was moved to."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Move the clock on."""
        self._now += by
