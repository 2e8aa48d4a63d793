"""Bitmaps are kept exactly, and terms are numbers that a column holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.store.terms import (
    BLOCK,
    GRAMS,
    bitmap,
    block_of,
    first_of,
    offsets,
    packed,
    text_terms,
    unpacked,
    value_term,
)

rows = st.sets(st.integers(0, BLOCK - 1)) | st.just(set(range(BLOCK))) | st.just(set(range(0, BLOCK, 9)))


@given(rows)
def test_a_bitmap_is_read_as_it_was_kept_and_takes_no_more_room_than_its_bits(given: set[int]) -> None:
    bits = bitmap(given)
    assert list(offsets(bits)) == sorted(given)
    assert unpacked(packed(bits)) == bits
    assert len(packed(bits)) <= min(BLOCK // 8, 2 * len(given) or 1)


@given(st.text(), st.text())
def test_terms_of_values_and_of_texts_never_meet(field: str, value: str) -> None:
    assert all(0 <= term < GRAMS for term in text_terms(value))
    assert GRAMS <= value_term(field, value) < 2**63


def test_every_row_is_in_one_block() -> None:
    assert [(block_of(first_of(block)), block_of(first_of(block + 1) - 1)) for block in range(3)] == [
        (0, 0),
        (1, 1),
        (2, 2),
    ]
