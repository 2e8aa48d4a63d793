"""Limits along the instants of the past."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.calls import UNIT, Charge, Scope
from broker.policy.counters import Counters
from tests.policy.calls import policy

MIDNIGHT = datetime(2026, 7, 28, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def limit(counter: str = "c", window: str = "minute", maximum: int = 2) -> dict[str, Any]:
    return {"counter": counter, "window": window, "max": maximum}


def charge(window: timedelta = MINUTE, maximum: int = 2, *, who: str = "g", **more: Any) -> Charge:
    return Charge("desk", "c", Scope.GRANT, who, window, maximum, f"rule of {window}", **more)


def counters(*limits: dict[str, Any]) -> Counters:
    return Counters(policy(tools={"look": {"limits": list(limits or (limit(),))}}))


def test_one_more_than_the_limit_is_refused_until_the_first_has_left_the_window() -> None:
    counted = counters()
    assert counted.take([charge()], MIDNIGHT) is None
    assert counted.take([charge()], MIDNIGHT + 30 * SECOND) is None
    assert counted.take([charge()], MIDNIGHT + 59 * SECOND) == charge()
    assert counted.take([charge()], MIDNIGHT + MINUTE) == charge()  # an interval holds both its ends
    assert counted.take([charge()], MIDNIGHT + 61 * SECOND) is None


def test_each_grant_has_a_counter_of_its_own() -> None:
    counted = counters(limit(maximum=1))
    assert counted.take([charge(maximum=1, who="a")], MIDNIGHT) is None
    assert counted.take([charge(maximum=1, who="b")], MIDNIGHT) is None
    assert counted.take([charge(maximum=1, who="a")], MIDNIGHT) is not None


def test_a_counter_is_shared_by_the_scopes_that_mean_the_same_one() -> None:
    counted = counters(limit(maximum=1))
    assert counted.take([charge(maximum=1)], MIDNIGHT) is None
    assert counted.take([replace(charge(maximum=1), scope=Scope.SESSION)], MIDNIGHT) is not None


def test_a_call_counts_once_for_a_counter_with_the_largest_of_its_amounts() -> None:
    counted = counters(limit(maximum=9), limit(window="hour", maximum=9))
    both = [charge(maximum=9, amount=6 * UNIT), charge(HOUR, 9)]
    assert counted.take(both, MIDNIGHT) is None
    assert counted.take([charge(HOUR, 9, amount=4 * UNIT)], MIDNIGHT) is not None


def test_a_call_that_one_limit_refuses_is_charged_to_none() -> None:
    counted = counters(limit(), limit(window="hour", maximum=3))
    both = [charge(), charge(HOUR, 3)]
    assert [counted.take(both, MIDNIGHT) for _ in range(3)] == [None, None, charge()]
    assert counted.take(both, MIDNIGHT + 2 * MINUTE) is None
    assert counted.take(both, MIDNIGHT + 4 * MINUTE) == charge(HOUR, 3)


def test_what_one_tool_charges_counts_for_every_window_of_the_counter() -> None:
    tools = {"look": {"limits": [limit(maximum=5)]}, "press": {"limits": [limit(window="hour", maximum=2)]}}
    counted = Counters(policy(tools=tools))
    assert [counted.take([charge(maximum=5)], MIDNIGHT) for _ in range(2)] == [None, None]
    assert counted.take([charge(HOUR, 2)], MIDNIGHT + 2 * MINUTE) == charge(HOUR, 2)


def test_what_a_call_counts_on_a_counter_is_seen_by_every_limit_on_it() -> None:
    counted = counters(limit(maximum=2), limit(window="hour", maximum=5))
    both = [charge(), charge(HOUR, 5, amount=3 * UNIT)]
    assert counted.take(both, MIDNIGHT) == charge()


def test_a_sum_is_counted_by_what_each_call_adds() -> None:
    counted = counters(limit(maximum=10))
    assert counted.take([charge(maximum=10, amount=7 * UNIT)], MIDNIGHT) is None
    assert counted.take([charge(maximum=10, amount=4 * UNIT)], MIDNIGHT) is not None
    assert counted.take([charge(maximum=10, amount=3 * UNIT)], MIDNIGHT) is None


arrivals = st.lists(st.integers(min_value=0, max_value=40), max_size=60)


@given(arrivals, st.integers(min_value=1, max_value=5))
def test_no_interval_of_the_window_s_length_has_more_than_the_limit(gaps: list[int], maximum: int) -> None:
    counted = counters(limit(maximum=maximum))
    at, taken = MIDNIGHT, list[datetime]()
    for gap in gaps:
        at += gap * SECOND
        inside = sum(at - MINUTE <= one for one in taken)
        refused = counted.take([charge(maximum=maximum)], at) is not None
        assert refused == (inside >= maximum)  # a second is longer than a step of a minute, so this is exact
        taken += [] if refused else [at]


@pytest.mark.parametrize("length", [timedelta(days=1), MINUTE])
def test_a_crowded_window_takes_no_more_room_than_its_steps(length: timedelta) -> None:
    counted = counters(limit(window="day" if length > HOUR else "minute", maximum=10**6))
    for number in range(5000):
        assert counted.take([charge(length, 10**6)], MIDNIGHT + number * length / 5000) is None
    assert len(pickle.dumps(counted)) < 32 * 1024
