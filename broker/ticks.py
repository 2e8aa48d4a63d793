"""What the broker does again and again by itself, whatever the machine's clock does.

What belongs here: when a tick runs, and telling of its trouble. What does not: what it does (`broker.app` says), and
deadlines: they are columns, checked by the one `Clock` wherever a state changes, so a tick may run late or twice.

APScheduler plans each run as an instant of the machine's clock. So a clock that is set back would keep a tick waiting
until the planned instant comes again; one that is set forward would have it count every run that was jumped over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from broker.errors import BrokerError

log = logging.getLogger(__name__)

LOOK_EVERY = 0.5
"""Seconds, by a clock that never goes back, between looks whether the machine's was set back."""


@dataclass(slots=True)
class Tick:
    """Something that is done every so many seconds, once at a time.

    Args:
        work: may raise; the next run tries again.
        otherwise: what is not done while it raises, as a sentence for the log.

    Attributes:
        trouble: what went wrong the last time, if anything did.
    """

    name: str
    seconds: float
    work: Callable[[], Awaitable[object]]
    otherwise: str
    trouble: str | None = field(default=None, init=False)
    _runs: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Do the work once, unless it still runs. What goes wrong is logged when it begins and when it is over."""
        if self._runs:
            return
        self._runs = True
        try:
            await self.work()
        except asyncio.CancelledError:
            return  # the broker stops, which APScheduler would take for a failure
        except Exception as error:  # whatever it was, the next run has to come
            if str(error) != self.trouble:
                unforeseen = None if isinstance(error, BrokerError) else error
                log.warning("%s: %s %s", self.name, error, self.otherwise, exc_info=unforeseen)
            self.trouble = str(error)
        else:
            if self.trouble is not None:
                log.warning("%s: it works again.", self.name)
            self.trouble = None
        finally:
            self._runs = False


class _Every(BaseTrigger):
    """Due an interval from now, however many intervals ago the last run was due."""

    def __init__(self, interval: timedelta) -> None:
        self.interval = interval

    def get_next_fire_time(  # pyright: ignore[reportIncompatibleMethodOverride] - APScheduler 3 has no types
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime:
        """The next run, as APScheduler asks for it."""
        return now + self.interval


@asynccontextmanager
async def ticking(*ticks: Tick) -> AsyncGenerator[AsyncIOScheduler]:
    """Run each tick at once, and then within about its interval again, until the end of the context."""
    scheduler = AsyncIOScheduler(timezone=UTC)
    for tick in ticks:
        scheduler.add_job(  # pyright: ignore[reportUnknownMemberType]
            tick.run,
            _Every(timedelta(seconds=tick.seconds)),
            id=tick.name,
            next_run_time=datetime.now(UTC),
            max_instances=2,  # one that finds the other running ends at once, and APScheduler does not complain of it
            coalesce=True,
            misfire_grace_time=None,
        )
    scheduler.start()
    looking = asyncio.ensure_future(_bring_forward(scheduler))
    try:
        yield scheduler
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        scheduler.shutdown(wait=False)


async def _bring_forward(scheduler: Any) -> None:
    """Let run now what is planned further ahead than its interval: that was planned before the clock was set back."""
    while True:
        await asyncio.sleep(LOOK_EVERY)
        now = datetime.now(UTC)
        for job in scheduler.get_jobs():
            if job.next_run_time > now + job.trigger.interval:
                job.modify(next_run_time=now)
