"""How cost grew when that was measured (`growth`), and what is kept of it in the repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from tests.bench.findings import Machine
from tests.bench.sheet import Sheet, short

KEPT = Path(__file__).with_name("grown.json")
"""What the page shows."""


@dataclass(frozen=True, slots=True)
class Point:
    """What it costs at one size.

    Args:
        cpu: seconds of CPU time of a call.
        rate: calls a second.
        idle: the part of a core while nobody calls.
        memory: bytes.
    """

    thing: str
    size: int
    cpu: float
    rate: float
    idle: float
    memory: int


@dataclass(frozen=True, slots=True)
class Growth:
    """All that was measured, and where it was."""

    machine: Machine
    points: Sequence[Point]

    @classmethod
    def read(cls) -> Growth:
        """What `write` wrote."""
        return _GROWTH.validate_json(KEPT.read_bytes())

    def write(self) -> None:
        """As JSON, in seconds and bytes."""
        KEPT.write_bytes(_GROWTH.dump_json(self, indent=1) + b"\n")

    def sheet(self) -> Sheet:
        """For people."""
        head = ("of", "there are", "CPU a call", "grows", "calls/s", "idle", "memory")
        smallest = {point.thing: point.cpu for point in reversed(self.points)}
        return Sheet(head, [_line(point, point.cpu / smallest[point.thing]) for point in self.points])


_GROWTH = TypeAdapter(Growth)


def _line(point: Point, grows: float) -> tuple[str, ...]:
    cost = (f"{point.cpu * 1e6:,.0f} µs", short(grows), f"{point.rate:,.0f}")
    return (point.thing, f"{point.size:,}", *cost, f"{point.idle:.1%}", f"{point.memory / 2**20:.0f} MiB")
