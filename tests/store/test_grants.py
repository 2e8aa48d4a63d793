"""Grants: the token is nowhere, finding, rotating, revoking."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from broker.domain.audit import Kind
from broker.errors import NotFound
from broker.store import audit, grants
from broker.store.grants import NewGrant
from broker.store.writer import Store
from tests.clock import NOON, MovableClock


async def make(store: Store, owner: str = "Olga@Example.com ", days: int | None = 30) -> NewGrant:
    expires_at = NOON + timedelta(days=days) if days else None
    return await store.write(
        lambda tx: grants.create(
            tx,
            "cli:root",
            label="ci",
            owner=owner,
            upstreams=frozenset({"desk", "git"}),
            expires_at=expires_at,
            patience=timedelta(minutes=4),
        )
    )


async def test_a_grant_is_found_by_its_token_and_by_its_id(store: Store) -> None:
    made = await make(store)
    assert await store.read(lambda session: grants.by_token(session, made.token)) == made.grant
    assert await store.read(lambda session: grants.get(session, made.grant.id)) == made.grant
    assert made.grant.owner == "olga@example.com"
    assert made.grant.upstreams == {"desk", "git"}
    assert made.grant.patience == timedelta(minutes=4)


@pytest.mark.parametrize("token", ["", "bg_", "bg_unknown", "' OR 1=1 --", "\x00"])
async def test_an_unknown_token_is_nobodys(store: Store, token: str) -> None:
    await make(store)
    assert await store.read(lambda session: grants.by_token(session, token)) is None


async def test_a_new_token_ends_the_old_one_and_the_grant_stays(store: Store) -> None:
    made = await make(store)
    rotated = await store.write(lambda tx: grants.rotate(tx, "cli:root", made.grant.id))
    assert rotated.grant == made.grant
    assert await store.read(lambda session: grants.by_token(session, made.token)) is None
    assert await store.read(lambda session: grants.by_token(session, rotated.token)) == made.grant


async def test_a_revoked_grant_is_dead_and_cannot_be_revoked_or_rotated_again(
    store: Store, clock: MovableClock
) -> None:
    made = await make(store)
    await store.write(lambda tx: grants.revoke(tx, "cli:root", made.grant.id))
    found = await store.read(lambda session: grants.by_token(session, made.token))
    assert found is not None
    assert not found.live(clock.now())
    for again in (grants.revoke, grants.rotate):
        with pytest.raises(NotFound, match=made.grant.id):
            await store.write(lambda tx, again=again: again(tx, "cli:root", made.grant.id))


async def test_each_change_of_a_grant_is_one_row_without_the_token(store: Store) -> None:
    made = await make(store)
    rotated = await store.write(lambda tx: grants.rotate(tx, "cli:root", made.grant.id))
    await store.write(lambda tx: grants.revoke(tx, "cli:root", made.grant.id))
    rows = await store.read(lambda session: list(audit.stream(session)))
    assert [row.kind for row in rows] == [Kind.GRANT_CREATED, Kind.GRANT_ROTATED, Kind.GRANT_REVOKED]
    assert {row.grant for row in rows} == {made.grant.id}
    assert {row.actor for row in rows} == {"cli:root"}
    assert not any(token in str(rows) for token in (made.token, rotated.token))


async def test_grants_are_listed_newest_first_and_by_owner(store: Store, clock: MovableClock) -> None:
    first = await make(store)
    clock.advance(timedelta(seconds=1))
    second = await make(store, "bob@example.com")
    everything = await store.read(grants.all_grants)
    assert [grant.id for grant in everything] == [second.grant.id, first.grant.id]
    assert await store.read(lambda session: grants.all_grants(session, " OLGA@example.com")) == [first.grant]


def content(folder: Path) -> bytes:
    """Every byte of the files in `folder`."""
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_no_byte_of_the_files_says_a_token(tmp_path: Path, clock: MovableClock) -> None:
    store = Store(f"sqlite:///{tmp_path / 'broker.db'}", clock)
    made = await make(store)
    while_open = content(tmp_path)
    store.close()
    closed = content(tmp_path)
    for found in (while_open, closed):
        assert made.grant.id.encode() in found
        assert made.token.removeprefix("bg_").encode() not in found


async def test_no_column_of_any_row_says_a_token(store: Store) -> None:
    made = await make(store)
    tables = ("grants", "audit", "contents")
    dump = await store.read(
        lambda session: [str(row) for t in tables for row in session.connection().exec_driver_sql(f"SELECT * FROM {t}")]
    )
    assert made.grant.id in str(dump)
    assert made.token.removeprefix("bg_") not in str(dump)
