"""The record is verified while the server runs, and what is wrong with it is told."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from broker.app.readiness import Channels, ready
from broker.domain.audit import Event, Kind
from broker.store import audit
from broker.store.chain_watch import AGAIN, AT_ONCE, BUSY, TRY_AGAIN, WHILE_BUSY, ChainWatch
from broker.store.writer import Store
from tests.clock import MovableClock

SECOND = timedelta(seconds=1)


async def nowhere() -> Channels:
    """How channels fare where there are none."""
    return {}


async def grow(store: Store, rows: int) -> None:
    await store.write(lambda tx: [tx.record(Event(kind=Kind.CALL_ALLOWED, actor="a")) for _ in range(rows)])


def change(store: Store, statement: str) -> None:
    with store.engine.begin() as connection:
        connection.execute(sa.text(statement))


async def test_the_whole_record_is_verified_a_part_at_a_time_and_then_what_is_new(
    store: Store, clock: MovableClock
) -> None:
    watch = ChainWatch(store)
    assert (watch.walk.at, watch.walk.whole_at) == (None, None)
    await grow(store, AT_ONCE + 1)
    await watch.look()
    assert (watch.walk.reached.seq, watch.walk.whole_at) == (AT_ONCE, None)
    await watch.look()
    assert watch.walk.reached == store.read_now(audit.head)
    clock.advance(SECOND)
    await grow(store, 1)
    await watch.look()
    assert (watch.walk.reached, watch.walk.whole_at) == (store.read_now(audit.head), clock.now())


async def test_calls_that_come_in_fast_go_before_verifying(store: Store) -> None:
    watch = ChainWatch(store)
    await grow(store, 1)
    await watch.look()
    await grow(store, BUSY + 1)
    await watch.look()
    assert watch.walk.reached.seq == 1 + WHILE_BUSY
    await watch.look()
    assert watch.walk.reached == store.read_now(audit.head)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE audit SET actor = 'b' WHERE seq = 3", 3),
        ("UPDATE audit SET detail = '{' WHERE seq = 3", 3),
        ("DELETE FROM audit WHERE seq = 4", 4),
        ("DELETE FROM audit WHERE seq = 5", 5),
        ("UPDATE chain_head SET seq = 1, digest = (SELECT digest FROM audit WHERE seq = 1)", 3),
    ],
)
async def test_what_was_altered_is_told_with_its_row_and_so_is_that_it_was_mended(
    store: Store, clock: MovableClock, statement: str, named: int
) -> None:
    watch = ChainWatch(store)
    await grow(store, 2)
    await watch.look()
    await grow(store, 3)
    change(store, statement)
    for _ in range(2):
        await watch.look()
        assert f"broken at row {named}:" in str(watch.walk.trouble)
        clock.advance(TRY_AGAIN)
    told = await ready(store, None, {}, nowhere, watch)
    assert (told["status"], told["chain"]["ok"]) == ("degraded", False)
    assert f"broken at row {named}:" in told["chain"]["error"]


async def test_a_record_that_was_mended_is_whole_again(store: Store, clock: MovableClock) -> None:
    watch = ChainWatch(store)
    await grow(store, 2)
    change(store, "UPDATE audit SET actor = 'b' WHERE seq = 2")
    await watch.look()
    change(store, "UPDATE audit SET actor = 'a' WHERE seq = 2")
    await watch.look()
    assert watch.walk.trouble is not None  # it is not looked at all the time
    clock.advance(TRY_AGAIN)
    await watch.look()
    assert (watch.walk.trouble, watch.walk.reached.seq) == (None, 2)
    told = await ready(store, None, {}, nowhere, watch)
    assert (told["status"], told["chain"]["ok"], told["chain"]["verified"]["seq"]) == ("ok", True, 2)


async def test_a_row_that_is_altered_after_it_was_verified_is_found_within_a_day(
    store: Store, clock: MovableClock
) -> None:
    watch = ChainWatch(store)
    await grow(store, 3)
    await watch.look()
    change(store, "UPDATE audit SET actor = 'b' WHERE seq = 1")
    await watch.look()
    assert watch.walk.trouble is None
    clock.advance(AGAIN)
    await watch.look()
    assert "broken at row 1:" in str(watch.walk.trouble)
