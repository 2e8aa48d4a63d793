"""How long a place where nothing can be told is left alone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.approvals.troubles import Troubles, delay
from broker.errors import ChannelError
from tests.approvals.office import MAIN
from tests.clock import NOON

POSTING = (MAIN, False)


def test_delays_double_up_to_a_minute_and_no_two_are_alike() -> None:
    for failures in range(1, 2000, 7):
        most = min(60.0, 2.0 ** min(failures - 1, 20))
        found = {delay(failures).total_seconds() for _ in range(20)}
        assert len(found) > 1
        assert most / 2 <= min(found) <= max(found) <= most


@pytest.mark.parametrize("wish", [float("nan"), float("inf"), 1e9, -5.0])
def test_no_channel_can_ask_to_be_left_alone_for_longer_than_an_hour(wish: float) -> None:
    troubles = Troubles()
    troubles.failed(POSTING, ChannelError("slow down", retry_after=wish), NOON)
    assert troubles.resting(POSTING, NOON + timedelta(seconds=0.4))
    assert not troubles.resting(POSTING, NOON + timedelta(hours=1))


def test_a_clock_that_is_set_back_makes_no_rest_longer() -> None:
    troubles = Troubles()
    troubles.failed(POSTING, ChannelError("slow down", retry_after=60), NOON)
    assert not troubles.resting(POSTING, NOON - timedelta(hours=5))


def test_what_a_channel_says_of_its_trouble_is_repeated_safely_and_in_short() -> None:
    troubles = Troubles()
    troubles.failed(POSTING, ChannelError("no\x1b[31m\n" + "x" * 100_000), NOON)
    found = troubles.longest({POSTING})
    assert found is not None
    assert found.sentence.startswith(f"{MAIN}: no\\u001b[31m\\nxxx")
    assert len(found.sentence) < 500
