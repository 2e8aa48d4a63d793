"""Who people are to others: one account at each provider, found by its id and never again by its address."""

from __future__ import annotations

import asyncio

import pytest

from broker.domain.audit import Kind
from broker.domain.people import Role
from broker.errors import AccountRefused, NotFound
from broker.store import audit, identities, people
from broker.store.identities import Identity
from broker.store.writer import Store
from tests.clock import NOON, MovableClock

ANN, BOB = "ann@example.com", "bob@example.com"
SLACK, ISSUER = "slack:T1", "https://id.example.com"
APPROVER = frozenset({Role.APPROVER})


@pytest.fixture(autouse=True)
async def _known(store: Store) -> None:
    await store.write(lambda tx: people.save(tx, "cli:root", ANN, APPROVER, frozenset({"ops"})))
    await store.write(lambda tx: people.save(tx, "cli:root", BOB, APPROVER, frozenset()))


async def link(store: Store, subject: str, email: str, provider: str = SLACK) -> str:
    return (await store.write(lambda tx: identities.link(tx, provider, subject, email))).email


async def vouch(store: Store, groups: dict[str, set[str]], *, others: bool = False, provider: str = SLACK) -> None:
    said = {subject: frozenset(names) for subject, names in groups.items()}
    await store.write(lambda tx: identities.vouch(tx, provider, said, others=others))


async def groups(store: Store, email: str) -> set[str]:
    person = await store.read(lambda session: people.get(session, email))
    assert person is not None
    assert person in await store.read(people.everyone)
    return set(person.groups)


async def rows(store: Store) -> list[tuple[str, str, dict[str, object]]]:
    found = await store.read(lambda session: list(audit.stream(session)))
    return [(row.kind, row.actor, dict(row.detail)) for row in found[2:]]


async def test_the_first_account_with_a_persons_address_is_theirs_from_then_on(store: Store) -> None:
    assert await link(store, "U1", " Ann@EXAMPLE.com") == ANN
    assert await link(store, "U1", ANN) == ANN
    assert await store.read(identities.everyone) == [Identity(SLACK, "U1", ANN, NOON)]
    assert await store.read(lambda session: identities.subject_of(session, SLACK, "ANN@example.com")) == "U1"
    assert await store.read(lambda session: identities.subject_of(session, ISSUER, ANN)) is None
    detail = {"person": ANN, "provider": SLACK, "subject": "U1"}
    assert await rows(store) == [(Kind.PERSON_LINKED, "broker", detail)]


async def test_an_account_that_takes_anothers_address_stays_who_it_was(store: Store) -> None:
    await link(store, "U1", ANN)
    assert await link(store, "U1", BOB) == ANN
    assert await link(store, "U2", BOB) == BOB


async def test_a_second_account_with_a_persons_address_is_refused_in_words_that_help(store: Store) -> None:
    await link(store, "U1", ANN)
    with pytest.raises(AccountRefused, match=r"broker user unlink ann@example\.com"):
        await link(store, "U2", ANN)
    assert await link(store, "other", ANN, ISSUER) == ANN


async def test_an_account_whose_address_is_nobodys_is_refused_in_words_that_help(store: Store) -> None:
    with pytest.raises(AccountRefused, match=r"broker user add eve@example\.com --role approver"):
        await link(store, "U3", "Eve@example.com")
    assert await store.read(identities.everyone) == []


async def test_of_two_accounts_that_match_at_the_same_time_one_is_linked(
    store_url: str, store: Store, clock: MovableClock
) -> None:
    other = Store(store_url, clock)
    subjects = [(each, f"U{number}") for number in range(5) for each in (store, other)]
    found = await asyncio.gather(*(link(at, subject, ANN) for at, subject in subjects), return_exceptions=True)
    other.close()
    assert {str(each) for each in found if each == ANN} == {ANN}
    assert sum(isinstance(each, AccountRefused) for each in found) == 8
    assert len(await store.read(identities.everyone)) == 1


async def test_who_is_unlinked_is_linked_anew_by_the_next_match(store: Store) -> None:
    await link(store, "U1", ANN)
    await vouch(store, {"U1": {"desk"}})
    await store.write(lambda tx: identities.unlink(tx, "cli:root", " ANN@example.com"))
    assert await groups(store, ANN) == {"ops"}
    assert await link(store, "U2", ANN) == ANN
    with pytest.raises(AccountRefused):
        await link(store, "U1", ANN)
    unlinked = (Kind.PERSON_UNLINKED, "cli:root", {"person": ANN, "provider": SLACK, "subject": "U1"})
    assert unlinked in await rows(store)


async def test_unlinking_who_is_not_linked_says_so(store: Store) -> None:
    with pytest.raises(NotFound, match=r"bob@example\.com is not linked to any account: nothing was changed"):
        await store.write(lambda tx: identities.unlink(tx, "cli:root", BOB))


async def test_removal_takes_a_persons_accounts_and_what_is_vouched_for_them(store: Store) -> None:
    await link(store, "U1", ANN)
    await link(store, "sub", ANN, ISSUER)
    await vouch(store, {"U1": {"desk"}})
    await store.write(lambda tx: people.remove(tx, "cli:root", ANN))
    assert [kind for kind, _, _ in await rows(store)][-3:] == [
        Kind.PERSON_UNLINKED,
        Kind.PERSON_UNLINKED,
        Kind.PERSON_REMOVED,
    ]
    with pytest.raises(AccountRefused):
        await link(store, "U1", ANN)
    await store.write(lambda tx: people.save(tx, "cli:root", ANN, APPROVER, frozenset()))
    assert await groups(store, ANN) == set()


async def test_a_persons_groups_are_the_administrators_and_those_that_any_provider_vouches_for(store: Store) -> None:
    await link(store, "U1", ANN)
    await link(store, "sub", ANN, ISSUER)
    await vouch(store, {"U1": {"desk", "ops"}})
    await vouch(store, {"sub": {"staff"}}, provider=ISSUER)
    assert await groups(store, ANN) == {"ops", "desk", "staff"}
    await vouch(store, {"U1": set()})
    assert await groups(store, ANN) == {"ops", "staff"}


@pytest.mark.parametrize(("others", "left"), [(False, {"desk"}), (True, set[str]())])
async def test_who_is_not_mentioned_keeps_their_groups_unless_everybody_was(
    store: Store, others: bool, left: set[str]
) -> None:
    await link(store, "U1", ANN)
    await link(store, "U2", BOB)
    await link(store, "sub", ANN, ISSUER)
    await vouch(store, {"U1": {"desk"}, "U2": {"desk"}})
    await vouch(store, {"sub": {"staff"}}, provider=ISSUER)
    await vouch(store, {"U1": {"desk"}}, others=others)
    assert await groups(store, ANN) == {"ops", "desk", "staff"}
    assert await groups(store, BOB) == left


async def test_what_is_vouched_is_recorded_when_it_changes(store: Store) -> None:
    await link(store, "U1", ANN)
    for said in ({"desk"}, {"desk"}, {"desk", "all"}, set[str]()):
        await vouch(store, {"U1": said})
    told = [detail["groups"] for kind, _, detail in await rows(store) if kind == Kind.PERSON_VOUCHED]
    assert told == [["desk"], ["all", "desk"], []]


async def test_the_administrators_groups_change_without_the_vouched_ones(store: Store) -> None:
    await link(store, "U1", ANN)
    await vouch(store, {"U1": {"desk"}})
    await store.write(lambda tx: people.save(tx, "cli:root", ANN, APPROVER, frozenset({"new"})))
    assert await groups(store, ANN) == {"new", "desk"}
