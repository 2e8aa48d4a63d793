"""Measuring: which cells there are, and rounds over the ways of each.

A cell is one combination of the dimensions. One more dimension is one more field of `Cell`, its other value in `_TOLD`,
and its part in the `Job`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from statistics import median

import orjson

from tests.bench.answers import LARGE, SMALL
from tests.bench.load import Job, Load
from tests.bench.requests import LEGACY, MODERN
from tests.bench.ways import Way
from tests.servers import ROOT


@dataclass(frozen=True, slots=True)
class Cell:
    """What a table has one group of lines for.

    Args:
        answers: what the upstream answers with: `json`, or `events` (SSE), which HTTP alone has.
        size: bytes of text in an answer.
    """

    revision: str
    callers: int
    upstream: str = "http"
    answers: str = "json"
    size: int = SMALL
    store: str = "sqlite"

    @property
    def varied(self) -> str:
        """In what it is another one than the main cell of its revision and callers; empty for that."""
        return ", ".join(told for (field, value), told in _TOLD.items() if getattr(self, field) == value)


ERAS, CALLERS = (LEGACY, MODERN), (1, 16, 64)
_TOLD = {
    ("size", LARGE): "answers of 100 KB",
    ("answers", "events"): "answers as SSE",
    ("upstream", "stdio"): "stdio upstream",
    ("store", "postgresql"): "PostgreSQL",
}
"""What is varied, one thing at a time, and how it is told."""

CELLS = [
    *(Cell(*of_main) for of_main in product(ERAS, CALLERS)),
    *(replace(Cell(era, 16), **{field: value}) for (field, value), era in product(_TOLD, ERAS)),
]
ALL_CELLS = [
    Cell(*dimensions)
    for dimensions in product(
        *(ERAS, CALLERS, ("http", "stdio"), ("json", "events"), (SMALL, LARGE), ("sqlite", "postgresql"))
    )
    if dimensions[2:4] != ("stdio", "events")
]


@dataclass(frozen=True, slots=True)
class Measured:
    """One way in one cell: medians over the rounds, in seconds. `calls` is how many there were in a round."""

    cell: Cell
    way: str
    calls: int
    rate: float
    p50: float
    p95: float
    p99: float
    cpu: float


Loader = Callable[[Job], Awaitable[Load]]


@contextlib.asynccontextmanager
async def loader() -> AsyncGenerator[Loader]:
    """The process that does jobs, one at a time."""
    command = (sys.executable, "-m", "tests.bench.load")
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    async def load(job: Job) -> Load:
        stdin.write(orjson.dumps(asdict(job)) + b"\n")
        line = await stdout.readline()
        if not line:
            raise RuntimeError(f"The load ended in {job}.")
        return Load(**orjson.loads(line))

    try:
        yield load
    finally:
        stdin.close()
        await process.wait()


async def measured(
    load: Loader, cell: Cell, ways: Sequence[Way], rounds: int, seconds: float, progress: Callable[[], None]
) -> list[Measured]:
    """Each way once in every round, so that whatever else the machine does meets them all."""
    loads: Mapping[str, list[Load]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            how = {"size": cell.size, "events": cell.answers == "events"}
            job = Job(revision=cell.revision, callers=cell.callers, seconds=seconds, **how, **way.target)
            loads[way.name].append(await load(job))
            progress()
    return [_medians(cell, name, of_way) for name, of_way in loads.items()]


def _medians(cell: Cell, way: str, loads: Sequence[Load]) -> Measured:
    return Measured(
        cell,
        way,
        calls=round(median(load.calls for load in loads)),
        rate=median(load.calls / load.seconds for load in loads),
        p50=median(load.p50 for load in loads),
        p95=median(load.p95 for load in loads),
        p99=median(load.p99 for load in loads),
        cpu=median(load.cpu / load.calls for load in loads),
    )
