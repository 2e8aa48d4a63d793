"""A call costs no more than is recorded; what a tenth more Python or twice the CPU costs is told, and noise is not."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

from pydantic import TypeAdapter

from tests.bench.regression import KEPT, Cost, Recorded, usual, worse
from tests.servers import ROOT

THEN = TypeAdapter(Recorded).validate_json(KEPT.read_bytes())


def test_a_call_costs_no_more_than_is_recorded() -> None:
    run = subprocess.run([sys.executable, "-m", "tests.bench.regression"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert TypeAdapter(Recorded).validate_json(run.stdout).costs.keys() == THEN.costs.keys()


def test_what_costs_a_third_more_is_told_with_what_to_do_and_what_costs_less_is_not() -> None:
    for name, times in (("bytecodes", 1.3), ("CPU", 2.1)):
        field = name.lower()
        for revision, cost in THEN.costs.items():
            more = {revision: replace(cost, **{field: getattr(cost, field) * times})}
            (told,) = worse(replace(THEN, costs=THEN.costs | more), THEN)
            assert f"A call of {revision} costs {times:.2f} times the {name}" in told
            assert "tests.bench.regression --record" in told
    less = {revision: Cost(cost.bytecodes * 0.5, cost.cpu * 0.5) for revision, cost in THEN.costs.items()}
    assert worse(THEN, THEN) == worse(replace(THEN, costs=less), THEN) == []


def test_calls_into_which_a_tick_fell_or_whose_end_was_missed_are_not_the_usual_ones() -> None:
    assert usual([9_000, 26_100, 19_602, 31_000, 19_700, 15_040, 19_602, 24_000, 27_000, 28_900]) == 19_602
