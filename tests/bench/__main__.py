"""What the broker costs a call, side by side with no broker: `make bench`, or `python -m tests.bench`.

The ways a call takes: straight to a fast upstream (direct), through a plain nginx reverse proxy where nginx is
installed, and through `broker serve` on SQLite, where policy allows it, a limit counts it, and the record has two rows
of it. In each cell (kind of upstream, protocol revision, callers) the ways take turns for some rounds, and every number
is the median over the rounds. A caller makes its next call when its last one is answered.

How to read it. Ratios are the result: calls/s, p50 and p99 in those of direct, p50 added in what nginx adds, CPU a call
in what the fast upstream itself needs for one (the broker's is that of its process alone). What stands in brackets is
true of this machine now. Load, upstream and what is between them share the cores, so where these are few a way is
charged for what the others take. Direct to a stdio upstream is a client at the process's own pipes, and with many
callers one write carries many lines. p99 needs calls: how many a round had is the last column. The lines at the end say
where the goals of the design stand, that of judging alone among them; a missed one is no error, the exit status is
about the run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from functools import partial
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import Progress

from tests.bench import judging
from tests.bench.measure import CELLS, Measured, loader, measured
from tests.bench.report import Report
from tests.bench.ways import all_ways

WIDE = 130
"""Columns that the table needs: in a narrower terminal its lines are broken, and no number is cut off."""


def _arguments() -> argparse.Namespace:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__, formatter_class=style)
    parser.add_argument("--quick", action="store_true", help="a first impression in half a minute")
    parser.add_argument("--rounds", type=int, help="how often each way is measured in each cell")
    parser.add_argument("--seconds", type=float, help="how long each time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    given = parser.parse_args()
    given.rounds = given.rounds or (2 if given.quick else 5)
    given.seconds = given.seconds or (0.5 if given.quick else 1.5)
    return given


async def _measure(rounds: int, seconds: float, console: Console) -> list[Measured]:
    found: list[Measured] = []
    showing = Progress(console=console, transient=True, disable=not console.is_terminal)
    with tempfile.TemporaryDirectory() as folder, showing as progress:
        starting = progress.add_task("starting", total=None)
        async with all_ways(Path(folder)) as ways, loader() as load:
            progress.remove_task(starting)
            total = sum(len(ways[cell.upstream]) for cell in CELLS) * rounds
            task = progress.add_task("", total=total)
            for cell in CELLS:
                progress.update(task, description=f"{cell.upstream} {cell.revision} {cell.callers}")
                step = partial(progress.advance, task)
                found += await measured(load, cell, ways[cell.upstream], rounds, seconds, step)
    return found


def main() -> None:
    """Measure and say it."""
    given, console = _arguments(), Console()
    console.width = max(console.width, WIDE)
    found = asyncio.run(_measure(given.rounds, given.seconds, console))
    report = Report(found)
    console.print(report.table())
    console.print(f"\n{os.cpu_count()} cores for everything; medians of {given.rounds} rounds of {given.seconds:g} s.")
    if all(one.way != "nginx" for one in found):
        console.print("nginx is not installed: nothing is compared with it.")
    goals = [*report.goals(), *judging.goals()]
    for goal in goals:
        console.print(str(goal), highlight=False)
    if given.json is not None:
        facts = {"cores": os.cpu_count(), "rounds": given.rounds, "seconds": given.seconds, "goals": goals}
        given.json.write_bytes(orjson.dumps(facts | report.as_json(), option=orjson.OPT_INDENT_2))


main()
