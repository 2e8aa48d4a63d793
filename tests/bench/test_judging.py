"""Judging stays as quick as it is meant to be; only what is grossly slower fails, whatever else the machine does."""

from __future__ import annotations

from tests.bench.judging import CASES, goals


def test_judging_a_call_by_fifty_tools_costs_microseconds() -> None:
    found = list(goals())
    assert len(found) == len(CASES)
    for goal in found:
        assert goal.reached > 1 / 5, str(goal)
