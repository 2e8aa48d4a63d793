"""The benchmark of searching runs and asks for every kind of search; how fast they are belongs in no test."""

from __future__ import annotations

from broker.store.terms import BLOCK
from tests.bench.searching import KINDS, measured, prepared


async def test_every_kind_of_search_is_measured_on_a_small_record(store_url: str) -> None:
    built = prepared(store_url, BLOCK + 100)
    assert built is not None
    assert prepared(store_url, BLOCK) is None  # what is there is used again
    lines = await measured(store_url, BLOCK, 2)
    assert [line.kind for line in lines] == [kind.name for kind in KINDS]
    found = {line.kind: line.rows for line in lines}
    assert found["everything"] == 50
    assert found["event: never"] == found["text: none has it"] == 0
    assert all(line.size < 100 for line in lines)
