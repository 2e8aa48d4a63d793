"""Brief works on PostgreSQL: sent as one message, chained by the database, and decided exactly as all others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from broker.domain.audit import Event, Head, Kind, Row, verify
from broker.domain.calls import UNIT, Charge
from broker.errors import StoreError
from broker.store import audit
from broker.store.drafts import Draft
from broker.store.slots import LimitReached, Taken
from broker.store.tables import CountRow, table_of
from broker.store.writer import Store, Transaction
from tests.clock import MovableClock
from tests.domain.values import charge
from tests.servers import BOUND

HOSTILE = ["\x00", "\u202e\u200b", "🧨", "'; DROP TABLE audit; --", '"\\', "\u2028\x7f", "x" * 1_000_000]


@pytest.fixture
async def flowing(remote: Store) -> Store:
    """A store on PostgreSQL whose brief works of this loop go by their own connection."""
    await flows(remote)
    return remote


async def flows(store: Store) -> None:
    """Return when they do."""
    given: list[Transaction] = []
    async with asyncio.timeout(BOUND):
        while not given or not isinstance(given[-1], Draft):
            await store.submit(given.append, within=0)


@contextmanager
def locked(store: Store) -> Generator[None]:
    """While the block runs, somebody else has the end of the chain."""
    with psycopg.connect(_url(store)) as connection:
        connection.execute("SELECT FROM chain_head FOR UPDATE")
        yield


async def waiting(store: Store) -> int:
    """The backend that waits for the end of the chain, as soon as there is one."""
    question = (
        "SELECT pid FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = %s)"
    )
    async with asyncio.timeout(BOUND), await psycopg.AsyncConnection.connect(_url(store), autocommit=True) as asking:
        while (found := await (await asking.execute(question, [store.engine.url.database])).fetchone()) is None:  # noqa: ASYNC110
            await asyncio.sleep(0)  # the database tells nobody
    return found[0]


def _url(store: Store) -> str:
    return store.engine.url.set(drivername="postgresql").render_as_string()


def kill(store: Store, backend: int | None = None) -> None:
    """End a backend of the store's database, or all of them."""
    killing = (
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND pid = coalesce(%s, pid)"
    )
    with psycopg.connect(_url(store), autocommit=True) as connection:
        connection.execute(killing, [backend])


def event(actor: str = "a", **values: Any) -> Event:
    return Event(kind=Kind.CALL_ALLOWED, actor=actor, **values)


async def rows(store: Store) -> list[Row]:
    """All, of which the chain holds."""
    found = await store.read(lambda session: list(audit.stream(session)))
    head = await store.read(audit.head)
    assert verify(found, head) == head
    return found


async def counted(store: Store) -> int:
    """What all calls count together, in millionths."""
    total = sa.select(sa.func.sum(table_of(CountRow).c.amount))
    return int((await store.read(lambda session: session.connection().execute(total).scalar())) or 0)


# -- what is written --------------------------------------------------------------------------------------------------


