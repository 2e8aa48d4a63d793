"""The chain names the first row that is not as it was written."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.audit import Event, Head, Kind, Row, as_json, chained, split, timestamp, verify
from broker.domain.canonical import canonical_json
from broker.errors import ChainBroken
from tests.clock import NOON

LENGTH = 6
OTHER: dict[str, Any] = {
    "kind": Kind.APPROVAL_APPROVED,
    "at": NOON + timedelta(days=1),
    "seq": 99,
    "detail": {"ms": 2},
    "prev": "1" * 64,
    "digest": "2" * 64,
}
"""Another value of each field; every other field is text."""

places = st.integers(0, LENGTH - 1)


def chain(length: int = LENGTH) -> list[Row]:
    """A good chain."""
    rows: list[Row] = []
    head = Head()
    for number in range(1, length + 1):
        event = Event(kind=Kind.CALL_ALLOWED, actor="agent:grant_1", call_id=f"call_{number}", detail={"ms": 1})
        rows.append(chained(event, number, NOON + number * timedelta(seconds=1), head.digest))
        head = Head(number, rows[-1].digest)
    return rows


def end(rows: list[Row]) -> Head:
    return Head(rows[-1].seq, rows[-1].digest)


def broken_at(rows: list[Row], expected: Head | None = None) -> int:
    with pytest.raises(ChainBroken) as broken:
        verify(rows, expected or end(chain()))
    assert f"row {broken.value.seq}:" in str(broken.value)
    return broken.value.seq


def test_a_good_chain_verifies_and_an_empty_one_too() -> None:
    assert verify(chain(), end(chain())) == end(chain())
    assert verify([], Head()) == Head()


@given(places, st.sampled_from([f.name for f in fields(Row)]))
def test_any_field_that_is_altered_is_found_in_its_row(place: int, name: str) -> None:
    rows = chain()
    rows[place] = replace(rows[place], **{name: OTHER.get(name, "altered")})
    # a row under another number is one that is missing under its own
    assert broken_at(rows) == place + 1


@given(places)
def test_a_row_that_is_altered_and_given_a_fitting_digest_breaks_the_row_after_it(place: int) -> None:
    rows = chain()
    before = rows[place - 1].digest if place else Head().digest
    rows[place] = chained(replace(rows[place], actor="somebody else"), place + 1, rows[place].at, before)
    assert broken_at(rows) == place + 2


@given(places)
def test_a_missing_row_is_named(place: int) -> None:
    rows = chain()
    del rows[place]
    assert broken_at(rows) == place + 1


@given(st.lists(places, min_size=2, max_size=2, unique=True))
def test_swapped_rows_are_found_where_the_first_of_them_was(swapped: list[int]) -> None:
    rows = chain()
    one, other = sorted(swapped)
    rows[one], rows[other] = rows[other], rows[one]
    assert broken_at(rows) == one + 1


@given(places, st.booleans())
def test_a_row_put_in_is_found_where_the_true_one_is_pushed_on(place: int, renumbered: bool) -> None:
    rows = chain()
    put_in = chained(Event(kind=Kind.CALL_DENIED, actor="x"), place + 1, NOON, rows[place].prev)
    following = [replace(row, seq=row.seq + 1) for row in rows[place:]] if renumbered else rows[place:]
    assert broken_at([*rows[:place], put_in, *following]) == place + 2


@given(places)
def test_a_cut_off_end_is_named_by_the_first_row_that_is_gone(place: int) -> None:
    assert broken_at(chain()[:place]) == place + 1


def test_rows_after_the_end_that_the_store_believes_in_are_found() -> None:
    rows = chain()
    assert broken_at(rows, Head(LENGTH - 1, rows[-2].digest)) == LENGTH + 1
    assert broken_at(rows, Head(LENGTH, "3" * 64)) == LENGTH + 1


@pytest.mark.parametrize("detail", [{"ms": float("nan")}, {"why": "\ud800"}])
def test_a_row_altered_to_something_that_was_never_written_is_named_like_any_other(detail: dict[str, Any]) -> None:
    rows = chain()
    rows[2] = replace(rows[2], detail=detail)
    assert broken_at(rows) == 3


def test_kinds_are_noun_and_verb() -> None:
    assert all(len(kind.value.split(".")) == 2 and kind.value.islower() for kind in Kind)


def test_an_instant_has_one_spelling() -> None:
    assert timestamp(NOON) == "2026-07-28T12:00:00.000000Z"
    assert timestamp(NOON + timedelta(microseconds=7)) == "2026-07-28T12:00:00.000007Z"


texts: st.SearchStrategy[str | None] = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
said: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"actor": st.text(), "call_id": texts, "tool": texts, "rule": texts}
)
details: st.SearchStrategy[dict[str, Any]] = st.dictionaries(st.text(), st.floats(0, 9) | texts)


@given(said, details)
def test_a_digest_is_of_the_canonical_json_of_everything_else(values: dict[str, Any], detail: dict[str, Any]) -> None:
    row = chained(Event(kind=Kind.CALL_ANSWERED, **values, detail=detail), 7, NOON, "0" * 64)
    rest = {name: value for name, value in as_json(row).items() if name != "digest"}
    assert row.digest == hashlib.sha256(canonical_json(rest)).hexdigest()


@given(said, details)
def test_all_of_a_row_but_its_place_can_be_worked_out_before(values: dict[str, Any], detail: dict[str, Any]) -> None:
    event = Event(kind=Kind.CALL_ANSWERED, detail=detail, **values)
    before, between, behind = split(event, NOON)
    row = chained(event, 7, NOON, "f" * 64)
    assert hashlib.sha256(f"{before}{'f' * 64}{between}7{behind}".encode()).hexdigest() == row.digest
