"""Whether a call costs more than it did when that was last recorded: `python -m tests.bench.regression`, a part of the
tests. `--record` records what it costs now, which belongs into the commit that changes it on purpose.

One caller makes calls through a broker in this process, one after the other. Neither number is a time, so a machine
that is slower or busy with something else measures the same:

- bytecodes: how many Python executes from a call to the quiet after it, in all threads. It is where most
  calls are: a tick falls into some, and the end of another is missed. What libraries in C do is not in it.
- CPU: the CPU time of a call in that of a piece of fixed work in Python, which takes turns with the calls. Everything
  is in it, and it varies, so that only much more is seen.

A later Python than the recorded one executes fewer bytecodes: there the first number sees less.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import json
import platform
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import uvloop
from pydantic import TypeAdapter

from broker.app import running
from broker.settings import Settings
from broker.store import grants
from tests.bench.answers import SAID
from tests.bench.instructions import counting, executed, uncounted
from tests.bench.measure import ERAS
from tests.bench.processes import MODULE, start
from tests.bench.requests import call, http_request, opened, whole
from tests.bench.ways import POLICY

KEPT = Path(__file__).with_name("regression.json")

BYTECODES_AT_MOST, CPU_AT_MOST = 1.10, 2.0
"""Times what is recorded."""

WARM_UP, COUNTED = 10, 24
ROUNDS, TIMED = 12, 15
NEAR = 0.005
"""How far apart two calls are that did the same."""

QUIET = 0.008
"""Seconds in which nothing is executed: then all of a call is done."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call costs: bytecodes, and CPU in pieces of fixed work."""

    bytecodes: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """What calls cost, by their protocol revision."""

    python: str
    costs: dict[str, Cost]


def worse(now: Recorded, then: Recorded) -> list[str]:
    """What costs more than it may, as sentences."""
    told = list[str]()
    for revision, cost in now.costs.items():
        before = then.costs[revision]
        for name, stands, was, most in (
            ("bytecodes", cost.bytecodes, before.bytecodes, BYTECODES_AT_MOST),
            ("CPU", cost.cpu, before.cpu, CPU_AT_MOST),
        ):
            if stands > was * most:
                told.append(
                    f"A call of {revision} costs {stands / was:.2f} times the {name} on record ({stands:.5g}, "
                    f"was {was:.5g}; at most {most:g} times). Find out why, or record it anew if it has to be: "
                    "python -m tests.bench.regression --record"
                )
    return told


# -- calls ------------------------------------------------------------------------------------------------------------


class _Caller:
    """One connection, in a thread of its own."""

    def __init__(self, url: str, request: bytes) -> None:
        self._address = urlsplit(url)
        self._request = request

    def __enter__(self) -> Self:
        self._socket = socket.create_connection((self._address.hostname, self._address.port))
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self) -> None:
        """Make a call and have its answer."""
        self._socket.sendall(self._request)
        got = b""
        while not (b"\r\n\r\n" in got and whole(got)):
            piece = self._socket.recv(1 << 16)
            if not piece:
                raise RuntimeError("The broker closed the connection.")
            got += piece
        if SAID.encode() not in got:
            raise RuntimeError(f"An answer of another kind came: {got.decode()}")


@asynccontextmanager
async def _broker(upstream: str) -> AsyncGenerator[dict[str, _Caller]]:
    """A broker in this process; a caller of each revision."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "policy.json").write_text(json.dumps(POLICY))
        settings = Settings.model_validate(
            {
                "server": {"port": 0},
                "store": {"url": f"sqlite:///{folder / 'broker.db'}"},
                "upstreams": {"fast": {"url": upstream, "policy": str(folder / "policy.json")}},
            }
        )
        broker = await stack.enter_async_context(running(settings))
        terms: dict[str, Any] = {"label": "load", "owner": "load@example.com", "upstreams": frozenset({"fast"})}
        made = await broker.store.write(lambda tx: grants.create(tx, "cli:bench", expires_at=None, **terms))
        url = f"{broker.url}/mcp/fast"
        http = await stack.enter_async_context(aiohttp.ClientSession(raise_for_status=True))
        callers = dict[str, _Caller]()
        for era in ERAS:
            fields = await opened(http, url, era, made.token)
            callers[era] = _Caller(url, http_request(url, fields, call(era, 1)))
        yield callers


async def _of_each(upstream: str, measure: Callable[[_Caller], float]) -> dict[str, float]:
    def connected(caller: _Caller) -> float:
        with caller:
            return measure(caller)

    async with _broker(upstream) as callers:
        return {era: await asyncio.to_thread(connected, caller) for era, caller in callers.items()}


# -- numbers ----------------------------------------------------------------------------------------------------------


def _bytecodes(caller: _Caller) -> float:
    """In a thread that is not counted."""
    uncounted()
    counted = list[int]()
    for _ in range(WARM_UP + COUNTED):
        before = _quiet()
        caller.call()
        counted.append(_quiet() - before)
    return usual(counted[WARM_UP:])


def usual(counted: Sequence[int]) -> int:
    """The one that the most of them are near."""
    return max(counted, key=lambda one: sum(abs(other - one) <= one * NEAR for other in counted))


def _quiet() -> int:
    """Wait until nothing is executed; how much was until then."""
    seen = executed()
    while True:
        time.sleep(QUIET)
        if (now := executed()) == seen:
            return now
        seen = now


def _cpu(caller: _Caller) -> float:
    """In a thread whose own time is left out."""
    _calls(caller, WARM_UP)
    gc.collect()
    return statistics.median(_calls(caller, TIMED) / TIMED / _work() for _ in range(ROUNDS))


def _calls(caller: _Caller, many: int) -> float:
    before = time.process_time() - time.thread_time()
    for _ in range(many):
        caller.call()
    return time.process_time() - time.thread_time() - before


def _work() -> float:
    """CPU time of a piece of fixed work, of the kinds that a call is made of."""
    before = time.thread_time()
    rows = list[dict[str, Any]]()
    for number in range(200):
        row = {"id": f"call_{number:032x}", "at": number * 0.5, "names": ["a", "b", str(number)]}
        text = json.dumps(row, sort_keys=True)
        rows.append({**json.loads(text), "digest": hashlib.sha256(text.encode()).hexdigest()})
    sorted(rows, key=lambda row: row["digest"])
    return time.thread_time() - before


async def measured() -> Recorded:
    """What calls cost now."""
    async with AsyncExitStack() as stack:
        _, upstream = await start(stack, *MODULE, "tests.bench.http_upstream")
        cpu = await _of_each(upstream, _cpu)
        with counting():
            bytecodes = await _of_each(upstream, _bytecodes)
    costs = {era: Cost(bytecodes[era], round(cpu[era], 3)) for era in ERAS}
    return Recorded(".".join(platform.python_version_tuple()[:2]), costs)


def main() -> int:
    """Measure, and compare or record; 1 when a call costs more than it may."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.bench.regression", description=__doc__, formatter_class=style)
    parser.add_argument("--record", action="store_true", help="record what calls cost now")
    given = parser.parse_args()
    found, kept = uvloop.run(measured()), TypeAdapter(Recorded)
    sys.stdout.write(kept.dump_json(found, indent=1).decode() + "\n")
    if given.record:
        KEPT.write_bytes(kept.dump_json(found, indent=1) + b"\n")
        return 0
    told = worse(found, kept.validate_json(KEPT.read_bytes()))
    sys.stderr.writelines(f"{line}\n" for line in told)
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