async def test_what_is_sent_is_utf_8_whatever_the_environment_says(
    new_store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    store = new_store()
    await flows(store)
    await store.submit(lambda tx: tx.record(event(tool="t\u00e9", detail={"why": "\u00e9"})), within=0)
    (row,) = await store.read(lambda session: list(audit.stream(session)))
    assert (row.tool, row.detail) == ("t\u00e9", {"why": "\u00e9"})
    assert verify([row]).seq == 1


@pytest.mark.parametrize("text", HOSTILE, ids=["nul", "hidden", "astral", "sql", "quotes", "separators", "megabyte"])
async def test_a_brief_work_leaves_what_any_other_leaves(flowing: Store, text: str) -> None:
    names = ("upstream", "tool", "grant", "verdict", "rule", "arguments_digest")  # none of which can hold a NUL
    said = event(text.replace("\0", "a"), **dict.fromkeys(names, text.replace("\0", "")), detail={text: [text, 2**70]})

    def writing(call_id: str) -> Callable[[Transaction], bool]:
        def work(tx: Transaction) -> bool:
            tx.record(replace(said, call_id=call_id))
            tx.keep(call_id, "arguments", {text: 1.0})
            return isinstance(tx, Draft)

        return work

    assert await flowing.submit(writing("one"), within=0)
    assert not await flowing.write(writing("other"))
    one, other = await rows(flowing)
    assert replace(one, call_id="other", seq=2, prev=other.prev, digest=other.digest) == other
    kept = await flowing.read(lambda session: audit.contents_of(session, ["one", "other"]))
    assert kept == {call_id: {"arguments": {text: 1.0}} for call_id in ("one", "other")}


async def test_rows_stand_in_the_order_of_the_works_however_many_there_are(flowing: Store) -> None:
    names = [f"{number}" for number in range(600)]
    await asyncio.gather(*(flowing.submit(lambda tx, name=name: tx.record(event(name)), within=0) for name in names))
    assert [row.actor for row in await rows(flowing)] == names


async def test_a_brief_work_that_may_wait_shares_the_commit_of_the_next_one(flowing: Store) -> None:
    later = flowing.submit(lambda tx: tx.record(event("later")), within=BOUND)
    await asyncio.wait_for(flowing.submit(lambda tx: tx.record(event("now")), within=0), 5)
    assert later.done()
    assert [row.actor for row in await rows(flowing)] == ["later", "now"]


async def test_a_work_that_asks_the_database_is_run_with_it(flowing: Store) -> None:
    asking = flowing.submit(lambda tx: tx.connection.execute(sa.text("SELECT 7")).scalar(), within=0)
    beside = flowing.submit(lambda tx: isinstance(tx, Draft), within=0)
    assert (await asking, await beside) == (7, True)


async def test_a_work_that_raises_is_heard_and_leaves_nothing(flowing: Store) -> None:
    def failing(tx: Transaction) -> None:
        tx.record(event("never"))
        tx.keep("call_1", "arguments", {})
        raise ValueError("the reason")

    beside = flowing.submit(lambda tx: tx.record(event("beside")), within=0)
    with pytest.raises(ValueError, match="the reason"):
        await flowing.submit(failing, within=0)
    await beside
    assert [row.actor for row in await rows(flowing)] == ["beside"]
    assert await flowing.read(lambda session: audit.contents(session, "call_1")) == {}


async def test_who_waits_is_told_of_what_the_database_refused_and_of_nothing_else(flowing: Store) -> None:
    nul = flowing.submit(lambda tx: tx.keep("\x00", "arguments", {}), within=0)
    beside = flowing.submit(lambda tx: tx.record(event("beside")), within=0)
    outcomes = await asyncio.gather(nul, beside, return_exceptions=True)
    assert isinstance(outcomes[0], StoreError)
    written = [row.actor for row in await rows(flowing)]
    assert written == ([] if isinstance(outcomes[1], StoreError) else ["beside"])


async def test_without_an_end_of_the_chain_nothing_is_written(flowing: Store) -> None:
    await flowing.write(lambda tx: tx.connection.execute(sa.text("DELETE FROM chain_head")))
    with pytest.raises(StoreError):
        await flowing.submit(lambda tx: (tx.take([charge()]), tx.record(event())), within=0)
    assert await counted(flowing) == 0
    assert await flowing.read(lambda session: list(audit.stream(session))) == []


# -- limits -----------------------------------------------------------------------------------------------------------


def taking(limit: Charge) -> Any:
    """A work that takes a slot and records that."""

    def work(tx: Transaction) -> bool:
        taken = tx.take([limit])
        if isinstance(taken, Taken):
            tx.record(event("taken"))
        return isinstance(taken, Taken)

    return work


async def test_brief_works_of_several_processes_take_exactly_what_there_is(flowing: Store, clock: MovableClock) -> None:
    other = Store(flowing.engine.url.render_as_string(), clock)
    await flows(other)
    limit = charge(maximum=50)
    asked = [
        (flowing, other)[number % 2].submit(taking(limit), within=None if number % 7 == 0 else 0)
        for number in range(120)
    ]
    assert sum(await asyncio.gather(*asked)) == 50
    assert len(await rows(flowing)) == 50
    assert await counted(flowing) == 50 * limit.amount
    other.close()


async def test_one_after_the_other_brief_works_take_what_others_would(
    flowing: Store, new_store: Callable[[], Store], clock: MovableClock
) -> None:
    other, rng = new_store(), random.Random(9)
    counters = [
        replace(charge(counter=counter, window=window, maximum=maximum), calendar=calendar, amount=amount)
        for counter, window, maximum, calendar, amount in (
            *(("a", timedelta(seconds=1), 3, False, UNIT), ("a", timedelta(minutes=1), 20, False, UNIT)),
            *(("b", timedelta(seconds=2), 4, False, 3 * UNIT // 2), ("c", timedelta(minutes=1), 6, True, UNIT)),
            *(("d", timedelta(hours=1), 2**70, False, 2**61), ("e", timedelta(hours=1), 0, False, UNIT)),
        )
    ]
    for _ in range(150):
        charges = rng.sample(counters, rng.choice((1, 1, 2, 3)))
        one = await flowing.submit(lambda tx, charges=charges: tx.take(charges), within=0)
        two = await other.write(lambda tx, charges=charges: tx.take(charges))
        assert one == two
        clock.advance(timedelta(milliseconds=rng.choice((0, 1, 50, 300, 2_000))))
    everything = sa.select(table_of(CountRow)).order_by("counter", "until")
    found = [
        await each.read(lambda session: session.connection().execute(everything).all()) for each in (flowing, other)
    ]
    assert found[0] == found[1]


async def test_one_call_that_finds_no_room_is_told_so_and_others_go_on(flowing: Store, clock: MovableClock) -> None:
    full, free = charge(counter="full", maximum=1), charge(counter="free", maximum=1000)
    assert await flowing.submit(taking(full), within=0)
    reached = flowing.submit(lambda tx: tx.take([free, full]), within=0)
    beside = flowing.submit(taking(free), within=0)
    limit = await reached
    assert isinstance(limit, LimitReached)
    assert (limit.charge, await beside) == (full, True)
    assert await counted(flowing) == 2 * full.amount
    # From here on the full one is looked at, and nobody who shares its commit has to try again.
    again = flowing.submit(lambda tx: (isinstance(tx, Draft), tx.take([full])), within=0)
    beside = flowing.submit(lambda tx: isinstance(tx, Draft), within=0)
    assert (await again)[0] is False
    assert await beside
    assert limit.free_at
    clock.advance(limit.free_at - clock.now())
    assert await flowing.submit(lambda tx: isinstance(tx, Draft) and tx.take([full]), within=0)


async def test_what_held_calls_reserve_is_not_there_for_brief_works(flowing: Store) -> None:
    limit = charge(maximum=2)
    await flowing.write(
        lambda tx: tx.connection.execute(
            sa.text("INSERT INTO held_slots VALUES ('call_1', :counter, 1000000, NULL, false)"),
            {"counter": '["desk", "presses", "grant_1"]'},
        )
    )
    assert [await flowing.submit(taking(limit), within=0) for _ in range(2)] == [True, False]


# -- others, and failures ---------------------------------------------------------------------------------------------


async def test_the_loop_goes_on_while_another_process_has_the_end_of_the_chain(flowing: Store) -> None:
    with locked(flowing):
        brief = flowing.submit(lambda tx: tx.record(event("brief")), within=0)
        await waiting(flowing)
        following = flowing.submit(lambda tx: tx.record(event("following")), within=0)
        assert not brief.done()
    await asyncio.wait_for(asyncio.gather(brief, following), BOUND)
    assert [row.actor for row in await rows(flowing)] == ["brief", "following"]


async def test_a_connection_that_dies_while_nothing_happens_is_replaced(flowing: Store) -> None:
    kill(flowing)
    assert await flowing.submit(lambda _: "after", within=0) == "after"
    await flows(flowing)
    await flowing.submit(lambda tx: tx.record(event("after")), within=0)
    assert [row.actor for row in await rows(flowing)] == ["after"]


async def test_a_connection_that_dies_with_works_under_way_is_told_and_replaced(flowing: Store) -> None:
    with locked(flowing):
        lost = flowing.submit(lambda tx: tx.record(event("lost")), within=0)
        backend = await waiting(flowing)
        behind = flowing.submit(lambda tx: tx.record(event("behind")), within=0)
        kill(flowing, backend)
        with pytest.raises(StoreError, match=r"^The store could not be written: .+\.$"):
            await asyncio.wait_for(lost, BOUND)
    await asyncio.wait_for(behind, BOUND)
    await flows(flowing)
    assert [row.actor for row in await rows(flowing)] == ["behind"]


async def test_what_is_under_way_when_the_store_is_closed_is_written(flowing: Store, clock: MovableClock) -> None:
    sent = flowing.submit(lambda tx: tx.record(event("sent")), within=0)
    await asyncio.sleep(0)
    left = flowing.submit(lambda tx: tx.record(event("left")), within=BOUND)
    flowing.close()
    await asyncio.wait_for(asyncio.gather(sent, left), BOUND)
    again = Store(flowing.engine.url.render_as_string(), clock)
    assert [row.actor for row in await rows(again)] == ["sent", "left"]
    again.close()


async def test_a_message_longer_than_the_socket_takes_at_once_arrives(flowing: Store) -> None:
    body = {"text": "x" * 500_000}
    async with asyncio.timeout(BOUND):
        await asyncio.gather(
            *(flowing.submit(lambda tx, n=n: tx.keep(f"call_{n}", "result", body), within=0) for n in range(40))
        )
    kept = await flowing.read(lambda session: audit.contents_of(session, ["call_0", "call_39"]))
    assert kept == {"call_0": {"result": body}, "call_39": {"result": body}}
    assert await flowing.read(audit.head) == Head()
