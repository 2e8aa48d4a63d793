"""How long the audit page takes over a long record: `python -m tests.bench.searching`.

A record of a million rows is made on SQLite and on PostgreSQL (some minutes each) and indexed as the server does it.
Then each kind of search asks for its pages in turn: the newest, those behind a place somewhere in the record, and the
one that the page before leads to. A page is asked for as a browser does, so a time is all of it: the session, the
search, the template. Beside the milliseconds stand how many rows a page had in the middle, in how many of a hundred it
said that it did not look at everything, and how large the largest page was.

Before that: what the index costs for each row, in time beside the calls and in room, and how long a million rows take.
All of it is true of this machine now. A missed goal is no error, the exit status is about the run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, process_time
from urllib.parse import urlencode

import httpx2
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from broker.domain.audit import timestamp
from broker.domain.clock import SystemClock
from broker.store.search_index import index_next, unindexed
from broker.store.terms import BLOCK
from broker.store.writer import Store
from tests.bench.long_record import BEGAN, EACH, GRANTS, NOUNS, PEOPLE, RARE, UPSTREAMS, VERBS, WORDS, fill, labelled
from tests.postgres import running_postgres
from tests.web.desk import close_desk, open_desk

AT_MOST = 100
"""Milliseconds of a page (p95)."""

WIDE = 130

Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of search: its name, and the query of one of its searches."""

    name: str
    query: Callable[[random.Random, int], Query]


def _tool(dice: random.Random) -> str:
    return f"{dice.choice(VERBS)}_{dice.choice(NOUNS)}"


def _agent(dice: random.Random) -> str:
    return labelled(dice.randrange(GRANTS))


def _span(dice: random.Random, rows: int, part: float) -> Query:
    begins = BEGAN + EACH * rows * dice.random() * (1 - part)
    return {"since": timestamp(begins), "until": timestamp(begins + EACH * rows * part)}


