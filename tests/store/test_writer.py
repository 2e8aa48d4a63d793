"""The group-committing writer: each work alone, all of a commit together, and what a failure leaves behind."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event as Gate
from typing import Any

import pytest
import sqlalchemy as sa

from broker.domain.audit import GENESIS, Event, Head, Kind, verify
from broker.domain.calls import Charge
from broker.domain.people import Person
from broker.errors import StoreError
from broker.store import audit, people, slots
from broker.store.engine import driver, is_sqlite
from broker.store.slots import Taken
from broker.store.tables import PersonRow
from broker.store.writer import COMMIT_WITHIN, Store, Transaction
from tests.clock import NOON, MovableClock
from tests.domain.values import charge
from tests.servers import BOUND
from tests.sqlite import new_file
from tests.warm import warm

ROOT = Path(__file__).parents[2]
HOSTILE = ["\ud800", "\x00", "\u202e\u200b", "🧨", "'; DROP TABLE audit; --", "x" * 1_000_000]


def event(actor: str = "a", **values: Any) -> Event:
    return Event(kind=Kind.CALL_ALLOWED, actor=actor, **values)


def noting(actor: str) -> Callable[[Transaction], str]:
    """A work that records a row of `actor` and returns the name."""

    def work(tx: Transaction) -> str:
        tx.record(event(actor))
        return actor

    return work


def adding(name: str) -> Callable[[Transaction], Person]:
    """A work that adds a person."""
    return lambda tx: people.save(tx, "a", name, frozenset(), frozenset())


async def actors(store: Store) -> list[str]:
    return await store.read(lambda session: [row.actor for row in audit.stream(session)])


async def verified(store: Store) -> Head:
    return await store.read(lambda session: verify(audit.stream(session), audit.head(session)))


async def in_one_commit(store: Store, *works: Callable[[Transaction], Any]) -> list[Any]:
    """Let these works wait until they all do, so that one commit takes them; gives results and errors."""
    async with busy(store):
        waiting = [asyncio.ensure_future(store.write(work)) for work in works]
    return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 20)


@asynccontextmanager
async def busy(store: Store) -> AsyncGenerator[None]:
    """While the block runs, the writer is in the middle of a commit: what is asked for in it waits for the next."""
    loop, begun, gate = asyncio.get_running_loop(), asyncio.Event(), Gate()

    def hold_up(_: Transaction) -> bool:
        loop.call_soon_threadsafe(begun.set)
        return gate.wait(10)

    blocked = asyncio.ensure_future(store.write(hold_up))
    await asyncio.wait_for(begun.wait(), 10)
    yield
    await asyncio.sleep(0)  # every task of the block runs up to its own commit
    gate.set()
    assert await blocked


# -- what is written --------------------------------------------------------------------------------------------------


async def test_a_new_chain_begins_with_nothing(store: Store) -> None:
    assert await verified(store) == Head(0, GENESIS)


async def test_results_come_back_and_rows_stand_in_the_order_of_the_works(store: Store) -> None:
    names = [f"actor {number}" for number in range(100)]
    assert await asyncio.gather(*(store.write(noting(name)) for name in names)) == names
    assert await actors(store) == names
    assert (await verified(store)).seq == 100


async def test_rows_carry_the_instant_of_their_commit(store: Store, clock: MovableClock) -> None:
    await store.write(noting("before"))
    clock.advance(NOON - NOON.replace(hour=0))
    await store.write(noting("after"))
    rows = await store.read(lambda session: list(audit.stream(session)))
    assert [row.at for row in rows] == [NOON, clock.now()]


async def test_a_work_that_raises_leaves_nothing_and_the_others_of_its_commit_stay(store: Store) -> None:
    def failing(tx: Transaction) -> None:
        people.save(tx, "a", "nobody@example.com", frozenset(), frozenset())
        tx.keep("call_1", "arguments", {})
        tx.session.flush()
        raise ZeroDivisionError("the reason")

    first, failed, last = await in_one_commit(store, adding("a@example.com"), failing, adding("b@example.com"))
    assert (first.email, last.email) == ("a@example.com", "b@example.com")
    assert isinstance(failed, ZeroDivisionError)
    assert [person.email for person in await store.read(people.everyone)] == ["a@example.com", "b@example.com"]
    assert await store.read(lambda session: audit.contents(session, "call_1")) == {}
    assert (await verified(store)).seq == 2


async def test_a_work_sees_what_the_one_before_it_in_the_same_commit_wrote(store: Store) -> None:
    _, seen = await in_one_commit(store, adding("a@example.com"), lambda tx: people.get(tx.session, "a@example.com"))
    assert seen is not None


async def test_a_database_error_of_one_work_is_its_own(store: Store) -> None:
    def twice(tx: Transaction) -> None:
        for _ in range(2):
            tx.session.connection().execute(sa.text("INSERT INTO people VALUES ('c@example.com', '[]', '[]', 0, NULL)"))

    _, failed, _ = await in_one_commit(store, adding("a@example.com"), twice, adding("b@example.com"))
    assert isinstance(failed, StoreError)
    assert len(await store.read(people.everyone)) == 2
    assert (await verified(store)).seq == 2


async def test_what_the_orm_cannot_write_takes_only_its_own_work_along(store: Store) -> None:
    def bad(tx: Transaction) -> None:
        for _ in range(2):
            tx.session.add(PersonRow(email="c@example.com", roles=[], groups=[], created_at=tx.now))
            tx.session.flush()
            tx.session.expunge_all()

    first, failed, last = await in_one_commit(store, noting("first"), bad, noting("last"))
    assert (first, last) == ("first", "last")
    assert isinstance(failed, StoreError)
    assert await store.read(people.everyone) == []
    assert (await verified(store)).seq == 2


@pytest.mark.parametrize("detail", [{"n": float("nan")}, {"why": "\ud800"}, {"what": object()}])
async def test_a_row_that_cannot_be_written_takes_only_its_own_work_along(store: Store, detail: dict[str, Any]) -> None:
    def bad(tx: Transaction) -> None:
        people.save(tx, "a", "nobody@example.com", frozenset(), frozenset())
        tx.record(event(detail=detail))

    first, failed, last = await in_one_commit(store, noting("first"), bad, noting("last"))
    assert (first, last) == ("first", "last")
    assert isinstance(failed, ValueError | TypeError)
    assert await store.read(people.everyone) == []
    assert await actors(store) == ["first", "last"]
    await verified(store)


async def test_a_commit_ends_after_a_while_and_what_it_left_comes_first_in_the_next(store: Store) -> None:
    def slow(tx: Transaction) -> None:
        tx.record(event("slow"))
        Gate().wait(COMMIT_WITHIN)

    def looking(tx: Transaction) -> list[str]:
        tx.record(event("looking"))
        return store.read_now(lambda session: [row.actor for row in audit.stream(session)])

    async with busy(store):
        waiting = [asyncio.ensure_future(store.write(work)) for work in (slow, looking, noting("last"))]
    _, committed, _ = await asyncio.wait_for(asyncio.gather(*waiting), BOUND)
    assert committed == ["slow"]
    assert await actors(store) == ["slow", "looking", "last"]


async def test_a_caller_that_goes_away_takes_nothing_back(store: Store) -> None:
    async with busy(store):
        leaving = asyncio.ensure_future(store.write(noting("gone")))
        await asyncio.sleep(0)
        leaving.cancel()
    assert await store.write(noting("next")) == "next"
    assert await actors(store) == ["gone", "next"]


@pytest.mark.parametrize("text", HOSTILE, ids=["surrogate", "nul", "hidden", "astral", "sql", "megabyte"])
async def test_any_text_of_an_agent_survives_beside_the_chain(store: Store, text: str) -> None:
    body = {text: [text, 2**200, -(2**200), 1.0, True, None]}
    await store.write(lambda tx: tx.keep("call_1", "arguments", body))
    kept = await store.read(lambda session: audit.contents(session, "call_1"))
    assert kept == {"arguments": body}
    assert [type(each) for each in kept["arguments"][text]] == [type(each) for each in body[text]]


@pytest.mark.parametrize("text", HOSTILE[1:], ids=["nul", "hidden", "astral", "sql", "megabyte"])
async def test_any_text_survives_in_a_rows_detail_and_the_chain_verifies(store: Store, text: str) -> None:
    await store.write(lambda tx: tx.record(event(detail={"why": text, "n": 2**200})))
    [row] = await store.read(lambda session: list(audit.stream(session)))
    assert row.detail == {"why": text, "n": 2**200}
    await verified(store)


# -- more than one writer ---------------------------------------------------------------------------------------------


async def test_two_stores_and_many_tasks_make_one_chain(store: Store, store_url: str, clock: MovableClock) -> None:
    other = Store(store_url, clock)
    names = [f"actor {number}" for number in range(60)]
    await asyncio.gather(*((store, other)[n % 2].write(noting(name)) for n, name in enumerate(names)))
    other.close()
    assert sorted(await actors(store)) == sorted(names)
    assert (await verified(store)).seq == 60


async def test_several_processes_make_one_chain(store: Store, store_url: str) -> None:
    command = warm("tests.store.appender", store_url)
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(*command, name, "40", cwd=ROOT, stdin=pipe, stdout=pipe)
        for name in ("one", "two")
    ]
    for process in processes:
        assert process.stdout
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.close()  # both begin
    await asyncio.gather(*(store.write(noting("this")) for _ in range(40)))
    assert [await asyncio.wait_for(process.wait(), 30) for process in processes] == [0, 0]
    written = await actors(store)
    assert {name: written.count(name) for name in ("one", "two", "this")} == {"one": 40, "two": 40, "this": 40}
    assert (await verified(store)).seq == 120


# -- durability -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [True, False])
async def test_a_durable_commit_waits_for_the_disk_and_another_does_not(store: Store, durable: bool) -> None:
    def setting(tx: Transaction) -> Any:
        question = "PRAGMA synchronous" if is_sqlite(store.engine) else "SHOW synchronous_commit"
        return tx.connection.execute(sa.text(question)).scalar()

    answer = {True: 2, False: 1} if is_sqlite(store.engine) else {True: "on", False: "off"}
    assert await store.write(setting, durable=durable) == answer[durable]
    assert await store.write(setting, durable=not durable) == answer[not durable]


async def test_one_durable_work_makes_its_whole_commit_durable(store: Store) -> None:
    def setting(tx: Transaction) -> Any:
        question = "PRAGMA synchronous" if is_sqlite(store.engine) else "SHOW synchronous_commit"
        return tx.connection.execute(sa.text(question)).scalar()

    async with busy(store):
        relaxed = asyncio.ensure_future(store.write(setting))
        durable = asyncio.ensure_future(store.write(setting, durable=True))
    assert await relaxed == await durable == (2 if is_sqlite(store.engine) else "on")


# -- brief works ------------------------------------------------------------------------------------------------------


async def test_brief_works_and_others_make_one_chain(store: Store) -> None:
    asked = [store.submit(noting(f"{number}"), within=None if number % 3 else 0) for number in range(60)]
    assert await asyncio.gather(*asked) == [f"{number}" for number in range(60)]
    assert sorted(await actors(store)) == sorted(f"{number}" for number in range(60))
    assert (await verified(store)).seq == 60


async def test_a_brief_work_that_raises_leaves_nothing_and_the_others_of_its_turn_stay(store: Store) -> None:
    def failing(tx: Transaction) -> None:
        tx.record(event("never"))
        raise ValueError("the reason")

    outcomes = await asyncio.gather(
        *(store.submit(work, within=0) for work in (noting("first"), failing, noting("last"))), return_exceptions=True
    )
    assert [str(outcome) for outcome in outcomes] == ["first", "the reason", "last"]
    assert await actors(store) == ["first", "last"]


async def test_a_work_that_may_wait_shares_the_commit_of_the_next_one(local: Store, clock: MovableClock) -> None:
    later = local.submit(noting("later"), within=BOUND)
    await asyncio.wait_for(local.submit(noting("now"), within=0), 1)
    assert later.done()
    assert await actors(local) == ["later", "now"]


async def test_the_loop_goes_on_while_another_process_writes(local: Store, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "local.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    brief = local.submit(noting("brief"), within=0)
    began = asyncio.get_running_loop().time()
    await asyncio.wait([brief], timeout=0.3)
    assert not brief.done()
    assert asyncio.get_running_loop().time() - began < 2  # it would be ten seconds
    other.execute("COMMIT")
    other.close()
    assert await asyncio.wait_for(brief, BOUND) == "brief"
    assert await actors(local) == ["brief"]


async def test_what_a_turn_of_the_loop_left_is_written_when_the_store_is_closed(local: Store, tmp_path: Path) -> None:
    waiting = local.submit(noting("left"), within=BOUND)
    local.close()
    assert await waiting == "left"
    again = Store(f"sqlite:///{tmp_path / 'local.db'}", MovableClock())
    assert await actors(again) == ["left"]
    again.close()


def test_brief_works_of_two_loops_make_one_chain(local: Store) -> None:
    async def some(name: str) -> None:
        for number in range(50):
            await local.submit(noting(f"{name} {number}"), within=0)

    def run() -> None:
        asyncio.run(some("other"))

    async def both() -> Head:
        beside = asyncio.get_running_loop().run_in_executor(None, run)
        await some("this")
        await beside
        return await verified(local)

    assert asyncio.run(both()).seq == 100


# -- failures ---------------------------------------------------------------------------------------------------------


async def test_a_closed_store_refuses_and_what_was_queued_before_is_written(store: Store, store_url: str) -> None:
    waiting = [asyncio.ensure_future(store.write(noting(f"{number}"))) for number in range(20)]
    await asyncio.sleep(0)
    store.close()
    store.close()
    assert await asyncio.gather(*waiting) == [f"{number}" for number in range(20)]
    with pytest.raises(StoreError, match="closed: nothing was written"):
        await store.write(noting("late"))
    again = Store(store_url, MovableClock())
    assert len(await actors(again)) == 20
    again.close()


class Disk:
    """A disk for a SQLite store that can be full: then no file grows."""

    def __init__(self, store: Store, within: float | None = None) -> None:
        self._store = store
        self._within = within

    async def full(self, is_full: bool) -> None:
        # fewer pages than there are: SQLite takes the present size as the limit
        pages = 1 if is_full else 1_000_000
        limit = f"PRAGMA max_page_count={pages}"
        await self._store.submit(lambda tx: driver(tx.connection).execute(limit).fetchall(), within=self._within)


@pytest.fixture
def local(tmp_path: Path, clock: MovableClock) -> Iterator[Store]:
    """A store on SQLite."""
    store = Store(new_file(tmp_path / "local.db"), clock)
    yield store
    store.close()


@pytest.mark.parametrize("within", [None, 0])
async def test_a_full_disk_is_an_error_nothing_is_written_and_it_goes_on_when_there_is_room(
    local: Store, within: float | None
) -> None:
    store, disk = local, Disk(local, within)
    await store.write(noting("before"))
    await disk.full(True)
    with pytest.raises(StoreError, match=r"^The store could not be written: database or disk is full\.$"):
        await store.submit(lambda tx: tx.record(event(detail={"long": "x" * 1_000_000})), within=within)
    assert await actors(store) == ["before"]
    await disk.full(False)
    assert await store.submit(noting("after"), within=within) == "after"
    assert await actors(store) == ["before", "after"]
    await verified(store)


def _with_session(tx: Transaction) -> None:
    tx.session.add(PersonRow(email="x" * 1_000_000, roles=[], groups=[], created_at=NOON))
    tx.session.flush()


def _without_session(tx: Transaction) -> None:
    slots.take(tx.connection, [charge(counter="x" * 1_000_000)], tx.now)


@pytest.mark.parametrize("too_large", [_with_session, _without_session])
async def test_a_disk_that_is_full_in_the_middle_of_a_commit_undoes_all_of_it(local: Store, too_large: Any) -> None:
    store, disk = local, Disk(local)
    other: Charge = charge(counter="other")

    def take(tx: Transaction) -> str:
        assert isinstance(slots.take(tx.connection, [other], tx.now), Taken)
        tx.record(event("first"))
        return "first"

    await disk.full(True)
    outcomes = await in_one_commit(store, take, too_large, noting("last"))
    await disk.full(False)
    kept = await store.read(lambda session: session.connection().execute(sa.text("SELECT counter FROM counts")).all())
    written = await actors(store)
    # whoever was told that it is written finds it, and nobody else does
    assert ("first" in written) is (outcomes[0] == "first")
    assert bool(kept) is (outcomes[0] == "first")
    assert ("last" in written) is (outcomes[2] == "last")
    assert isinstance(outcomes[1], StoreError)
    assert await store.write(noting("after")) == "after"
    await verified(store)


async def test_an_error_that_spoils_the_transaction_never_lets_a_lost_work_look_written(store: Store) -> None:
    def take(tx: Transaction) -> str:
        assert isinstance(slots.take(tx.connection, [charge()], tx.now), Taken)
        return "taken"

    def failing(tx: Transaction) -> None:
        tx.connection.execute(sa.text("SELECT * FROM nowhere"))

    outcome, failed = await in_one_commit(store, take, failing)
    kept = await store.read(lambda session: session.connection().execute(sa.text("SELECT counter FROM counts")).all())
    assert isinstance(failed, StoreError)
    assert bool(kept) is (outcome == "taken")


def _die(tx: Transaction) -> None:
    tx.connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))


def _die_in_session(tx: Transaction) -> None:
    tx.session.connection().execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))


@pytest.mark.parametrize("killer", [_die, _die_in_session])
async def test_a_connection_that_dies_undoes_its_commit_and_the_next_one_works(remote: Store, killer: Any) -> None:
    outcomes = await in_one_commit(remote, adding("a@example.com"), lambda _: 1, killer, noting("b"), lambda _: 2)
    assert [type(outcome) for outcome in outcomes] == [StoreError] * 5
    assert await remote.read(people.everyone) == []
    assert await remote.write(noting("after")) == "after"
    assert await actors(remote) == ["after"]
    await verified(remote)


async def test_a_connection_that_dies_before_the_rows_are_appended_undoes_its_commit(remote: Store) -> None:
    def lose(tx: Transaction) -> None:
        backend = tx.connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        killer = sa.create_engine(remote.engine.url)
        with killer.connect() as connection:
            connection.execute(sa.text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": backend})
        killer.dispose()
        tx.record(event("lost"))

    with pytest.raises(StoreError, match=r"^The store could not be written: .+\.$"):
        await remote.write(lose)
    assert await remote.write(noting("after")) == "after"
    assert await actors(remote) == ["after"]
    await verified(remote)


async def test_connections_that_die_while_nothing_happens_are_replaced(remote: Store) -> None:
    await remote.write(noting("before"))
    killer = sa.create_engine(remote.engine.url)
    with killer.connect() as connection:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        connection.execute(sa.text(f"{others} AND pid <> pg_backend_pid()"))
    killer.dispose()
    assert await remote.write(noting("after")) == "after"
    assert await actors(remote) == ["before", "after"]


async def test_a_store_that_cannot_be_read_is_a_sentence(store: Store) -> None:
    with pytest.raises(StoreError, match=r"^The store could not be read: .+\.$"):
        await store.read(lambda session: session.connection().execute(sa.text("SELECT * FROM nowhere")))
