"""Finding rows: with the index and without it, on both databases, with texts that mean harm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from broker.domain.audit import Event, Kind, Row
from broker.domain.searching import AuditFilter, Comparison, Outcome, Searched
from broker.errors import ChainBroken
from broker.store import audit, searching
from broker.store.search_index import index_next, unindexed
from broker.store.terms import BLOCK
from broker.store.writer import Store, Transaction
from tests.bench.long_record import BEGAN, EACH, fill, labelled
from tests.clock import MovableClock

HOSTILE = (
    "' OR 1=1 --",
    "100%_\\",
    "\u202egnp.exe",
    "ad\u200bmin",
    "a\0b",
    "<script>alert(1)</script>",
    "Straße İstanbul ﬁne",
    "\x1b[31mred",
    "x" * 5000 + "needle",
    "漢字かな",
    "\U0001f512 key",
    'say "no"',
)
"""What agents and people write."""

WANTED = (
    AuditFilter(kind="call.denied"),
    AuditFilter(actor=" Alice@Example.com "),
    AuditFilter(upstream="git", tool="push_branch"),
    AuditFilter(grant=labelled(2).upper()),
    AuditFilter(outcome=Outcome.FAILED, actor="broker"),
    AuditFilter(channel="slack", text="FINANCE"),
    AuditFilter(channel="slack:#desktop", outcome=Outcome.REJECTED),
    AuditFilter(text="never allowed", upstream="mail"),
    AuditFilter(text="e", since=BEGAN + 1000 * EACH, until=BEGAN + 1200 * EACH),
    AuditFilter(text="no row has this"),
    AuditFilter(since=BEGAN + 1000 * EACH, until=BEGAN + 1100 * EACH),
    AuditFilter(since=BEGAN + 4000 * EACH, until=BEGAN + 4500 * EACH, outcome=Outcome.RAN),
    AuditFilter(since=BEGAN + 9000 * EACH),
    *(AuditFilter(text=text) for text in HOSTILE),
    AuditFilter(tool=HOSTILE[2]),
)


@pytest.fixture
async def long(store: Store, clock: MovableClock) -> Store:
    """More rows than one block has; those at its end are hostile."""
    clock.advance(BEGAN + (BLOCK + 1) * EACH - clock.now())
    fill(store, BLOCK - len(HOSTILE))

    def work(tx: Transaction) -> None:
        for text in HOSTILE * 2:
            tool = text if "\0" not in text else None
            tx.record(Event(kind=Kind.CALL_DENIED, actor="agent:1", tool=tool, detail={"reason": f"because {text}!"}))

    await store.write(work)
    return store


def everything(store: Store, wanted: AuditFilter) -> list[int]:
    """All pages of a search together."""
    return [row.seq for row in store.read_now(lambda session: list(searching.pages(session, wanted)))]


def exported(store: Store, wanted: AuditFilter) -> Iterator[int]:
    last: int | None = 0
    end = store.read_now(audit.head).seq
    while last is not None:
        found = store.read_now(lambda session, last=last: searching.batch(session, wanted, last, end))
        yield from (row.seq for row in found.rows)
        last = found.next


def matching(wanted: AuditFilter, rows: Sequence[tuple[Row, Searched]]) -> list[int]:
    """The rows that match, without any database."""
    comparison, values = Comparison(wanted), set(wanted.values)
    return [
        row.seq
        for row, searched in rows
        if values <= set(searched.values)
        and (wanted.since is None or row.at >= wanted.since)
        and (wanted.until is None or row.at < wanted.until)
        and comparison.finds(searched, row.call_id, row.approval_id)
    ]


def newest_first(store: Store) -> list[tuple[Row, Searched]]:
    rows = store.read_now(lambda session: list(audit.stream(session)))[::-1]
    labels = store.read_now(lambda session: audit.labels_of(session, {row.grant for row in rows if row.grant}))
    named = (
        (row, (row.actor, row.upstream, row.tool, row.rule, row.grant, labels.get(row.grant or ""))) for row in rows
    )
    return [(row, Searched(row.kind, row.detail, *names)) for row, names in named]


def terms(store: Store) -> list[tuple[int, bytes]]:
    with store.engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT term, rows FROM audit_terms ORDER BY term")).all()
    return [(term, bytes(kept)) for term, kept in rows]


async def test_a_search_finds_with_the_index_what_it_finds_without_and_no_other_row(long: Store) -> None:
    rows = newest_first(long)
    expected = {wanted: matching(wanted, rows) for wanted in WANTED}
    assert all(expected[AuditFilter(text=text)] for text in HOSTILE)
    for wanted in WANTED[::4]:
        assert everything(long, wanted) == expected[wanted], wanted
    assert index_next(long.engine) == 1
    for wanted in WANTED:
        assert everything(long, wanted) == expected[wanted], wanted
        assert list(exported(long, wanted)) == expected[wanted][::-1], wanted


async def test_a_search_that_looks_at_much_says_how_far_it_came_and_goes_on_from_there(long: Store) -> None:
    needle = AuditFilter(text="§")
    await long.write(lambda tx: [tx.record(Event(kind=Kind.CALL_ALLOWED, actor="a")) for _ in range(BLOCK)])
    first = long.read_now(lambda session: searching.page(session, needle))
    assert (first.rows, first.next is not None) == ([], True)
    assert everything(long, needle) == []
    with long.engine.begin() as connection:
        connection.execute(sa.text("UPDATE audit SET tool = 'a § b' WHERE seq = 1"))
    assert everything(long, needle) == [1]
    assert list(exported(long, needle)) == [1]


async def test_an_index_that_was_emptied_or_left_undone_is_made_again_and_nothing_is_missed_meanwhile(
    long: Store,
) -> None:
    wanted = AuditFilter(text="x" * 40 + "needle")
    found = everything(long, wanted)
    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(index_next, [long.engine] * 3)) >= 1  # several at once
    whole = terms(long)
    for lost in ("term < 3000", "term >= 0"):
        with long.engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM audit_blocks"))
            connection.execute(sa.text(f"DELETE FROM audit_terms WHERE {lost}"))
            assert unindexed(connection) == [0]
        assert everything(long, wanted) == found
        assert index_next(long.engine) == 1
        assert everything(long, wanted) == found
        assert terms(long) == whole


async def test_rows_are_found_by_their_time_also_when_the_clock_was_set_back(long: Store, clock: MovableClock) -> None:
    clock.advance(timedelta(days=-30))
    at = clock.now()
    await long.write(lambda tx: tx.record(Event(kind=Kind.CALL_ALLOWED, actor="early")))
    index_next(long.engine)
    (early,) = everything(long, AuditFilter(until=at + timedelta(seconds=1)))
    assert everything(long, AuditFilter(actor="early", since=at)) == [early]
    assert everything(long, AuditFilter(actor="early", until=at)) == []


async def test_a_row_that_cannot_be_read_any_more_is_named_and_not_left_out(long: Store) -> None:
    with long.engine.begin() as connection:
        connection.execute(sa.text("UPDATE audit SET detail = '{', tool = 'odd' WHERE seq = 7"))
    for _ in range(2):
        with pytest.raises(ChainBroken) as broken:
            everything(long, AuditFilter(tool="odd"))
        assert broken.value.seq == 7
        assert index_next(long.engine, 9) in (0, 1)
