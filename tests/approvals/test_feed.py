"""Who waits for approvals is told, whoever changed them."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.event import listen, remove

from broker.approvals.feed import BACKLOG
from broker.approvals.hints import LOOK_EVERY
from broker.domain.approvals import Approval, Decision, State
from broker.domain.audit import Event, Kind
from broker.store.writer import Store, Transaction
from tests.approvals.desk import Desk, hold
from tests.domain.values import ALICE, BOB, CAROL
from tests.servers import BOUND

NEVER_LATER = LOOK_EVERY + 1
APPROVALS = sa.table("approvals", sa.column("id"), sa.column("requirement"))


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
    with desk.feed.waiter("apr_probe", lambda _: begun.set()):
        await asyncio.wait_for(begun.wait(), 20)
    yield desk
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def following(desk: Desk, count: int) -> list[str]:
    """The actors of the next rows."""
    rows = desk.feed.follow()
    return [(await anext(rows)).actor for _ in range(count)]


class Ear:
    """What one waiter hears."""

    def __init__(self) -> None:
        self.heard: set[str | None] = set()
        self._told: asyncio.Queue[Approval | None] = asyncio.Queue()

    def __call__(self, approval: Approval | None) -> None:
        self.heard.add(approval.id if approval is not None else None)
        self._told.put_nowait(approval)

    async def next(self) -> Approval | None:
        return await asyncio.wait_for(self._told.get(), NEVER_LATER)

    async def until(self, state: State) -> Approval:
        while (approval := await self.next()) is None or approval.state is not state:
            pass
        return approval


async def test_a_waiter_hears_of_what_its_own_process_does_without_waiting_for_the_next_look(running: Desk) -> None:
    approval, ear = await running.held(hold(quorum=3)), Ear()
    with running.feed.waiter(approval.id, ear):
        assert await ear.next() == approval
        async with asyncio.timeout(3 * LOOK_EVERY * 0.9):  # looks alone would take three of them
            for person in (ALICE, BOB, CAROL):
                reviewed = await running.review(approval, person)
                while await ear.next() != reviewed:  # a look may tell what was before
                    pass


async def test_a_waiter_hears_of_what_its_own_process_does_without_any_look(desk: Desk) -> None:
    approval, ear = await desk.held(), Ear()
    with desk.feed.waiter(approval.id, ear):
        approved = await desk.review(approval, ALICE)
        assert await ear.next() == approved


async def test_a_look_that_began_before_a_change_never_tells_what_was_before(running: Desk) -> None:
    approval, ear = await running.held(), Ear()
    loop, has_read, goes_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def linger(_: Any) -> None:
        if threading.current_thread().name.startswith("store-calls"):
            loop.call_soon_threadsafe(has_read.set)
            goes_on.wait(BOUND)

    with running.feed.waiter(approval.id, ear):
        assert await ear.next() == approval
        listen(running.store.engine, "commit", linger)
        await note(running.store, approval.id)
        running.feed.nudge()
        await asyncio.wait_for(has_read.wait(), BOUND)
        approved = await running.review(approval, ALICE)
        assert await ear.next() == approved
        goes_on.set()
        assert await ear.next() == approved
        remove(running.store.engine, "commit", linger)


async def test_a_waiter_hears_of_what_another_process_does(running: Desk, other_store: Store) -> None:
    approval, ear = await running.held(), Ear()
    with running.feed.waiter(approval.id, ear):
        service = running.service(other_store)
        approved = await service.reviews.review(approval.id, ALICE, Decision.APPROVE, channel="web")
        assert await ear.until(State.APPROVED) == approved


async def test_a_waiter_hears_of_its_own_approval_only(running: Desk) -> None:
    first, second, mine, other = await running.held(), await running.held(), Ear(), Ear()
    with running.feed.waiter(first.id, mine), running.feed.waiter(second.id, other):
        for approval in (first, second):
            await running.review(approval, ALICE)
        await mine.until(State.APPROVED)
        await other.until(State.APPROVED)
    assert (mine.heard, other.heard) == ({first.id}, {second.id})


async def test_what_happened_before_a_waiter_came_is_told(running: Desk) -> None:
    approval, ear = await running.held(), Ear()
    approved = await running.review(approval, ALICE)
    await following(running, 1)  # the feed has seen it
    with running.feed.waiter(approval.id, ear):
        assert await ear.next() == approved


async def test_an_approval_that_cannot_be_read_keeps_nobody_from_hearing_of_theirs(running: Desk) -> None:
    altered, approval, first, second = await running.held(), await running.held(), Ear(), Ear()
    nonsense = sa.update(APPROVALS).where(APPROVALS.c.id == altered.id).values(requirement="nonsense")
    await running.store.write(lambda tx: tx.connection.execute(nonsense))
    with running.feed.waiter(altered.id, first), running.feed.waiter(approval.id, second):
        assert await first.next() is None
        await running.review(approval, ALICE)
        await second.until(State.APPROVED)


async def test_a_waiter_leaves_nothing_behind(desk: Desk) -> None:
    first, second = Ear(), Ear()
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
        with running.feed.waiter("apr_1", ear := Ear()):  # it is told in a look that has seen all of these
            await ear.next()
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
