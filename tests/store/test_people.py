"""People and what they sign in with: links that work once, sessions, tokens, and the end of all of them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from broker.domain.audit import Kind
from broker.domain.people import Person, Role
from broker.errors import NotFound
from broker.store import audit, people
from broker.store.people import CredentialKind, NewCredential
from broker.store.writer import Store
from tests.clock import MovableClock

ALICE = "alice@example.com"
LINK, SESSION, TOKEN = CredentialKind.LINK, CredentialKind.SESSION, CredentialKind.TOKEN
QUARTER = timedelta(minutes=15)
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
async def alice(store: Store) -> Person:
    """An approver who is a desktop owner."""
    return await add(store)


async def add(store: Store) -> Person:
    roles, groups = frozenset({Role.APPROVER}), frozenset({"desktop-owners"})
    return await store.write(lambda tx: people.save(tx, "cli:root", " Alice@Example.COM", roles, groups))


async def issue(store: Store, kind: CredentialKind, lifetime: timedelta | None = None) -> NewCredential:
    return await store.write(lambda tx: people.issue(tx, "cli:root", kind, ALICE, label="laptop", lifetime=lifetime))


async def use(store: Store, link: NewCredential) -> NewCredential:
    return await store.write(lambda tx: people.use_link(tx, link.secret, timedelta(days=1)))


async def who(store: Store, clock: MovableClock, kind: CredentialKind, secret: str) -> Person | None:
    found = await store.read(lambda session: people.authenticate(session, kind, secret, clock.now()))
    return found[0] if found else None


# -- people -----------------------------------------------------------------------------------------------------------


async def test_a_person_is_one_however_the_address_is_written(store: Store, alice: Person) -> None:
    assert alice.email == ALICE
    assert await store.read(lambda session: people.get(session, "ALICE@example.com ")) == alice
    assert await store.read(people.everyone) == [alice]


async def test_saving_again_gives_exactly_the_new_roles_and_groups(store: Store, alice: Person) -> None:
    await store.write(lambda tx: people.save(tx, "cli:root", ALICE, frozenset({Role.AUDITOR}), frozenset()))
    assert await store.read(people.everyone) == [Person(ALICE, frozenset({Role.AUDITOR}), frozenset())]


async def test_a_removed_person_is_nobody(store: Store, alice: Person) -> None:
    await store.write(lambda tx: people.remove(tx, "cli:root", ALICE))
    assert await store.read(lambda session: people.get(session, ALICE)) is None
    assert await store.read(people.everyone) == []
    with pytest.raises(NotFound, match=ALICE):
        await store.write(lambda tx: people.remove(tx, "cli:root", ALICE))
    with pytest.raises(NotFound, match="broker user add"):
        await issue(store, TOKEN)


@pytest.mark.usefixtures("alice")
@pytest.mark.parametrize("back", [False, True], ids=["gone", "back again"])
async def test_removal_ends_sessions_tokens_and_links_for_good(store: Store, clock: MovableClock, back: bool) -> None:
    session, token, link = [await issue(store, kind) for kind in (SESSION, TOKEN, LINK)]
    await store.write(lambda tx: people.remove(tx, "cli:root", ALICE))
    if back:
        await add(store)
    assert await who(store, clock, SESSION, session.secret) is None
    assert await who(store, clock, TOKEN, token.secret) is None
    with pytest.raises(NotFound):
        await use(store, link)


async def test_somebody_who_comes_back_can_sign_in_again(store: Store, clock: MovableClock, alice: Person) -> None:
    await store.write(lambda tx: people.remove(tx, "cli:root", ALICE))
    await add(store)
    token = await issue(store, TOKEN)
    assert await who(store, clock, TOKEN, token.secret) == alice


# -- links ------------------------------------------------------------------------------------------------------------


async def test_a_link_becomes_a_session_once(store: Store, clock: MovableClock, alice: Person) -> None:
    link = await issue(store, LINK, QUARTER)
    session = await use(store, link)
    assert await who(store, clock, SESSION, session.secret) == alice
    with pytest.raises(NotFound, match="used already or is too old"):
        await use(store, link)


@pytest.mark.usefixtures("alice")
async def test_looking_at_a_link_does_not_use_it_up(store: Store, clock: MovableClock) -> None:
    link = await issue(store, LINK, QUARTER)
    for _ in range(3):
        owner = await store.read(lambda session: people.owner_of_link(session, link.secret, clock.now()))
        assert owner == link.credential.person
    await use(store, link)
    assert await store.read(lambda session: people.owner_of_link(session, link.secret, clock.now())) is None


@pytest.mark.usefixtures("alice")
async def test_two_who_use_a_link_at_once_get_one_session(store: Store, store_url: str, clock: MovableClock) -> None:
    link = await issue(store, LINK, QUARTER)
    other = Store(store_url, clock)
    outcomes = await asyncio.gather(*(use(each, link) for each in (store, other) * 4), return_exceptions=True)
    other.close()
    assert len([each for each in outcomes if isinstance(each, NewCredential)]) == 1
    assert len([each for each in outcomes if isinstance(each, NotFound)]) == 7


@pytest.mark.usefixtures("alice")
async def test_a_link_is_good_until_the_very_instant_it_expires(store: Store, clock: MovableClock) -> None:
    links = [await issue(store, LINK, QUARTER) for _ in range(2)]
    clock.advance(QUARTER - MICROSECOND)
    await use(store, links[0])
    clock.advance(MICROSECOND)
    with pytest.raises(NotFound):
        await use(store, links[1])


@pytest.mark.usefixtures("alice")
async def test_a_secret_is_good_for_its_own_kind_only(store: Store, clock: MovableClock) -> None:
    made = {kind: await issue(store, kind) for kind in CredentialKind}
    for kind in (SESSION, TOKEN):
        for other in CredentialKind:
            assert (await who(store, clock, kind, made[other].secret) is not None) is (kind is other)
    with pytest.raises(NotFound):
        await use(store, made[TOKEN])


# -- sessions and tokens ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("alice")
@pytest.mark.parametrize("kind", [SESSION, TOKEN])
async def test_what_is_ended_proves_nothing_and_does_not_end_twice(
    store: Store, clock: MovableClock, kind: CredentialKind
) -> None:
    made = await issue(store, kind)
    await store.write(lambda tx: people.end(tx, ALICE, made.credential.id))
    assert await who(store, clock, kind, made.secret) is None
    with pytest.raises(NotFound, match=made.credential.id):
        await store.write(lambda tx: people.end(tx, ALICE, made.credential.id))


@pytest.mark.usefixtures("alice")
async def test_a_link_is_no_session_to_end(store: Store) -> None:
    made = await issue(store, LINK)
    with pytest.raises(NotFound):
        await store.write(lambda tx: people.end(tx, ALICE, made.credential.id))


@pytest.mark.usefixtures("alice")
async def test_a_session_ends_by_itself(store: Store, clock: MovableClock) -> None:
    session = await issue(store, SESSION, QUARTER)
    clock.advance(QUARTER - MICROSECOND)
    assert await who(store, clock, SESSION, session.secret) is not None
    clock.advance(MICROSECOND)
    assert await who(store, clock, SESSION, session.secret) is None


@pytest.mark.usefixtures("alice")
async def test_tokens_are_listed_until_they_are_revoked(store: Store, clock: MovableClock) -> None:
    first = await issue(store, TOKEN)
    clock.advance(timedelta(seconds=1))
    second = await issue(store, TOKEN)
    await issue(store, SESSION)
    assert await store.read(people.tokens) == [second.credential, first.credential]
    await store.write(lambda tx: people.end(tx, ALICE, second.credential.id))
    assert await store.read(lambda session: people.tokens(session, " ALICE@example.com")) == [first.credential]
    assert await store.read(lambda session: people.tokens(session, "bob@example.com")) == []


@pytest.mark.usefixtures("alice")
async def test_every_step_is_a_row_and_no_row_or_column_holds_a_secret(store: Store) -> None:
    token, link = await issue(store, TOKEN), await issue(store, LINK)
    session = await use(store, link)
    await store.write(lambda tx: people.end(tx, ALICE, token.credential.id))
    await store.write(lambda tx: people.remove(tx, "cli:root", ALICE))
    rows = await store.read(lambda s: list(audit.stream(s)))
    assert [row.kind for row in rows] == [
        Kind.PERSON_SAVED,
        Kind.TOKEN_CREATED,
        Kind.LINK_CREATED,
        Kind.SESSION_OPENED,
        Kind.TOKEN_REVOKED,
        Kind.PERSON_REMOVED,
    ]
    stored = await store.read(lambda s: str(s.connection().exec_driver_sql("SELECT * FROM credentials").all()))
    for made in (token, link, session):
        assert made.credential.id in stored
        assert made.secret.partition("_")[2] not in stored + str(rows)
