"""Browser sessions: whom a provider signs in, and ending what is open."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from broker.domain.audit import Kind
from broker.domain.people import Account, Person, Role
from broker.errors import AccountRefused, NotFound
from broker.store import audit, identities, people, sessions
from broker.store.people import Credential, CredentialKind, NewCredential
from broker.store.writer import Store
from tests.clock import MovableClock

ANN, BOB = "ann@example.com", "bob@example.com"
ISSUER, SLACK = "https://id.example.com", "slack:T1"
DAY = timedelta(days=1)


def account(email: str | None = ANN, subject: str = "s1", *groups: str, role: Role | None = None) -> Account:
    return Account(ISSUER, subject, email, frozenset(groups), frozenset({role} if role else ()))


async def opened(store: Store, given: Account) -> NewCredential:
    return await store.write(lambda tx: sessions.open_for(tx, given, DAY, "Firefox on Linux"))


async def save(store: Store, email: str, *roles: Role) -> None:
    await store.write(lambda tx: people.save(tx, "cli:root", email, frozenset(roles), frozenset()))


async def person(store: Store, email: str) -> Person | None:
    found = await store.read(lambda session: people.get(session, email))
    everyone = await store.read(people.everyone)
    assert (found in everyone) is (found is not None)
    return found


async def live(store: Store, clock: MovableClock, email: str | None = None) -> list[Credential]:
    return await store.read(lambda session: sessions.live(session, clock.now(), email))


async def test_an_account_opens_a_session_of_its_person(store: Store, clock: MovableClock) -> None:
    await save(store, ANN)
    new = await opened(store, account())
    assert (new.credential.person, new.credential.label) == (ANN, "Firefox on Linux")
    assert await live(store, clock, " ANN@example.com") == [new.credential]
    rows = await store.read(lambda session: list(audit.stream(session)))
    assert (rows[-1].kind, rows[-1].actor, rows[-1].detail["via"]) == (Kind.SESSION_OPENED, ANN, ISSUER)


async def test_what_a_provider_vouches_for_is_added_to_what_the_administrator_gave(store: Store) -> None:
    await save(store, ANN, Role.AUDITOR)
    await store.write(lambda tx: identities.link(tx, SLACK, "U1", ANN))
    await store.write(lambda tx: identities.vouch(tx, SLACK, {"U1": frozenset({"desk"})}))
    await opened(store, account(ANN, "s1", "ops", role=Role.APPROVER))
    roles = frozenset({Role.AUDITOR, Role.APPROVER})
    assert await person(store, ANN) == Person(ANN, roles, frozenset({"desk", "ops"}))
    await store.write(lambda tx: identities.vouch(tx, SLACK, {}, others=True))
    assert await person(store, ANN) == Person(ANN, roles, frozenset({"ops"}))
    await opened(store, account())
    assert await person(store, ANN) == Person(ANN, frozenset({Role.AUDITOR}))


async def test_a_role_that_is_vouched_for_is_in_the_record(store: Store) -> None:
    await opened(store, account(BOB, "s2", "ops", role=Role.ADMIN))
    await opened(store, account(BOB, "s2"))
    rows = await store.read(lambda session: list(audit.stream(session)))
    told = [(row.detail["groups"], row.detail["roles"]) for row in rows if row.kind is Kind.PERSON_VOUCHED]
    assert told == [(["ops"], ["admin"]), ([], [])]


@pytest.mark.parametrize("given", [account(BOB), account(None, "s1", "ops", role=Role.ADMIN)])
async def test_who_is_not_meant_leaves_nothing_behind(store: Store, given: Account) -> None:
    before = await store.read(audit.head)
    with pytest.raises(AccountRefused):
        await opened(store, given)
    assert await store.read(audit.head) == before
    assert await person(store, BOB) is None


async def test_who_was_removed_does_not_come_back_with_a_role(store: Store) -> None:
    await opened(store, account(BOB, "s2", "ops", role=Role.ADMIN))
    await store.write(lambda tx: people.remove(tx, "cli:root", BOB))
    with pytest.raises(AccountRefused, match="broker user add"):
        await opened(store, account(BOB, "s2", "ops", role=Role.ADMIN))
    assert await person(store, BOB) is None


async def test_somebody_new_who_comes_from_two_browsers_at_once_is_one_person(
    store: Store, store_url: str, clock: MovableClock
) -> None:
    other = Store(store_url, clock)
    given = account(BOB, "s2", "ops", role=Role.APPROVER)
    made = await asyncio.gather(*(opened(each, given) for each in (store, other) * 4))
    other.close()
    assert {each.credential.person for each in made} == {BOB}
    assert len(await store.read(identities.everyone)) == 1


async def test_ending_takes_a_live_session_of_the_right_person(store: Store, clock: MovableClock) -> None:
    await save(store, ANN)
    mine, other = await opened(store, account()), await opened(store, account())
    token = await store.write(lambda tx: people.issue(tx, ANN, CredentialKind.TOKEN, ANN))
    for wrong, owner in ((mine.credential.id, BOB), (token.credential.id, None), ("\0", None), ("unknown", None)):
        with pytest.raises(NotFound):
            await store.write(lambda tx, wrong=wrong, owner=owner: sessions.end(tx, ANN, wrong, owner))
    assert await live(store, clock) == sorted((mine.credential, other.credential), key=lambda each: each.id)
    await store.write(lambda tx: sessions.end(tx, ANN, mine.credential.id, ANN))
    assert await live(store, clock, ANN) == [other.credential]
    with pytest.raises(NotFound):
        await store.write(lambda tx: sessions.end(tx, ANN, mine.credential.id))


async def test_all_others_of_a_person_end_together(store: Store, clock: MovableClock) -> None:
    await save(store, ANN)
    await save(store, BOB)
    kept, theirs = await opened(store, account()), await opened(store, account(BOB, "s2"))
    for _ in range(2):
        await opened(store, account())
    await store.write(lambda tx: sessions.end_others(tx, ANN, kept.credential.id))
    assert {each.id for each in await live(store, clock)} == {kept.credential.id, theirs.credential.id}
