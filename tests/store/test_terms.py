"""Bitmaps are kept exactly, and terms are numbers that a column holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.store.terms import (
    BLOCK,
    PAIRS,
    TRIPLES,
    bitmap,
    block_of,
    first_of,
    offsets,
    packed,
    terms_of,
    terms_with,
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
    assert all(0 <= term < TRIPLES + PAIRS for term in terms_of(value))
    assert TRIPLES + PAIRS <= value_term(field, value) < 2**63


@given(st.text(), st.text(), st.text())
def test_a_text_has_the_terms_of_every_text_in_it(before: str, needle: str, behind: str) -> None:
    assert terms_with(needle) <= terms_of(before + needle + behind)
    assert bool(terms_with(needle)) is (len(needle) > 1)


def test_every_row_is_in_one_block() -> None:
    ends = [(block_of(first_of(block)), block_of(first_of(block + 1) - 1)) for block in range(3)]
    assert ends == [(0, 0), (1, 1), (2, 2)]
