"""The roll call: one look for all who have a stream open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import event

from broker.domain.people import Person, Role
from broker.store import people
from broker.store.people import CredentialKind, NewCredential
from broker.store.writer import Store, Transaction
from broker.web.rollcall import BEAT, RollCall
from tests.clock import MovableClock

SESSION, TOKEN = CredentialKind.SESSION, CredentialKind.TOKEN
APPROVER = frozenset({Role.APPROVER})
BOUND = 10.0


@pytest.fixture
async def sqlite(sqlite_url: str, clock: MovableClock) -> AsyncIterator[Store]:
    store = Store(sqlite_url, clock)
    yield store
    store.close()


def sign_in(tx: Transaction, name: str, kind: CredentialKind = SESSION) -> tuple[Person, NewCredential]:
    """Somebody new, with a session or a token."""
    person = people.save(tx, "cli:test", f"{name}@example.com", APPROVER, frozenset({"desk"}))
    tx.session.flush()
    lifetime = timedelta(hours=1) if name == "expired" else None
    return person, people.issue(tx, "cli:test", kind, person.email, lifetime=lifetime)


def save(tx: Transaction, person: Person, roles: frozenset[Role], *groups: str) -> None:
    people.save(tx, "cli:test", person.email, roles, frozenset(groups))


def end(tx: Transaction, _person: Person, new: NewCredential) -> None:
    people.end(tx, "cli:test", new.credential.id)


FATES: dict[str, Callable[[Transaction, Person, NewCredential], Any]] = {
    "stays": lambda tx, person, new: None,
    "is saved as before": lambda tx, person, new: save(tx, person, APPROVER, "desk"),
    "signed out": end,
    "token revoked": end,
    "expired": lambda tx, person, new: None,
    "removed": lambda tx, person, new: people.remove(tx, "cli:test", person.email),
    "has another role": lambda tx, person, new: save(tx, person, APPROVER | {Role.ADMIN}, "desk"),
    "has no role": lambda tx, person, new: save(tx, person, frozenset(), "desk"),
    "is in another group": lambda tx, person, new: save(tx, person, APPROVER, "desk", "shop"),
}


async def test_one_roll_call_finds_everybody_who_is_not_as_before(store: Store, clock: MovableClock) -> None:
    def arrive(tx: Transaction) -> dict[str, tuple[Person, NewCredential]]:
        kinds = {"token revoked": TOKEN}
        return {fate: sign_in(tx, fate.replace(" ", "-"), kinds.get(fate, SESSION)) for fate in FATES}

    def meet(tx: Transaction) -> None:
        for fate, (person, new) in came.items():
            FATES[fate](tx, person, new)

    came = await store.write(arrive)
    roll_call = RollCall(store)
    with ExitStack() as stack:
        present = {
            fate: stack.enter_context(roll_call.attended(person, (new.credential.kind, new.secret)))
            for fate, (person, new) in came.items()
        }
        person, new = came["stays"]
        present["took a secret for another"] = stack.enter_context(roll_call.attended(person, (TOKEN, new.secret)))
        await store.write(meet)
        clock.advance(timedelta(hours=1))
        await asyncio.wait_for(present["signed out"].gone, BOUND)
        assert {fate for fate, each in present.items() if not each.gone.done()} == {"stays", "is saved as before"}
        assert await roll_call.is_as_before(present["stays"])


async def statements_of_a_call(url: str, clock: MovableClock, streams: int) -> list[str]:
    """What the store runs for one roll call of so many people."""
    store, said = Store(url, clock), list[str]()
    came = await store.write(lambda tx: [sign_in(tx, f"person-{streams}-{number}") for number in range(streams)])
    roll_call = RollCall(store)
    with ExitStack() as stack:
        for person, new in came:
            stack.enter_context(roll_call.attended(person, (SESSION, new.secret)))
        unknown = stack.enter_context(roll_call.attended(came[0][0], (SESSION, "unknown")))

        @event.listens_for(store.engine, "checkout")
        def _(connection: Any, *_: Any) -> None:
            connection.set_trace_callback(said.append)

        await asyncio.wait_for(unknown.gone, BOUND)
    store.close()
    return said


async def test_a_roll_call_takes_no_more_statements_with_more_streams(sqlite_url: str, clock: MovableClock) -> None:
    few, many = await asyncio.gather(*(statements_of_a_call(sqlite_url, clock, streams) for streams in (1, 300)))
    assert few
    assert len(many) == len(few)


async def test_who_was_not_seen_for_a_beat_is_told_nothing_before_the_next_roll_call(sqlite: Store) -> None:
    person, new = await sqlite.write(lambda tx: sign_in(tx, "approver"))
    roll_call = RollCall(sqlite)
    with roll_call.attended(person, (SESSION, new.secret)) as present:
        assert await roll_call.is_as_before(present)
        await sqlite.write(lambda tx: end(tx, person, new))
        present.seen = monotonic() - BEAT
        assert not await asyncio.wait_for(roll_call.is_as_before(present), BOUND)


async def test_a_store_that_cannot_be_read_ends_every_stream(sqlite: Store) -> None:
    person, new = await sqlite.write(lambda tx: sign_in(tx, "approver"))
    await sqlite.write(lambda tx: tx.session.connection().exec_driver_sql("ALTER TABLE people RENAME TO lost"))
    with RollCall(sqlite).attended(person, (SESSION, new.secret)) as present:
        await asyncio.wait_for(present.gone, BOUND)
