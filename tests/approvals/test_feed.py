"""Who waits for approvals is told, whoever changed them."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator

import pytest

from broker.approvals.feed import BACKLOG, LOOK_EVERY
from broker.domain.approvals import Decision
from broker.domain.audit import Event, Kind
from broker.store.writer import Store, Transaction
from tests.approvals.desk import Desk, hold
from tests.domain.values import ALICE, BOB, CAROL

NEVER_LATER = LOOK_EVERY + 1


async def note(store: Store, approval_id: str, count: int = 1) -> None:
    """Record so many rows about an approval, without telling the feed."""

    def work(tx: Transaction) -> None:
        for number in range(count):
            tx.record(Event(kind=Kind.APPROVAL_LATE, actor=f"{number}", approval_id=approval_id))

    await store.write(work)


@pytest.fixture
async def running(desk: Desk) -> AsyncIterator[Desk]:
    """A desk whose feed has begun to look."""
    task = asyncio.ensure_future(desk.feed.run())
    begun = asyncio.Event()
    with desk.feed.waiter("apr_probe", begun):
        async with asyncio.timeout(20):
            while not begun.is_set():
                await note(desk.store, "apr_probe")
                desk.feed.nudge()
    yield desk
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def following(desk: Desk, count: int) -> list[str]:
    """The actors of the next rows; the last of what the fixture noted may still be on its way."""
    rows = (row async for row in desk.feed.follow() if row.approval_id != "apr_probe")
    return [(await anext(rows)).actor for _ in range(count)]


async def test_a_waiter_is_woken_by_what_its_own_process_does_without_waiting_for_the_next_look(running: Desk) -> None:
    approval = await running.held(hold(quorum=3))
    changed = asyncio.Event()
    with running.feed.waiter(approval.id, changed):
        async with asyncio.timeout(3 * LOOK_EVERY * 0.9):  # looks alone would take three of them
            for person in (ALICE, BOB, CAROL):
                changed.clear()
                await running.review(approval, person)
                await changed.wait()


async def test_a_waiter_is_woken_by_what_another_process_does(running: Desk, other_store: Store) -> None:
    approval = await running.held()
    changed = asyncio.Event()
    with running.feed.waiter(approval.id, changed):
        await running.service(other_store).reviews.review(approval.id, ALICE, Decision.APPROVE, channel="web")
        async with asyncio.timeout(NEVER_LATER):
            await changed.wait()


async def test_only_the_waiters_of_that_approval_are_woken(running: Desk) -> None:
    mine, other = asyncio.Event(), asyncio.Event()
    with running.feed.waiter("apr_1", mine), running.feed.waiter("apr_2", other):
        await note(running.store, "apr_1")
        running.feed.nudge()
        async with asyncio.timeout(NEVER_LATER):
            await mine.wait()
        assert not other.is_set()


async def test_a_waiter_leaves_nothing_behind(desk: Desk) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    left = [weakref.ref(first), weakref.ref(second)]
    with desk.feed.waiter("apr_1", first), pytest.raises(ZeroDivisionError), desk.feed.waiter("apr_1", second):
        raise ZeroDivisionError
    del first, second
    gc.collect()
    assert [reference() for reference in left] == [None, None]


async def test_followers_get_every_row_in_order_whoever_wrote_it(running: Desk, other_store: Store) -> None:
    followers = [asyncio.ensure_future(following(running, 30)) for _ in range(2)]
    await asyncio.sleep(0)  # they begin to follow
    for number in range(10):
        await note((running.store, other_store)[number % 2], f"apr_{number}", 3)
        running.feed.nudge()
    async with asyncio.timeout(NEVER_LATER):
        assert await asyncio.gather(*followers) == [["0", "1", "2"] * 10] * 2


async def test_a_follower_that_is_too_slow_is_cut_off_and_the_others_go_on(running: Desk) -> None:
    slow = running.feed.follow()
    first = asyncio.ensure_future(anext(slow))
    quick = asyncio.ensure_future(following(running, BACKLOG + 2))
    await asyncio.sleep(0)
    for size in (1, BACKLOG, 1):
        await note(running.store, "apr_1", size)
        awaited = asyncio.Event()
        with running.feed.waiter("apr_1", awaited):
            running.feed.nudge()
            async with asyncio.timeout(NEVER_LATER):
                await awaited.wait()
        await asyncio.sleep(0)
    await first
    assert len([row async for row in slow]) < BACKLOG
    async with asyncio.timeout(NEVER_LATER):
        assert len(await quick) == BACKLOG + 2


async def test_a_follower_is_told_when_the_feed_stops(desk: Desk) -> None:
    task = asyncio.ensure_future(desk.feed.run())
    rows = desk.feed.follow()
    waiting = asyncio.ensure_future(anext(rows, None))
    await asyncio.sleep(0)
    await desk.store.read(lambda session: None)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with asyncio.timeout(NEVER_LATER):
        assert await waiting is None
