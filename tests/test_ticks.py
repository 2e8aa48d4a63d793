"""Ticks come within about their interval, whatever the machine's clock does and whatever else fails.

All that APScheduler knows of time is the instant at which each job is due. So a clock that is moved by an hour is, for
it, every job being due an hour sooner or later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from broker.errors import StoreError
from broker.ticks import LOOK_EVERY, Tick, ticking

OFTEN = 0.02
SOON = LOOK_EVERY + 1.0
"""Seconds in which a tick that is due `OFTEN` has come, on a busy machine too."""


class Work:
    """What a tick does: it counts, and fails or takes as long as the test says."""

    def __init__(self) -> None:
        self.runs, self.at_once = 0, 0
        self.error: Exception | None = None
        self.task: asyncio.Task[None] | None = None
        self.may_end = asyncio.Event()
        self.may_end.set()
        self._news = asyncio.Condition()

    async def __call__(self) -> None:
        self.task = asyncio.current_task()
        self.at_once += 1
        assert self.at_once == 1
        async with self._news:
            self.runs += 1
            self._news.notify_all()
        try:
            await self.may_end.wait()
        finally:
            self.at_once -= 1
        if self.error is not None:
            raise self.error

    async def again(self, times: int = 1) -> None:
        """Return when it was done that many times more."""
        target = self.runs + times
        async with asyncio.timeout(SOON), self._news:
            await self._news.wait_for(lambda: self.runs >= target)


def tick(work: Work, name: str = "work", seconds: float = OFTEN) -> Tick:
    return Tick(name, seconds, work, "It is not done.")


def move_clock(scheduler: Any, by: timedelta) -> None:
    for job in scheduler.get_jobs():
        job.modify(next_run_time=job.next_run_time - by)


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What ticks told; APScheduler warns of one that is late, and the broker does not show that."""
    return [record for record in caplog.records if record.name == "broker.ticks"]


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
async def scheduler(work: Work) -> AsyncGenerator[AsyncIOScheduler]:
    async with ticking(tick(work)) as scheduler:
        yield scheduler


async def test_a_clock_that_is_set_back_keeps_no_tick_waiting(work: Work, scheduler: AsyncIOScheduler) -> None:
    await work.again()
    move_clock(scheduler, timedelta(hours=-1))
    await work.again()
    await work.again(3)


async def test_a_clock_that_is_set_forward_by_a_century_makes_a_tick_due_once(
    work: Work, scheduler: AsyncIOScheduler
) -> None:
    await work.again()
    move_clock(scheduler, timedelta(days=36525))
    began, before = monotonic(), work.runs
    await work.again(3)
    assert work.runs - before <= 1 + (monotonic() - began) / OFTEN


async def test_a_tick_comes_at_once(work: Work) -> None:
    async with ticking(tick(work, seconds=3600)):
        await work.again()


async def test_a_tick_is_brought_forward_only_when_its_clock_was_set_back(work: Work) -> None:
    rare = Work()
    async with ticking(tick(work), tick(rare, "rare", 3600)) as scheduler:
        await work.again(round(1.2 * LOOK_EVERY / OFTEN))
        assert rare.runs == 1
        move_clock(scheduler, timedelta(minutes=-1))
        await rare.again()


async def test_a_tick_that_fails_runs_again_and_keeps_no_other_waiting(work: Work) -> None:
    other = Work()
    work.error = KeyError("unforeseen")
    async with ticking(tick(work), tick(other, "other")):
        await other.again(3)
        await work.again(3)


async def test_the_log_tells_once_that_a_trouble_began_and_that_it_is_over(
    work: Work, scheduler: AsyncIOScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    for error in (StoreError("No store."), StoreError("No disk."), None, StoreError("No disk.")):
        work.error = error
        await work.again(3)
    told = logged(caplog)
    no_store, no_disk = (f"work: {error} It is not done." for error in ("No store.", "No disk."))
    assert [record.getMessage() for record in told] == [no_store, no_disk, "work: it works again.", no_disk]
    assert all(record.exc_info is None for record in told)


async def test_the_log_tells_where_something_unforeseen_came_from(
    work: Work, scheduler: AsyncIOScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    work.error = KeyError("unforeseen")
    await work.again(3)
    (record,) = logged(caplog)
    assert record.exc_info is not None


async def test_a_tick_that_takes_long_is_not_run_a_second_time_meanwhile(work: Work) -> None:
    other = Work()
    async with ticking(tick(work), tick(other, "other")):
        work.may_end.clear()
        await work.again()
        await other.again(5)
        assert work.runs == 1
        work.may_end.set()
        await work.again()


async def test_a_tick_that_is_under_way_at_the_end_is_left_without_a_word(
    work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    work.may_end.clear()
    async with ticking(tick(work)):
        await work.again()
    assert work.task is not None
    await asyncio.wait([work.task], timeout=SOON)
    assert work.at_once == 0
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
