"""What the measured numbers say: ratios, the table, the goals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from rich.table import Table

from tests.bench.measure import Measured

ADDED_AT_MOST = 4.0
"""Times what nginx adds to p50, at one caller."""
RATE_AT_LEAST = 0.20
"""Of direct's calls a second, at sixteen callers."""


@dataclass(frozen=True, slots=True)
class Ratios:
    """One way against the direct one of the same cell.

    Args:
        added: what it adds to p50, in what nginx adds; None without nginx, or where nginx seemed to add nothing.
        cpu: CPU time of a call, in what the fast upstream itself takes to answer one; None where that was too short.
    """

    rate: float
    p50: float
    p99: float
    added: float | None
    cpu: float | None


@dataclass(frozen=True, slots=True)
class Goal:
    """Where the broker stands. `reached` is 1 or more when the goal is met, else how much of it is."""

    what: str
    stands: float
    goal: float
    reached: float

    def __str__(self) -> str:
        verdict = "reached" if self.reached >= 1 else f"not reached: {self.reached:.2f} of it"
        return f"{self.what}: {_short(self.stands)}; {verdict}"


class Report:
    """Everything that was measured, the ways of a cell in a row and the direct one first."""

    def __init__(self, measured: Sequence[Measured]) -> None:
        self._measured = measured
        self._of = {(one.cell, one.way): one for one in measured}

    def ratios(self, one: Measured) -> Ratios:
        """A line of the table."""
        direct, nginx = self._of[one.cell, "direct"], self._of.get((one.cell, "nginx"))
        added = nginx.p50 - direct.p50 if nginx is not None else 0.0
        return Ratios(
            rate=one.rate / direct.rate,
            p50=one.p50 / direct.p50,
            p99=one.p99 / direct.p99,
            added=(one.p50 - direct.p50) / added if added > 0 else None,
            cpu=one.cpu / direct.cpu if direct.cpu > 0 else None,
        )

    def goals(self) -> Iterator[Goal]:
        """The goals that can be told from what was measured."""
        for one in self._measured:
            if one.way != "broker" or one.cell.upstream != "http":
                continue
            ratios, revision = self.ratios(one), one.cell.revision
            if one.cell.callers == 1 and ratios.added is not None:
                what = f"{revision}, 1 caller: p50 added, in what nginx adds, at most {ADDED_AT_MOST:g}"
                yield Goal(what, ratios.added, ADDED_AT_MOST, ADDED_AT_MOST / ratios.added)
            if one.cell.callers == 16:
                what = f"{revision}, 16 callers: calls/s of direct's, at least {RATE_AT_LEAST:.2f}"
                yield Goal(what, ratios.rate, RATE_AT_LEAST, ratios.rate / RATE_AT_LEAST)

    def as_json(self) -> dict[str, Any]:
        """All of it for programs; absolute values in seconds."""
        lines = [{**asdict(one), "ratios": asdict(self.ratios(one))} for one in self._measured]
        return {"measured": lines}

    def table(self) -> Table:
        """All of it for people. Absolute values stand in brackets: they are this machine's."""
        table = Table("upstream", "revision", "callers", "way", box=None, pad_edge=False)
        for name in ("calls/s", "p50", "p99", "p50 added", "CPU a call", "calls a round"):
            table.add_column(name, justify="right", no_wrap=True)
        for cell, of_cell in groupby(self._measured, lambda one: one.cell):
            where = (cell.upstream, cell.revision, str(cell.callers))
            for one in of_cell:
                table.add_row(*where, one.way, *_numbers(one, self.ratios(one)))
                where = ("", "", "")
        return table


def _numbers(one: Measured, ratios: Ratios) -> Iterator[str]:
    yield f"{_short(ratios.rate)} ({one.rate:,.0f})"
    yield f"{_short(ratios.p50)} ({_short(one.p50 * 1e3)} ms)"
    yield f"{_short(ratios.p99)} ({_short(one.p99 * 1e3)} ms)"
    yield "" if one.way == "direct" or ratios.added is None else _short(ratios.added)
    yield f"{_short(ratios.cpu)} ({one.cpu * 1e6:.0f} µs)"
    yield f"{one.calls:,}"


def _short(number: float | None) -> str:
    return "?" if number is None else f"{number:.0f}" if number >= 100 else f"{number:#.3g}"
