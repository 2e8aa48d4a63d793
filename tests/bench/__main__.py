"""What the broker costs, side by side with no broker: `make bench`, or `python -m tests.bench`.

The ways a call takes: straight to a fast upstream (direct), through a plain nginx reverse proxy where nginx is
installed, and through `broker serve`, where policy allows it, a limit counts it, and the record has two rows of it. In
each cell the ways take turns for some rounds, and every number is the median over the rounds. A caller makes its next
call when its last one is answered. The main cells are those of each protocol revision with 1, 16 and 64 callers over
HTTP: arguments of 64 bytes, an answer of 64 bytes in JSON, SQLite. In the others one thing is another one, with 16
callers: an answer of 100 KB, an answer as SSE, a stdio upstream, PostgreSQL. `--all` takes every combination.

How to read it. Ratios are the result: calls/s, p50, p95 and p99 in those of direct, p50 added in what nginx adds, CPU a
call in what the fast upstream itself needs for one (the broker's is that of its process alone). What stands in brackets
is true of this machine now. Load, upstream and what is between them share the cores, so where these are few a way is
charged for what the others take. Direct to a stdio upstream is a client at the process's own pipes, and with many
callers one write carries many lines.

Then: the memory of the broker's process, idle and after each load; what a held call costs, and how soon a decision
reaches who waits (`python -m tests.bench.holding` says more of it); how soon a broker answers after its start; what
judging alone costs. The lines at the end say where the goals of the design stand; a missed one is no error, the exit
status is about the run. How cost grows is told by `python -m tests.bench.growth`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
from asyncio.subprocess import DEVNULL
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import orjson
import uvloop
from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import Progress

from tests.bench import holding, judging, pages
from tests.bench.findings import Findings, Machine, Memory
from tests.bench.measure import ALL_CELLS, CELLS, Cell, Measured, loader, measured
from tests.bench.processes import MODULE, resident
from tests.bench.report import Goal, Report, at_most
from tests.bench.ways import all_ways
from tests.servers import ROOT

WIDE = 150
"""Columns that the table needs: in a narrower terminal its lines are broken, and no number is cut off."""

SETTLED = 2.0
"""Seconds after which a broker that was started is idle."""

PARTS = ("calls", "held", "start", "judging")
PLAN = holding.Plan(held=(100, 1_000, 10_000), decisions=200, rate=20, still=11)
QUICK = holding.Plan(held=(100,), decisions=20, rate=20, still=1)
KIND = holding.KINDS[1]

IDLE_AT_MOST = 90
"""MiB."""


def _arguments() -> argparse.Namespace:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__, formatter_class=style)
    parser.add_argument("--quick", action="store_true", help="a first impression in a minute")
    parser.add_argument("--rounds", type=int, help="how often each way is measured in each cell")
    parser.add_argument("--seconds", type=float, help="how long each time")
    parser.add_argument("--all", action="store_true", help="every combination: an hour and more")
    parser.add_argument("--callers", type=int, help="only the cells with so many")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured; all of it else")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    parser.add_argument("--write", action="store_true", help="keep it, and write it into README.md and docs/speed.md")
    given = parser.parse_args()
    given.rounds = given.rounds or (1 if given.quick else 5)
    given.seconds = given.seconds or (0.4 if given.quick else 1.5)
    return given


async def _calls(
    cells: Sequence[Cell], rounds: int, seconds: float, progress: Progress
) -> tuple[list[Measured], dict[str, Memory]]:
    found = list[Measured]()
    with tempfile.TemporaryDirectory() as folder:
        starting = progress.add_task("starting", total=None)
        async with all_ways(Path(folder)) as ways, loader() as load:
            await asyncio.sleep(SETTLED)
            progress.remove_task(starting)
            idle = {store: resident(process) for store, process in ways.brokers.items()}
            loaded = dict(idle)
            total = sum(len(ways.to(cell.upstream, cell.store)) for cell in cells) * rounds
            task = progress.add_task("", total=total)
            for cell in cells:
                progress.update(task, description=f"{cell.revision} {cell.callers} {cell.varied}")
                step = partial(progress.advance, task)
                found += await measured(load, cell, ways.to(cell.upstream, cell.store), rounds, seconds, step)
                loaded[cell.store] = max(loaded[cell.store], resident(ways.brokers[cell.store]))
            progress.remove_task(task)
    return found, {store: Memory(idle[store], loaded[store]) for store in idle}


async def _started(rounds: int, still: int) -> list[Goal]:
    """Where starting stands: that is measured by a process which has nothing else to do."""
    with tempfile.NamedTemporaryFile() as file:
        given = ("--rounds", str(rounds), "--still", str(still), "--json", file.name)
        process = await asyncio.create_subprocess_exec(
            *MODULE, "tests.bench.starting", *given, cwd=ROOT, stdout=DEVNULL
        )
        if await process.wait():
            raise RuntimeError("The start could not be measured.")
        return TypeAdapter(list[Goal]).validate_python(orjson.loads(file.read())["goals"])


async def _findings(given: argparse.Namespace, progress: Progress) -> Findings:
    calls, memory = list[Measured](), dict[str, Memory]()
    held, ended, started, judged = list[holding.Held](), list[holding.Ended](), list[Goal](), list[Goal]()
    if "calls" in given.parts:
        cells = [one for one in (ALL_CELLS if given.all else CELLS) if given.callers in (None, one.callers)]
        calls, memory = await _calls(cells, given.rounds, given.seconds, progress)
    if "held" in given.parts:
        gc.disable()  # a collection here would be somebody's latency
        held, ended = await holding.measured([KIND], QUICK if given.quick else PLAN, None, progress)
        gc.enable()
    if "start" in given.parts:
        started = await _started(2 if given.quick else 5, 1 if given.quick else 5)
    if "judging" in given.parts:
        judged = list(judging.goals())
    idle = (at_most(f"idle on {store}: MiB", of.idle / 2**20, IDLE_AT_MOST) for store, of in memory.items())
    goals = [*Report(calls).goals(), *holding.goals(held), *idle, *started, *judged]
    return Findings(Machine.this(), given.rounds, given.seconds, calls, memory, held, ended, goals)


def _tell(found: Findings, console: Console) -> None:
    if found.measured:
        console.print(Report(found.measured).sheet().rich())
        console.print(f"\nMedians of {found.rounds} rounds of {found.seconds:g} s.")
        if all(one.way != "nginx" for one in found.measured):
            console.print("nginx is not installed: nothing is compared with it.")
    for store, memory in found.memory.items():
        console.print(f"{store}: {memory.idle / 2**20:.0f} MiB idle, {memory.loaded / 2**20:.0f} MiB after the calls.")
    if found.held:
        console.print(holding.sheet(found.held).rich())
    for ended in found.ended:
        console.print(str(ended), highlight=False)
    for goal in found.goals:
        console.print(str(goal), highlight=False)
    console.print(f"All of it on {found.machine}.", highlight=False)


def main() -> None:
    """Measure and say it."""
    given, console = _arguments(), Console()
    console.width = max(console.width, WIDE)
    with Progress(console=console, transient=True, disable=not console.is_terminal, refresh_per_second=2) as progress:
        found = uvloop.run(_findings(given, progress))
    _tell(found, console)
    if given.json is not None:
        found.write(given.json)
    if given.write:
        found.write()
        pages.write()


main()
