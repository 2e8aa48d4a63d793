"""What a call is charged: how much, to whose counter, and within which windows."""

from __future__ import annotations

import math
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.calls import UNIT, Action, Said
from broker.policy.judging.decide import decide, explain
from broker.policy.judging.limits import units
from tests.policy.calls import call, policy
from tests.policy.rulebooks import quickly

MOST = 2**31 - 1


def spend(**more: Any) -> dict[str, Any]:
    return {"counter": "spend", "window": "day", "max": 100, "add": "args.amount", "scope": "upstream"} | more


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (0, 0),
        (-0.0, 0),
        (3, 3 * UNIT),
        (2.5, 2_500_000),
        (0.1, 100_000),
        (0.0000001, 1),
        (5e-324, 1),
        (1.0000001, 1_000_001),
        (100, 100 * UNIT),
        (100.000001, 100 * UNIT + 1),
        (1e300, 100 * UNIT + 1),
        (10**5000, 100 * UNIT + 1),
    ],
    ids=lambda value: f"{value:.9}" if isinstance(value, float) else value.bit_length(),
)
def test_a_sum_is_exact_to_millionths_and_rounded_up(amount: Any, expected: int) -> None:
    [charge] = quickly(policy(tools={"pay": {"limits": [spend()]}}), call("pay", arguments={"amount": amount})).charges
    assert charge.amount == expected


@given(st.integers(0, MOST) | st.floats(0, MOST))
def test_a_sum_is_never_less_than_the_number_and_less_than_a_millionth_more(amount: float) -> None:
    exact = Fraction(repr(amount)) * UNIT
    assert 0 <= units(amount, MOST) - exact < 1


@given(st.integers(MOST + 1) | st.floats(MOST, exclude_min=True, allow_infinity=False))
def test_a_sum_beyond_every_max_stays_beyond_it_and_small(amount: float) -> None:
    assert units(amount, MOST) == MOST * UNIT + 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "args.amount is missing"),
        ({"amount": "5"}, "args.amount is text"),
        ({"amount": True}, "args.amount is a boolean"),
        ({"amount": None}, "args.amount is null"),
        ({"amount": [5]}, "args.amount is a list"),
        ({"amount": -1}, "args.amount is negative"),
        ({"amount": -1e-300}, "args.amount is negative"),
        ({"amount": math.nan}, "args.amount is not finite"),
        ({"amount": math.inf}, "args.amount is not finite"),
    ],
)
@pytest.mark.parametrize("action", ["allow", "hold"])
def test_what_cannot_be_added_up_denies(action: str, arguments: dict[str, Any], why: str) -> None:
    limits = [{"counter": "calls", "window": "day", "max": 1}, spend()]
    verdict = decide(policy(tools={"pay": {"action": action, "limits": limits}}), call("pay", arguments=arguments))
    assert (verdict.action, verdict.rule, verdict.charges) == (Action.DENY, "tools.pay.limits[1].add", ())
    assert f"{why}, and the policy adds it up: give a number that is not negative" in str(verdict.reason)


def test_a_charge_knows_the_finest_window_that_the_policy_puts_on_its_counter() -> None:
    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    stated = policy(
        tools={
            "a": {"limits": [{"counter": "c", "window": "hour", "max": 9}, spend()]},
            "b": {"limits": [{"counter": "c", "window": "minute", "max": 3}]},
            "c": {"limits": [{"counter": "c", "window": "second", "max": 3, "scope": "upstream"}]},
        }
    )
    [hourly, sums] = decide(stated, call("a", arguments={"amount": 1})).charges
    assert (hourly.window, hourly.finest) == (hour, minute)
    assert (sums.window, sums.finest) == (timedelta(days=1), None)
    assert decide(stated, call("b")).charges[0].finest is None


def test_without_a_session_the_counter_of_a_session_is_that_of_its_grant() -> None:
    stated = policy(
        tools={
            "a": {"limits": [{"counter": "c", "window": "hour", "max": 9, "scope": "grant"}]},
            "b": {"limits": [{"counter": "c", "window": "minute", "max": 3, "scope": "session"}]},
        }
    )
    assert decide(stated, call("a")).charges[0].finest == timedelta(minutes=1)


def test_an_explanation_says_what_each_limit_counts() -> None:
    limits = [
        {"counter": "c", "window": "minute", "max": 10},
        spend(),
        {"counter": "d", "window": 90, "max": 2, "scope": "session"},
    ]
    steps = explain(policy(tools={"pay": {"limits": limits}}), call("pay", arguments={"amount": 1})).steps
    assert [(step.rule, step.saw) for step in steps if step.said is Said.COUNTS] == [
        ("tools.pay.limits[0]", "10 in a minute for each grant"),
        ("tools.pay.limits[1]", "100 of args.amount in a day for all together"),
        ("tools.pay.limits[2]", "2 in 90 seconds for each session"),
    ]
