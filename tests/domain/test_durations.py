from __future__ import annotations

from datetime import timedelta

import pytest

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


@pytest.mark.parametrize("text", ["1s", "90s", "15m", "1h", "36h", "30d", "86399s"])
def test_a_duration_is_written_as_people_write_it(text: str) -> None:
    assert written_duration(parse_duration(text)) == text
