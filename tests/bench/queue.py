"""What the queue costs: `python -m tests.bench.queue`, or with `--postgresql` on a PostgreSQL of its own.

A store with 1,000,000 audit rows and 100,000 approvals, 500 of which wait. First the page itself, as an approver gets
it: p50 and p95 of its answers, and its size. Then one change, with 500 pages open: the time until the last has it, and
the processor time of the whole process for that, beside that of a page.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import insert, text

from broker.domain.approvals import Decision, State
from broker.domain.audit import Kind, timestamp
from broker.domain.clock import SystemClock
from broker.store.tables import ApprovalRow, AuditRow, table_of
from tests.postgres import running_postgres
from tests.web.desk import Desk, close_desk, open_desk, person
from tests.web.stream import Heard, listening

ROWS, APPROVALS, WAITING, PAGES, LOOKS = 1_000_000, 100_000, 500, 500, 100
AT_ONCE = 10_000
GOAL = 0.1
"""Seconds, for the page (design, section 10)."""

VIEWS = ("/", "/?mine=1", "/?group=agent", "/?q=bot-7&risk=high", "/?tool=tool_3&upstream=git")


def _approvals(now: Any) -> Iterator[dict[str, Any]]:
    definition = {"name": "tool", "description": "d" * 800, "inputSchema": {"type": "object"}}
    requirement: dict[str, Any] = {"approvers": [], "quorum": 1, "timeout": None, "channels": [], "allow_self": False}
    for n in range(APPROVALS):
        waits = n >= APPROVALS - WAITING
        at = now - timedelta(seconds=(APPROVALS - n) // 2)
        end = {"state": "rejected", "at": timestamp(at), "by": "second@example.com", "channel": "web"}
        yield {
            "id": f"apr_{n:032x}",
            "state": (State.PENDING if waits else State.REJECTED).value,
            "call_id": f"call_{n:032x}",
            "upstream": ("git", "mail", "files")[n % 3],
            "tool": f"tool_{n % 7}",
            "params": {"name": f"tool_{n % 7}", "arguments": {"path": f"/srv/{n}", "content": "x" * (n % 4000)}},
            "grant_id": f"grant_{n % 40:032x}",
            "grant_label": f"bot-{n % 40}",
            "grant_owner": f"owner{n % 40}@example.com",
            "fingerprint": f"{n:064x}",
            "revision": f"{n:064x}",
            "rule": "tools.x.action",
            "risk": ("low", "medium", "high", "critical")[n % 4],
            "requirement": requirement,
            "definition": definition,
            "created_at": at,
            "deadline": at + timedelta(hours=1),
            "caller": "waiting",
            "resolution": None if waits else end | {"reason": None, "cause": None},
            "resolved_at": None if waits else at,
            "due": None,
        }


def _audit(now: Any) -> Iterator[dict[str, Any]]:
    for seq in range(100, 100 + ROWS):
        held = seq % 10 == 0
        yield {
            "seq": seq,
            "at": now,
            "kind": (Kind.APPROVAL_SUBMITTED if held else Kind.CALL_ALLOWED).value,
            "actor": "agent:grant_1",
            "call_id": f"call_{seq:032x}",
            "approval_id": f"apr_{seq // 10:032x}" if held else None,
            "detail": {},
            "prev": "0" * 64,
            "digest": "0" * 64,
        }


def _fill(desk: Desk) -> None:
    now = desk.store.now()
    for row, values in ((ApprovalRow, _approvals(now)), (AuditRow, _audit(now))):
        batch: list[dict[str, Any]] = []
        with desk.store.engine.begin() as connection:
            for value in values:
                batch.append(value)
                if len(batch) == AT_ONCE:
                    connection.execute(insert(table_of(row)), batch)
                    batch.clear()
    with desk.store.engine.begin() as connection:
        connection.execute(text("UPDATE chain_head SET seq = :seq"), {"seq": 100 + ROWS})


async def _pages(desk: Desk, client: httpx2.AsyncClient) -> bool:
    reached = True
    for view in VIEWS:
        seconds: list[float] = []
        size, begun_cpu = 0, time.process_time()
        for _ in range(LOOKS):
            begun = time.perf_counter()
            answer = await client.get(view)
            seconds.append(time.perf_counter() - begun)
            assert answer.status_code == 200, answer.text
            size = len(answer.content)
        late = _p95(seconds)
        reached = reached and late <= GOAL
        spent = (time.process_time() - begun_cpu) / LOOKS
        half = statistics.median(seconds)
        _say(
            f"{view:32} p50 {half * 1000:5.1f} ms  p95 {late * 1000:5.1f} ms  processor {spent * 1000:5.1f} ms"
            f"  {size:,} B"
        )
    return reached


async def _changes(desk: Desk, client: httpx2.AsyncClient) -> None:
    waiting = [f"apr_{n:032x}" for n in range(APPROVALS - 20, APPROVALS)]
    async with AsyncExitStack() as stack:
        pages = [await stack.enter_async_context(listening(desk.app, client, "/queue/events")) for _ in range(PAGES)]
        for heard in pages:
            await heard.event()
        took: list[float] = []
        begun_cpu = time.process_time()
        for approval in waiting:
            begun = time.perf_counter()
            await desk.approvals.reviews.review(approval, person("second"), Decision.REJECT, channel="web")
            await asyncio.gather(*(_told_of(heard, approval) for heard in pages))
            took.append(time.perf_counter() - begun)
        spent = (time.process_time() - begun_cpu) / len(waiting)
    begun_cpu = time.process_time()
    for _ in range(20):
        await client.get("/")
    page = (time.process_time() - begun_cpu) / 20
    _say(f"one decision to {PAGES} pages: p50 {statistics.median(took) * 1000:.0f} ms, processor {spent * 1000:.0f} ms")
    _say(f"one page: processor {page * 1000:.1f} ms; for {PAGES} of them {page * PAGES * 1000:.0f} ms")


async def _told_of(heard: Heard, approval: str) -> None:
    while True:
        _, told = await heard.event()
        if any(row["id"] == approval for row in told["rows"]):
            return


def _p95(seconds: Sequence[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.95)]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _measure(url: str) -> None:
    desk = await open_desk(url, SystemClock())
    begun = time.perf_counter()
    _fill(desk)
    took = time.perf_counter() - begun
    _say(f"{ROWS:,} audit rows and {APPROVALS:,} approvals, {WAITING} of them waiting (made in {took:.0f} s)")
    client = await desk.browser("approver")
    reached = await _pages(desk, client)
    _say(f"p95 of the queue page is {GOAL * 1000:.0f} ms at most: {'reached' if reached else 'not reached'}")
    await _changes(desk, client)
    await close_desk(desk)


def main() -> None:
    """Measure and say it."""
    parser = argparse.ArgumentParser("python -m tests.bench.queue", description=__doc__)
    parser.add_argument("--postgresql", action="store_true", help="instead of SQLite")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_postgres() if given.postgresql else nullcontext() as server:
        asyncio.run(_measure(server.new_database() if server else f"sqlite:///{Path(folder) / 'broker.db'}"))


if __name__ == "__main__":
    main()
