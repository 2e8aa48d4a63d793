"""Lengths of time as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.durations import LONGEST, parse_duration, spell_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("90s", 90), (" 15m ", 900), ("1h", 3600), ("30d", 2592000), ("3650d", 315360000)]
)
def test_a_whole_number_with_a_unit_is_a_duration(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "0s", "-1s", "1.5h", "15", "m", "1 h", "1H", "1w", "1h30m", "3651d", "999999999d", "٣s", "1s\x00", "9" * 40],
)
def test_anything_else_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration from 1s to 3650d such as 90s, 15m, 1h or 30d\.$"):
        parse_duration(text)


@given(st.integers(1, int(LONGEST.total_seconds())))
def test_what_is_spelt_reads_back(seconds: int) -> None:
    length = timedelta(seconds=seconds)
    assert parse_duration(spell_duration(length)) == length


@pytest.mark.parametrize(("seconds", "spelt"), [(90, "90s"), (900, "15m"), (7200, "2h"), (86400, "1d"), (0, "0s")])
def test_it_is_spelt_in_the_largest_unit_that_leaves_no_rest(seconds: int, spelt: str) -> None:
    assert spell_duration(timedelta(seconds=seconds)) == spelt
