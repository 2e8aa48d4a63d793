"""What more workers give: `python -m tests.bench.workers`, calls of many agents through `broker serve --workers N`.

Each number of workers has a broker of its own, on a database of its own of one PostgreSQL server, before one fast
upstream. They take turns for some rounds; every number is the median over the rounds. CPU a call is that of all
processes of the broker together, the one that started the workers included, without PostgreSQL, upstream and callers.

How to read it. CPU a call tells what sharing costs: while it stays, calls/s grow with the workers as far as there are
cores for them. Calls/s show that only where more cores are there than the workers take, since callers, upstream and
PostgreSQL share the machine. How evenly the calls were spread is told by the share of the busiest worker.

What is recorded makes one chain, so commits of all workers run one after the other. The last columns tell how long: the
part of the time in which a transaction had the end of the chain locked or waited for it (looked at every few
milliseconds), how much of that is a call's, and the calls/s that no number of workers and cores exceeds if nothing else
changes. That time grows when a process that has the lock has to wait for a core, so it is less on an idle machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import tempfile
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from urllib.parse import urlsplit

import aiohttp
import orjson
import psycopg
import uvloop

from broker.domain.clock import SystemClock
from broker.store import grants
from broker.store.writer import Store
from tests.bench.answers import SAID
from tests.bench.callers import Caller
from tests.bench.processes import BROKER, MODULE, cpu_time, start
from tests.bench.requests import MODERN, call, http_request, opened
from tests.bench.ways import POLICY
from tests.postgres import PostgresServer, running_postgres

OWNER = "load@example.com"
_LOCKED = """
    SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'chain_head'::regclass AND mode = 'RowShareLock')
    FROM pg_sleep(0.004)"""

WARM_UP = 0.3
"""Of the time of a round, before anything is measured."""


@dataclass(frozen=True, slots=True)
class Round:
    """What came of one.

    Args:
        cpu: seconds of each process of the broker, the leading one first.
        locked: the part of the time in which the end of the chain was locked.
    """

    calls: int
    seconds: float
    cpu: Sequence[float]
    locked: float


@dataclass(frozen=True, slots=True)
class Shared:
    """A broker of some workers, and the requests of its agents."""

    workers: int
    pids: Sequence[int]
    url: str
    database: str
    requests: Sequence[bytes]

    async def calls(self, seconds: float) -> Round:
        """Let every agent call over a connection of its own, the next time as soon as it is answered."""
        callers = [await self._connected(request) for request in self.requests]
        await self._call(callers, seconds * WARM_UP)
        looking = asyncio.create_task(asyncio.to_thread(_locked, self.database, seconds))
        before, began = [cpu_time(pid) for pid in self.pids], perf_counter()
        done = await self._call(callers, seconds)
        took = perf_counter() - began
        cpu = [cpu_time(pid) - had for pid, had in zip(self.pids, before, strict=True)]
        for caller in callers:
            caller.leave()
        return Round(done, took, cpu, await looking)

    async def _connected(self, request: bytes) -> Caller:
        address, loop = urlsplit(self.url), asyncio.get_running_loop()
        where = address.hostname or "", address.port or 80
        _, caller = await loop.create_connection(partial(Caller, request), *where)
        return caller

    async def _call(self, callers: Sequence[Caller], seconds: float) -> int:
        until = perf_counter() + seconds
        return sum(await asyncio.gather(*(_calls(caller, until) for caller in callers)))


async def _calls(caller: Caller, until: float) -> int:
    done = 0
    while perf_counter() < until:
        caller.call()
        await caller.answered
        if SAID.encode() not in caller.answer:
            raise RuntimeError(f"An answer of another kind came: {caller.answer.decode(errors='replace')}")
        done += 1
    return done


def _locked(database: str, seconds: float) -> float:
    """The part of so many seconds in which a transaction has the end of the chain locked, or waits for that."""
    looks = 0
    with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
        until, times = perf_counter() + seconds, 0
        while perf_counter() < until:
            found = connection.execute(_LOCKED).fetchone()
            looks, times = looks + bool(found and found[0]), times + 1
    return looks / times


@contextlib.asynccontextmanager
async def shared(postgres: PostgresServer, upstream: str, workers: int, callers: int) -> AsyncGenerator[Shared]:
    """Start one, with as many grants as callers."""
    url = postgres.new_database()
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        command = (*BROKER, "serve", "--json", "--workers", str(workers))
        process, said = await start(stack, *command, "--config", str(_settings(folder, url, upstream)))
        store = Store(url, SystemClock())
        stack.callback(store.close)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        at = f"{orjson.loads(said)['url']}/mcp/fast"
        requests = [await _request(store, http, at) for _ in range(callers)]
        yield Shared(workers, [process.pid, *_children(process.pid)], at, url, requests)


def _settings(folder: Path, store: str, upstream: str) -> Path:
    (folder / "policy.json").write_bytes(orjson.dumps(POLICY))
    (folder / "broker.secret").touch(0o600)
    (folder / "broker.secret").write_text(secrets.token_hex(32))
    config = folder / "broker.toml"
    config.write_text(
        f'[server]\nport = 0\n[store]\nurl = "{store.replace("+psycopg", "")}"\n'
        f'[upstreams.fast]\nurl = "{upstream}"\npolicy = "policy.json"\n'
    )
    return config


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def _request(store: Store, http: aiohttp.ClientSession, url: str) -> bytes:
    names = frozenset({"fast"})
    made = await store.write(
        lambda tx: grants.create(tx, "cli:bench", label="load", owner=OWNER, upstreams=names, expires_at=None)
    )
    return http_request(url, await opened(http, url, MODERN, made.token), call(MODERN, 1))


async def _measure(given: argparse.Namespace) -> dict[int, list[Round]]:
    rounds: dict[int, list[Round]] = {workers: [] for workers in given.workers}
    async with contextlib.AsyncExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        _, upstream = await start(stack, *MODULE, "tests.bench.http_upstream")
        brokers = [
            await stack.enter_async_context(shared(postgres, upstream, workers, given.callers))
            for workers in given.workers
        ]
        for _ in range(given.rounds):
            for broker in brokers:
                rounds[broker.workers].append(await broker.calls(given.seconds))
    return rounds


def _line(workers: int, rounds: Sequence[Round], single: Sequence[Round]) -> str:
    rate, cpu = _rate(rounds), _cpu(rounds)
    locked = median(one.locked * one.seconds / one.calls for one in rounds)
    busiest = median(max(one.cpu) / sum(one.cpu) for one in rounds)
    return (
        f"{workers:7}  {rate:8.0f}  {rate / _rate(single):8.2f}  {cpu * 1e6:11.0f}  {cpu / _cpu(single):8.2f}  "
        f"{busiest:7.0%}  {median(one.locked for one in rounds):6.0%}  {locked * 1e6:14.0f}  {1 / locked:15.0f}"
    )


def _rate(rounds: Sequence[Round]) -> float:
    return median(one.calls / one.seconds for one in rounds)


def _cpu(rounds: Sequence[Round]) -> float:
    return median(sum(one.cpu) / one.calls for one in rounds)


def main() -> None:
    """Measure and say it."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.bench.workers", description=__doc__, formatter_class=style)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="how many, each time")
    parser.add_argument("--callers", type=int, default=32, help="agents, each with one connection")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a round")
    given = parser.parse_args()
    found = uvloop.run(_measure(given))
    print("workers   calls/s     ratio  µs CPU/call     ratio  busiest  locked  µs locked/call  calls/s at most")  # noqa: T201
    for workers in given.workers:
        print(_line(workers, found[workers], found[given.workers[0]]))  # noqa: T201
    print(f"{os.cpu_count()} cores for everything.")  # noqa: T201


if __name__ == "__main__":
    main()