KINDS = (
    Kind("everything", lambda dice, rows: {}),
    Kind("time: an hour", lambda dice, rows: _span(dice, rows, min(1.0, timedelta(hours=1) / (EACH * rows)))),
    Kind("time: half of it", lambda dice, rows: _span(dice, rows, 0.5)),
    Kind("time: before all", lambda dice, rows: {"until": timestamp(BEGAN)}),
    Kind("actor: a person", lambda dice, rows: {"actor": dice.choice(PEOPLE)}),
    Kind("actor: nobody", lambda dice, rows: {"actor": "mallory@example.com"}),
    Kind("upstream", lambda dice, rows: {"upstream": dice.choice(UPSTREAMS)}),
    Kind("tool", lambda dice, rows: {"tool": _tool(dice)}),
    Kind("agent", lambda dice, rows: {"grant": _agent(dice)}),
    Kind("event: common", lambda dice, rows: {"kind": "call.allowed"}),
    Kind("event: never", lambda dice, rows: {"kind": "grant.revoked"}),
    Kind("outcome: ran", lambda dice, rows: {"outcome": "ran"}),
    Kind("outcome: rejected", lambda dice, rows: {"outcome": "rejected"}),
    Kind("outcome: never", lambda dice, rows: {"outcome": "interrupted"}),
    Kind("channel", lambda dice, rows: {"channel": dice.choice(("slack", "slack:#desktop", "web", "api"))}),
    Kind("text: a common word", lambda dice, rows: {"q": dice.choice((*VERBS, *NOUNS))}),
    Kind("text: of a reason", lambda dice, rows: {"q": dice.choice([word for word in WORDS if len(word) > 4])}),
    Kind("text: rare", lambda dice, rows: {"q": RARE}),
    Kind("text: none has it", lambda dice, rows: {"q": f"zebra {dice.getrandbits(32):x}"}),
    Kind("text: two letters", lambda dice, rows: {"q": "qz"}),
    Kind("text: id of no call", lambda dice, rows: {"q": f"call_{dice.getrandbits(96):024x}"}),
    Kind(
        "common and common",
        lambda dice, rows: {"tool": _tool(dice), "upstream": dice.choice(UPSTREAMS), "outcome": "ran"},
    ),
    Kind("common, together rare", lambda dice, rows: {"actor": "broker", "outcome": "failed", "tool": _tool(dice)}),
    Kind("common, together none", lambda dice, rows: {"actor": dice.choice(PEOPLE), "outcome": "ran"}),
    Kind("text, tool, outcome", lambda dice, rows: {"q": "ticket", "tool": _tool(dice), "outcome": "rejected"}),
    Kind("time, agent, text", lambda dice, rows: {**_span(dice, rows, 0.3), "grant": _agent(dice), "q": "never"}),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Pages of one kind of search; times in milliseconds, size in kilobytes."""

    store: str
    kind: str
    p50: float
    p95: float
    most: float
    rows: int
    stopped: int
    size: float


@dataclass(frozen=True, slots=True)
class Built:
    """What the index cost: microseconds and bytes for each row; seconds until all rows have one while the server is idle."""

    store: str
    wall: float
    cpu: float
    size: float


async def measured(url: str, rows: int, pages: int, name: str) -> list[Measured]:
    """Every kind of search on the record at `url`."""
    desk = await open_desk(url, SystemClock())
    client = await desk.browser("auditor")
    found = [await _kind(client, kind, rows, pages, name) for kind in KINDS]
    await close_desk(desk)
    return found


async def _kind(client: httpx2.AsyncClient, kind: Kind, rows: int, pages: int, store: str) -> Measured:
    dice = random.Random(kind.name)  # noqa: S311 - the same each time
    times, counts, sizes, stopped, following = [], [], [], 0, None
    for number in range(pages):
        query = kind.query(dice, rows)
        match number % 3:
            case 1:
                query = {**query, "cursor": str(dice.randrange(1, rows))}
            case 2 if following:
                query = following
            case _:
                pass
        began = perf_counter()
        answer = await client.get(f"/audit?{urlencode(query)}")
        times.append((perf_counter() - began) * 1000)
        assert answer.status_code == 200, answer.text
        page = answer.text
        counts.append(page.count("<time datetime") if "<tbody>" in page else 0)
        sizes.append(len(answer.content) / 1000)
        stopped += 'class="stopped"' in page
        leads = re.search(r"cursor=(\d+)", page)
        following = {**query, "cursor": leads[1]} if leads else None
    p95 = quantiles(times, n=20)[-1]
    return Measured(
        store, kind.name, median(times), p95, max(times), int(median(counts)), round(100 * stopped / pages), max(sizes)
    )


def build(store: Store, name: str) -> Built | None:
    """Index what has no index yet; None when there is nothing of it."""
    with store.engine.connect() as connection:
        blocks = len(unindexed(connection))
    if not blocks:
        return None
    began, cpu, size = perf_counter(), process_time(), _size(store)
    while index_next(store.engine, 10):
        pass
    each = blocks * BLOCK / 1e6
    return Built(
        name, (perf_counter() - began) / each, (process_time() - cpu) / each, (_size(store) - size) / each / 1e6
    )


def _size(store: Store) -> int:
    with store.engine.connect() as connection:
        if store.engine.dialect.name == "postgresql":
            return connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        return pages * connection.execute(text("PRAGMA page_size")).scalar_one()


def prepared(url: str, rows: int, name: str) -> Built | None:
    """A record of `rows` rows at `url`, indexed; one that is there already is used."""
    store = Store(url, SystemClock())
    with store.engine.connect() as connection:
        there = connection.execute(text("SELECT seq FROM chain_head")).scalar_one()
    if not there:
        fill(store, rows)
    built = build(store, name)
    store.close()
    return built


@contextmanager
def _databases(wanted: Sequence[str], folder: Path) -> Generator[list[tuple[str, str]]]:
    found = [("sqlite", f"sqlite:///{folder / 'searching.db'}")] if "sqlite" in wanted else []
    if "postgresql" not in wanted:
        yield found
        return
    with running_postgres() as server:
        yield [*found, ("postgresql", server.new_database())]


def _table(lines: Sequence[Measured]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="")
    table.add_column("store")
    table.add_column("search")
    for name in ("p50 ms", "p95 ms", "most ms", "rows", "stopped %", "kB"):
        table.add_column(name, justify="right")
    for line in lines:
        numbers = (f"{line.p50:.1f}", f"{line.p95:.1f}", f"{line.most:.1f}", str(line.rows), str(line.stopped))
        table.add_row(line.store, line.kind, *numbers, f"{line.size:.0f}")
    return table


def main() -> None:
    """Make the records, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--pages", type=int, default=60, help="of each kind of search")
    parser.add_argument("--store", choices=["sqlite", "postgresql"], action="append", help="both, when left out")
    parser.add_argument("--folder", type=Path, help="where the SQLite file lies, to be used again")
    parser.add_argument("--json", type=Path, help="write everything that was measured")
    given = parser.parse_args()
    console = Console(width=WIDE)
    lines, costs = list[Measured](), list[Built]()
    with (
        tempfile.TemporaryDirectory() as folder,
        _databases(given.store or ["sqlite", "postgresql"], given.folder or Path(folder)) as databases,
    ):
        for name, url in databases:
            if (built := prepared(url, given.rows, name)) is not None:
                costs.append(built)
                console.print(
                    f"{name}: the index costs {built.wall:.0f} µs a row ({built.cpu:.0f} µs of this process's CPU) and {built.size:.0f} bytes"
                )
            lines += asyncio.run(measured(url, given.rows, given.pages, name))
    console.print(_table(lines))
    slowest = max(lines, key=lambda line: line.p95)
    verdict = "reached" if slowest.p95 <= AT_MOST else "not reached"
    console.print(
        f"\nThe slowest kind of search ({slowest.store}, {slowest.kind}): p95 {slowest.p95:.0f} ms, at most {AT_MOST}: {verdict}"
    )
    if given.json:
        given.json.write_text(
            json.dumps({"measured": [asdict(line) for line in lines], "built": [asdict(cost) for cost in costs]})
        )


if __name__ == "__main__":
    main()
