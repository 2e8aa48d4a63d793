"""Queries by the driver find what is there, and nothing that only looks like it."""

from __future__ import annotations

from typing import Any

import pytest

from broker.store import approvals
from broker.store.writer import Store
from tests.domain.values import held


@pytest.mark.parametrize("behind", ["\0", "\0x", "\ud800", " ", "'", '"', "%", "é"])
async def test_an_id_with_something_behind_it_finds_nothing_and_the_others_are_found(store: Store, behind: str) -> None:
    approval = held()

    def work(tx: Any) -> None:
        approvals.save(tx.session, approval)

    await store.write(work)
    assert await store.read(lambda session: approvals.by_ids(session, [approval.id + behind])) == []
    asked = [approval.id + behind, approval.id]
    assert await store.read(lambda session: approvals.by_ids(session, asked)) == [approval]


async def test_more_ids_than_a_statement_takes_values_are_found_at_once(store: Store) -> None:
    approval = held()
    await store.write(lambda tx: approvals.save(tx.session, approval))
    asked = [*(f"apr_{number}" for number in range(70_000)), approval.id]
    assert await store.read(lambda session: approvals.by_ids(session, asked)) == [approval]
