"""Everything that a run of the benchmark found: on which machine, when, and what; what is kept of it in the repository.

What belongs here: that, and reading and writing it. What does not: measuring, showing it (`pages`, `figure`).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter

from tests.bench.holding import Ended, Held
from tests.bench.measure import Measured
from tests.bench.report import Goal

KEPT = Path(__file__).with_name("measured.json")
"""What the pages show."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured."""

    cores: int
    processor: str
    python: str
    date: str

    @classmethod
    def this(cls) -> Self:
        """This one, today."""
        today = datetime.now(UTC).date().isoformat()
        return cls(os.cpu_count() or 1, _processor(), platform.python_version(), today)

    def __str__(self) -> str:
        return f"{self.cores} cores ({self.processor}), Python {self.python}, {self.date}"


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a broker's process holds: before the first call, and the most that was seen between calls."""

    idle: int
    loaded: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What a run found; what it left out is empty.

    Args:
        seconds: that each way was measured in each of the `rounds`.
        memory: by the kind of store.
        goals: where the broker stands.
    """

    machine: Machine
    rounds: int
    seconds: float
    measured: Sequence[Measured] = ()
    memory: dict[str, Memory] = field(default_factory=dict[str, Memory])
    held: Sequence[Held] = ()
    ended: Sequence[Ended] = ()
    goals: Sequence[Goal] = ()

    @classmethod
    def read(cls, file: Path = KEPT) -> Findings:
        """What `write` wrote."""
        return _FINDINGS.validate_json(file.read_bytes())

    def write(self, file: Path = KEPT) -> None:
        """All of it, as JSON in seconds and bytes."""
        file.write_bytes(_FINDINGS.dump_json(self, indent=1) + b"\n")


_FINDINGS = TypeAdapter(Findings)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
