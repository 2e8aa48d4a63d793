from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.durations import parse_duration, written_duration


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("1h", timedelta(hours=1)),
        (" 30d ", timedelta(days=30)),
    ],
)
def test_a_duration_is_a_whole_number_with_a_unit(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize(
    "text", ["", "15", "m", "1.5h", "-1h", "0s", "1h30m", "15 m", "3651d", "999999999d", "\u0661m"]
)
def test_everything_else_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration from 1s to 3650d such as 90s, 15m, 1h or 30d\."):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (1, "1s"),
        (90, "90s"),
        (900, "15m"),
        (3600, "1h"),
        (5400, "90m"),
        (86400, "1d"),
        (1000001, "1000001s"),
        (0.5, "0.5s"),
    ],
)
def test_a_length_is_written_in_the_largest_unit_that_is_exact(seconds: float, written: str) -> None:
    assert written_duration(timedelta(seconds=seconds)) == written


@given(st.integers(min_value=1, max_value=10**8))
def test_what_is_written_is_read_back(seconds: int) -> None:
    assert parse_duration(written_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)
