"""How cost grows with what there is: `python -m tests.bench.growth`.

One thing is made larger at a time, all else stays small. Every size has a broker of its own on SQLite, and the brokers
of a thing take turns under the same load: sixteen callers, arguments and answers of 64 bytes. At each size are told:
the CPU time of a call, and how many came in a second; what the broker takes of a core while nobody calls; the resident
memory of its process after the calls. `grows` is the CPU of a call at that size in that at the smallest one: about 1 is
flat, and what grows by the same with each line grows with the logarithm.

Rules are entries of the policy with conditions and limits, a fifth of them globs. Rows of the record are those of calls
and approvals, indexed. A connected browser has the queue open.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

import uvloop
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import insert

from broker.domain.clock import SystemClock
from broker.front import allow_many_connections
from broker.store.search_index import index_next
from broker.store.tables import GrantRow, table_of
from broker.store.writer import Store
from tests.bench import pages
from tests.bench.answers import TOOL
from tests.bench.findings import Machine
from tests.bench.grown import Growth, Point
from tests.bench.judging import ENTRY
from tests.bench.load import Job, Load
from tests.bench.long_record import BEGAN, PEOPLE, fill
from tests.bench.measure import Loader, loader
from tests.bench.processes import cpu_time, resident
from tests.bench.requests import MODERN
from tests.bench.stage import Broker, Kind, broker_of
from tests.bench.ways import POLICY

SIZES: dict[str, Sequence[int]] = {
    "tools": (10, 100, 1_000),
    "rules": (10, 100, 1_000),
    "grants": (10, 1_000, 100_000),
    "audit rows": (0, 100_000, 1_000_000),
    "held calls": (0, 1_000, 10_000),
    "connected browsers": (0, 100, 500),
}
QUICK, LARGE = 2, {"audit rows": 10_000_000}
"""How many of the sizes `--quick` takes, and what `--large` adds."""

CALLERS, AT_ONCE = 16, 10_000
HOLD = {"approve_if": [{"path": "args.number", "op": "exists", "value": True}]}
"""Calls of the load have no number, and those that are to be held have one."""


# -- what there is ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _broker(folder: Path, thing: str, size: int, keep: Path | None) -> AsyncGenerator[Broker]:
    """One with so many of a thing."""
    url = f"sqlite:///{folder / 'broker.db'}"
    if thing in ("grants", "audit rows"):
        await asyncio.to_thread(_fill, folder / "broker.db", thing, size, keep)
    allowed: dict[str, Any] = POLICY["tools"][TOOL]
    rules = {f"group_{number}_*" if number % 5 == 0 else f"tool_{number}": ENTRY for number in range(1, size)}
    tools = {**(rules if thing == "rules" else {}), TOOL: {**allowed, **HOLD}}
    async with broker_of(folder, url, {**POLICY, "tools": tools}, size if thing == "tools" else 1) as broker:
        if thing == "held calls" and size:
            await broker.hold(Kind(MODERN, progress=True), size, lambda: None)
            await broker.until_held(size)
        pages = await broker.listen(size) if thing == "connected browsers" else []
        yield broker
        for page in pages:
            page.leave()


def _fill(database: Path, thing: str, size: int, keep: Path | None) -> None:
    if keep is None:
        _make(database, thing, size)
        return
    kept = keep / f"{size} {thing}.db"
    if not kept.exists():
        keep.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.unlink(missing_ok=True)
        _make(part, thing, size)
        part.rename(kept)
    shutil.copyfile(kept, database)


def _make(database: Path, thing: str, size: int) -> None:
    store = Store(f"sqlite:///{database}", SystemClock())
    if thing == "grants":
        rows = [
            {
                "id": f"grant_{n:032x}",
                "token_hash": f"{n:064x}",
                "label": f"agent {n}",
                "owner": PEOPLE[n % len(PEOPLE)],
            }
            | {"upstreams": ["fast"], "created_at": BEGAN}
            for n in range(size)
        ]
        with store.engine.begin() as connection:
            for first in range(0, size, AT_ONCE):
                connection.execute(insert(table_of(GrantRow)), rows[first : first + AT_ONCE])
    else:
        fill(store, size)
        while index_next(store.engine, 10):
            pass
    store.close()


# -- measuring --------------------------------------------------------------------------------------------------------


async def _grown(load: Loader, thing: str, sizes: Sequence[int], given: argparse.Namespace) -> list[Point]:
    async with AsyncExitStack() as stack:
        brokers = list[Broker]()
        for size in sizes:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            brokers.append(await stack.enter_async_context(_broker(folder, thing, size, given.keep)))
        targets = [await broker.target() for broker in brokers]
        loads: list[list[Load]] = [[] for _ in brokers]
        for _ in range(given.rounds + 1):
            for target, found in zip(targets, loads, strict=True):
                found.append(await load(Job(MODERN, CALLERS, given.seconds, **target)))
        before = [cpu_time(broker.pid) for broker in brokers]
        await asyncio.sleep(given.still)
        idle = [(cpu_time(broker.pid) - used) / given.still for broker, used in zip(brokers, before, strict=True)]
        return [
            Point(
                *(thing, size),
                cpu=median(one.cpu / one.calls for one in found[1:]),  # the first is for what is made once
                rate=median(one.calls / one.seconds for one in found[1:]),
                idle=share,
                memory=resident(broker.pid),
            )
            for size, found, share, broker in zip(sizes, loads, idle, brokers, strict=True)
        ]


def _arguments() -> argparse.Namespace:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.bench.growth", description=__doc__, formatter_class=style)
    parser.add_argument("--things", nargs="+", choices=SIZES, default=list(SIZES), help="what grows; all of it else")
    parser.add_argument("--quick", action="store_true", help="without the largest sizes")
    parser.add_argument("--large", action="store_true", help="up to 10,000,000 audit rows: most of an hour, and 8 GB")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where filled databases are kept for the next time")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each time")
    parser.add_argument("--still", type=float, default=10.0, metavar="SECONDS", help="how long nobody calls")
    parser.add_argument("--write", action="store_true", help="keep it, and write it into docs/speed.md")
    return parser.parse_args()


def _sizes(thing: str, given: argparse.Namespace) -> Sequence[int]:
    sizes = SIZES[thing][:QUICK] if given.quick else SIZES[thing]
    return (*sizes, LARGE[thing]) if given.large and thing in LARGE else sizes


async def _measured(given: argparse.Namespace, progress: Progress) -> list[Point]:
    points = list[Point]()
    async with loader() as load:
        for thing in progress.track(given.things):
            points += await _grown(load, thing, _sizes(thing, given), given)
            progress.console.print(Growth(Machine.this(), points[-len(_sizes(thing, given)) :]).sheet().rich())
    return points


def main() -> None:
    """Measure and say it."""
    given, console = _arguments(), Console()
    allow_many_connections()
    with Progress(console=console, transient=True, disable=not console.is_terminal, refresh_per_second=2) as progress:
        points = uvloop.run(_measured(given, progress))
    found = Growth(Machine.this(), points)
    console.print(f"All of it on {found.machine}.", highlight=False)
    if given.write:
        found.write()
        pages.write()


if __name__ == "__main__":
    main()
