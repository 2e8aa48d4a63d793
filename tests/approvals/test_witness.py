"""How far the record reaches is noted once a day, whoever runs, so that channels tell it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from broker.approvals.witness import DAY, Witness
from broker.domain.audit import Event, Head, Kind, Row, verify
from broker.domain.searching import AuditFilter
from broker.errors import ChainBroken
from broker.store import audit, searching
from broker.store.writer import Store
from tests.clock import MovableClock


async def noted(store: Store) -> list[Row]:
    """What was noted, oldest first."""
    wanted = AuditFilter(kind=Kind.CHAIN_WITNESSED)
    return (await store.read(lambda session: searching.page(session, wanted).rows))[::-1]


async def test_it_is_noted_at_once_and_then_once_a_day(store: Store, clock: MovableClock) -> None:
    witness = Witness(store)
    for hours in (0, 1, 22, 0.99):
        clock.advance(timedelta(hours=hours))
        await witness.look()
    assert len(await noted(store)) == 1
    clock.advance(timedelta(hours=0.01))
    await witness.look()
    await witness.look()
    first, second = await noted(store)
    assert second.at - first.at == DAY


async def test_of_several_processes_one_notes_it_and_a_start_is_no_reason_to(store: Store, clock: MovableClock) -> None:
    others = [Store(store.engine.url.render_as_string(hide_password=False), clock) for _ in range(3)]
    for _ in range(3):
        await asyncio.gather(*(Witness(each).look() for each in (store, *others)))
        clock.advance(DAY / 3)
    assert len(await noted(store)) == 1
    await asyncio.gather(*(Witness(each).look() for each in (store, *others)))
    assert len(await noted(store)) == 2
    for each in others:
        each.close()


async def test_after_days_without_a_broker_it_is_noted_once(store: Store, clock: MovableClock) -> None:
    await Witness(store).look()
    clock.advance(9 * DAY)
    await Witness(store).look()
    await Witness(store).look()
    assert len(await noted(store)) == 2


async def test_a_clock_that_was_ahead_for_a_while_silences_no_witness(store: Store, clock: MovableClock) -> None:
    witness = Witness(store)
    clock.advance(400 * DAY)
    await witness.look()
    clock.advance(-400 * DAY)
    await witness.look()
    await witness.look()
    assert len(await noted(store)) == 2


async def test_what_was_noted_finds_a_record_that_was_written_anew(store: Store) -> None:
    await store.write(lambda tx: tx.record(Event(kind=Kind.GRANT_REVOKED, actor="cli:eve", grant="g")))
    await Witness(store).look()
    await store.write(lambda tx: tx.record(Event(kind=Kind.GRANT_REVOKED, actor="cli:eve", grant="h")))
    rows = await store.read(lambda session: list(audit.stream(session)))
    [row] = await noted(store)
    assert verify(rows, noted=Head(row.seq, row.digest)).seq == 3
    with pytest.raises(ChainBroken):
        verify(rows[:1], noted=Head(row.seq, row.digest))
