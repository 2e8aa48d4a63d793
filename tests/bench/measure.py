"""Measuring: which cells there are, and rounds over the ways of each.

A cell is one combination of the dimensions. One more dimension is one more field of `Cell`, its values in `CELLS`, and
its part in the `Job`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from statistics import median

import orjson

from tests.bench.load import Job, Load
from tests.bench.requests import LEGACY, MODERN
from tests.bench.ways import Way
from tests.servers import ROOT


@dataclass(frozen=True, slots=True)
class Cell:
    """What a table has one group of lines for."""

    upstream: str
    revision: str
    callers: int


CELLS = [Cell(*dimensions) for dimensions in product(("http", "stdio"), (LEGACY, MODERN), (1, 16))]


@dataclass(frozen=True, slots=True)
class Measured:
    """One way in one cell: medians over the rounds, in seconds. `calls` is how many there were in a round."""

    cell: Cell
    way: str
    calls: int
    rate: float
    p50: float
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
            job = Job(revision=cell.revision, callers=cell.callers, seconds=seconds, **way.target)
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
        p99=median(load.p99 for load in loads),
        cpu=sum(load.cpu for load in loads) / sum(load.calls for load in loads),  # it is told in steps of 10 ms,
    )
