"""Reading the record: filters, pages, and rows that somebody changed in the database itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from broker.domain.audit import Event, Kind, verify
from broker.domain.searching import AuditFilter
from broker.errors import ChainBroken
from broker.store import audit, searching
from broker.store.writer import Store, Transaction
from tests.clock import NOON, MovableClock

SECOND = timedelta(seconds=1)


@pytest.fixture
async def ten(store: Store, clock: MovableClock) -> None:
    """Ten rows, a second apart."""
    for number in range(1, 11):
        event = Event(
            kind=Kind.CALL_ALLOWED if number % 2 else Kind.APPROVAL_SUBMITTED,
            actor=f"agent:{number}",
            call_id=f"call_{number}",
            approval_id=None if number % 2 else "apr_1",
            upstream="desk",
            tool="press_100%",
            grant="grant_1",
            rule="tools.press",
            detail={"reason": f'Grüße "{number}"'},
        )
        await store.write(lambda tx, event=event: tx.record(event))
        clock.advance(SECOND)


async def seqs(store: Store, wanted: AuditFilter, **page: Any) -> list[int]:
    return [row.seq for row in (await store.read(lambda session: searching.page(session, wanted, **page))).rows]


@pytest.mark.usefixtures("ten")
@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (AuditFilter(), range(10, 0, -1)),
        (AuditFilter(since=NOON + 3 * SECOND, until=NOON + 5 * SECOND), [5, 4]),
        (AuditFilter(actor="agent:7"), [7]),
        (AuditFilter(kind="approval.submitted", approval="apr_1"), [10, 8, 6, 4, 2]),
        (AuditFilter(upstream="desk", tool="press_100%", grant="grant_1", actor="agent:1"), [1]),
        (AuditFilter(upstream="other"), []),
        (AuditFilter(text="GRANT_1", actor="agent:1"), [1]),
        (AuditFilter(text="100%"), range(10, 0, -1)),
        (AuditFilter(text="100_"), []),
        (AuditFilter(text='Grüße "3"'), [3]),
        (AuditFilter(text="call_4"), [4]),
        (AuditFilter(text="apr_1"), [10, 8, 6, 4, 2]),
        (AuditFilter(text="' OR 1=1 --"), []),
    ],
)
async def test_a_filter_finds_exactly_what_matches(store: Store, wanted: AuditFilter, found: Any) -> None:
    assert await seqs(store, wanted) == list(found)


@pytest.mark.usefixtures("ten")
async def test_pages_follow_each_other_without_a_gap(store: Store) -> None:
    assert await seqs(store, AuditFilter(), limit=4) == [10, 9, 8, 7]
    assert await seqs(store, AuditFilter(), before=7, limit=4) == [6, 5, 4, 3]
    assert await seqs(store, AuditFilter(), before=1) == []


@pytest.mark.usefixtures("ten")
@pytest.mark.parametrize(
    ("ids", "seqs"),
    [
        (("call_4", "apr_1"), [2, 4, 6, 8, 10]),
        (("call_3", "apr_1"), [2, 3, 4, 6, 8, 10]),
        (("call_3", None), [3]),
        ((None, "apr_1"), [2, 4, 6, 8, 10]),
        ((None, None), []),
    ],
)
async def test_the_history_of_a_call_is_every_row_of_it_and_of_its_approval_oldest_first(
    store: Store, ids: tuple[str | None, str | None], seqs: list[int]
) -> None:
    history = await store.read(lambda session: audit.history(session, *ids))
    assert [row.seq for row in history] == seqs


async def test_of_a_history_without_an_end_the_latest_rows_are_told(store: Store) -> None:
    def work(tx: Transaction) -> None:
        for _ in range(audit.MOST_HISTORY + 1):
            tx.record(Event(kind=Kind.APPROVAL_ABANDONED, actor="agent:1", approval_id="apr_1"))

    await store.write(work)
    history = await store.read(lambda session: audit.history(session, None, "apr_1"))
    assert [row.seq for row in history] == list(range(2, audit.MOST_HISTORY + 2))


@pytest.mark.usefixtures("ten")
async def test_what_is_new_of_approvals_comes_oldest_first(store: Store) -> None:
    since = await store.read(lambda session: audit.approvals_since(session, 4))
    assert [row.seq for row in since] == [6, 8, 10]


async def test_a_log_longer_than_one_fetch_is_read_whole(store: Store) -> None:
    def work(tx: Any) -> None:
        for number in range(audit.STREAM * 2 + 1):
            tx.record(Event(kind=Kind.CALL_ALLOWED, actor=f"{number}"))

    await store.write(work)
    head = await store.read(lambda session: verify(audit.stream(session), audit.head(session)))
    assert head.seq == audit.STREAM * 2 + 1


ALTERED = {
    "at": "0",
    "kind": "'approval.approved'",
    "actor": "'agent:2'",
    "call_id": "NULL",
    "approval_id": "'apr_2'",
    "upstream": "'git'",
    "tool": "''",
    "grant_id": "'grant_2'",
    "verdict": "'allow'",
    "rule": "NULL",
    "arguments_digest": "'0'",
    "detail": "'{}'",
    "prev": "digest",
    "digest": "prev",
    "seq": "99",
}
UNREADABLE = {"kind": "'no.kind'", "detail": "'{'", "at": "9000000000000000000"}


@pytest.mark.usefixtures("ten")
@pytest.mark.parametrize(("column", "value"), [*ALTERED.items(), *UNREADABLE.items()])
async def test_whatever_is_changed_in_the_database_is_named_by_its_row(store: Store, column: str, value: str) -> None:
    with store.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE audit SET {column} = {value} WHERE seq = 4"))
    with pytest.raises(ChainBroken) as broken:
        await store.read(lambda session: verify(audit.stream(session), audit.head(session)))
    assert broken.value.seq == 4


@pytest.mark.usefixtures("ten")
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("DELETE FROM audit WHERE seq = 4", 4),
        ("DELETE FROM audit WHERE seq > 7", 8),
        ("DELETE FROM audit", 1),
        ("UPDATE chain_head SET seq = 9, digest = (SELECT digest FROM audit WHERE seq = 9)", 11),
    ],
)
async def test_rows_that_are_taken_away_are_missed(store: Store, change: str, named: int) -> None:
    with store.engine.begin() as connection:
        connection.execute(sa.text(change))
    with pytest.raises(ChainBroken) as broken:
        await store.read(lambda session: verify(audit.stream(session), audit.head(session)))
    assert broken.value.seq == named


@pytest.mark.usefixtures("ten")
async def test_contents_may_be_emptied_and_the_chain_still_verifies(store: Store) -> None:
    await store.write(lambda tx: tx.keep("call_1", "arguments", {"a": 1}))
    with store.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM contents"))
    assert (await store.read(lambda session: verify(audit.stream(session), audit.head(session)))).seq == 10
