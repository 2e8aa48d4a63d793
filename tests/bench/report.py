"""What the measured numbers say: ratios, the table, the goals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.bench.measure import Cell, Measured
from tests.bench.sheet import Sheet, short

ADDED_AT_MOST = 4.0
"""Times what nginx adds to p50, at one caller."""
RATE_AT_LEAST = 0.20
"""Of direct's calls a second, at sixteen callers."""

HEAD = ("callers", "revision", "", "way", "calls/s", "p50", "p95", "p99", "p50 added", "CPU a call")


@dataclass(frozen=True, slots=True)
class Ratios:
    """One way against the direct one of the same cell.

    Args:
        added: what it adds to p50, in what nginx adds; None without nginx, or where nginx seemed to add nothing.
        cpu: CPU time of a call, in what the fast upstream itself takes to answer one.
    """

    rate: float
    p50: float
    p95: float
    p99: float
    added: float | None
    cpu: float


@dataclass(frozen=True, slots=True)
class Goal:
    """Where the broker stands. `reached` is 1 or more when the goal is met, else how much of it is."""

    what: str
    stands: float
    goal: float
    reached: float

    def __str__(self) -> str:
        verdict = "reached" if self.reached >= 1 else f"not reached: {self.reached:.2f} of it"
        return f"{self.what}: {short(self.stands)}; {verdict}"


def at_most(what: str, stands: float, goal: float) -> Goal:
    """One that is reached by what is small."""
    return Goal(f"{what}, at most {goal:g}", stands, goal, goal / stands)


class Report:
    """Everything that was measured, the ways of a cell in a row and the direct one first."""

    def __init__(self, measured: Sequence[Measured]) -> None:
        self.measured = measured
        self._of = {(one.cell, one.way): one for one in measured}

    def of(self, cell: Cell, way: str) -> Measured | None:
        """One way in one cell, if that was measured."""
        return self._of.get((cell, way))

    def ratios(self, one: Measured) -> Ratios:
        """A line of the table."""
        direct, nginx = self._of[one.cell, "direct"], self.of(one.cell, "nginx")
        added = nginx.p50 - direct.p50 if nginx is not None else 0.0
        return Ratios(
            rate=one.rate / direct.rate,
            p50=one.p50 / direct.p50,
            p95=one.p95 / direct.p95,
            p99=one.p99 / direct.p99,
            added=(one.p50 - direct.p50) / added if added > 0 else None,
            cpu=one.cpu / direct.cpu,
        )

    def goals(self) -> Iterator[Goal]:
        """The goals that can be told from what was measured."""
        for one in self.measured:
            if one.way != "broker" or one.cell.varied:
                continue
            ratios, revision = self.ratios(one), one.cell.revision
            if one.cell.callers == 1 and ratios.added is not None:
                yield at_most(f"{revision}, 1 caller: p50 added, in what nginx adds", ratios.added, ADDED_AT_MOST)
            if one.cell.callers == 16:
                what = f"{revision}, 16 callers: calls/s of direct's, at least {RATE_AT_LEAST:.2f}"
                yield Goal(what, ratios.rate, RATE_AT_LEAST, ratios.rate / RATE_AT_LEAST)

    def as_json(self) -> list[dict[str, Any]]:
        """All of it for programs; absolute values in seconds."""
        return [{**asdict(one), "ratios": asdict(self.ratios(one))} for one in self.measured]

    def sheet(self) -> Sheet:
        """All of it for people. Absolute values stand in brackets: they are this machine's."""
        return Sheet(HEAD, [_line(one, self.ratios(one)) for one in self.measured], words=4)


def _line(one: Measured, ratios: Ratios) -> tuple[str, ...]:
    cell = one.cell
    where = (str(cell.callers), cell.revision, cell.varied) if one.way == "direct" else ("", "", "")
    times = (f"{short(getattr(ratios, name))} ({short(getattr(one, name) * 1e3)} ms)" for name in ("p50", "p95", "p99"))
    added = "" if one.way == "direct" or ratios.added is None else short(ratios.added)
    rate, cpu = f"{short(ratios.rate)} ({one.rate:,.0f})", f"{short(ratios.cpu)} ({one.cpu * 1e6:.0f} µs)"
    return (*where, one.way, rate, *times, added, cpu)
