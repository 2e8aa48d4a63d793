"""What a held call costs, and how soon a decision reaches who waits: `python -m tests.bench.holding`.

A broker on SQLite holds calls of many agents (each has 20, the default of `approvals.max_pending`), made over as many
connections. For each kind of client the number of held calls grows in one broker. At each number are told:

- held/s: how fast the calls since the last number were held, 32 at a time. First sign: the time until a caller heard
  that its call is held (p99).
- KiB each: the resident memory of the broker's process with so many held, less what it was before the first of them,
  divided by their number. It had held and run some calls before that, and by then every caller has heard two signs.
- CPU: the part of a core that the broker takes while it does nothing but hold, and the time of it that it takes for
  a call more that is held, decided and run.
- decision → result: from the instant at which a reviewer sends an approval over the HTTP API until the caller has the
  whole answer of the tool; in brackets from the instant at which the reviewer has the API's answer. Decisions come at
  random instants, and who is answered makes its call again: as many stay held.
- quiet: the longest time in which a caller heard nothing.

In the end all grants are revoked, so every call has an answer: they are counted, and none may be lost. All of it is
true of this machine now: the callers, the reviewer and the upstream share its cores with the broker. The lines at the
end say where the goals of the design stand; a missed one is no error, the exit status is about the run.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import resource
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import quantiles
from time import perf_counter

import orjson
import uvloop
from rich.console import Console
from rich.progress import Progress

from broker.front import allow_many_connections
from tests.bench.callers import Caller
from tests.bench.processes import cpu_time, resident
from tests.bench.report import Goal, at_most
from tests.bench.requests import LEGACY, MODERN
from tests.bench.sheet import Sheet
from tests.bench.stage import Broker, Kind, broker_of

LARGEST, EACH_AT_MOST = 10_000, 32
"""Held calls in one process, and KiB of each."""

DECIDED_AT, LATE_AT_MOST = 1_000, 50
"""Held calls, and milliseconds from a decision to its result (p99)."""

KINDS = [Kind(LEGACY, progress=True), Kind(MODERN, progress=True), Kind(LEGACY, progress=False)]
WARM_UP = 40
ANSWERED_WITHIN = 300.0
"""Seconds from the end of all grants until every call is answered."""

SPARE = 200
"""Files and connections that are open besides those of callers."""

WIDE = 130


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured of each kind of client.

    Args:
        held: numbers of held calls, growing.
        decisions: how many at each of them.
        rate: decisions a second.
        still: seconds in which nothing but holding happens.
    """

    held: Sequence[int]
    decisions: int
    rate: float
    still: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds."""

    p50: float
    p95: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        cuts = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else list(seconds) * 99
        return cls(cuts[49], cuts[94], cuts[98], max(seconds))


@dataclass(frozen=True, slots=True)
class Held:
    """What it is to hold so many calls of one kind. In seconds and bytes.

    Args:
        cpu: the part of one core that holding takes.
        cpu_each: the time of it for a call that is held, decided and run.
    """

    kind: Kind
    held: int
    rate: float
    first_sign: Latency
    each: float
    cpu: float
    cpu_each: float
    from_sent: Latency
    from_returned: Latency
    quiet: float


@dataclass(frozen=True, slots=True)
class Ended:
    """How all calls of one kind ended, and in how many seconds after their grants did."""

    kind: Kind
    outcomes: Mapping[str, int]
    seconds: float

    @property
    def lost(self) -> int:
        """Calls without an answer."""
        return self.outcomes.get("lost", 0)

    def __str__(self) -> str:
        many, counted = sum(self.outcomes.values()), sorted(self.outcomes.items())
        told = ", ".join(f"{number:,} {outcome}" for outcome, number in counted)
        return f"{self.kind}: {many:,} calls: {told}; {self.lost} lost; the last {self.seconds:.1f} s after the end"


# -- measuring --------------------------------------------------------------------------------------------------------


class Holding:
    """The measuring of one kind of client.

    Args:
        heard: called for each call that is held, and each that is decided.
    """

    def __init__(self, broker: Broker, kind: Kind, plan: Plan, heard: Callable[[], None]) -> None:
        self._broker = broker
        self._kind = kind
        self._plan = plan
        self._heard = heard
        self._callers: dict[int, Caller] = {}
        self._approved = 0

    async def measured(self) -> tuple[list[Held], Ended]:
        """All of it."""
        before = await self._warmed_up()
        found = [await self._at(held, before) for held in self._plan.held]
        return found, await self._ended()

    async def _warmed_up(self) -> int:
        """The resident memory with nothing held, after something was."""
        self._callers = await self._broker.hold(self._kind, WARM_UP, self._heard)
        await self._decide(WARM_UP, WARM_UP, again=False)
        for caller in self._callers.values():
            caller.leave()
        self._callers, self._approved = {}, 0
        return resident(self._broker.pid)

    async def _at(self, held: int, before: int) -> Held:
        began = perf_counter()
        new = await self._broker.hold(self._kind, held - len(self._callers), self._heard)
        await self._broker.until_held(held)
        rate = len(new) / (perf_counter() - began)
        first_sign = Latency.of([caller.first_sign.result() - caller.asked for caller in new.values()])
        self._callers |= new
        began, cpu_before = perf_counter(), cpu_time(self._broker.pid)
        await asyncio.sleep(self._plan.still)
        cpu = (cpu_time(self._broker.pid) - cpu_before) / (perf_counter() - began)
        each = (resident(self._broker.pid) - before) / held
        cpu_before, before_them = cpu_time(self._broker.pid), self._approved
        from_sent, from_returned = await self._decide(self._plan.decisions, self._plan.rate)
        cpu_each = (cpu_time(self._broker.pid) - cpu_before) / (self._approved - before_them)
        quiet = max(caller.quiet for caller in self._callers.values())
        return Held(self._kind, held, rate, first_sign, each, cpu, cpu_each, from_sent, from_returned, quiet)

    async def _decide(self, many: int, rate: float, *, again: bool = True) -> tuple[Latency, Latency]:
        """Approve so many of the calls, `rate` a second."""
        ids = await self._broker.pending(many)
        instants, at = random.Random(many), asyncio.get_running_loop().time()
        deciding: list[asyncio.Task[tuple[float, float]]] = []
        for approval in ids:
            at += instants.expovariate(rate)
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            deciding.append(asyncio.ensure_future(self._decision(approval, again=again)))
        took = await asyncio.gather(*deciding)
        self._approved += len(took)
        return Latency.of([since_sent for since_sent, _ in took]), Latency.of([after for _, after in took])

    async def _decision(self, approval: str, *, again: bool) -> tuple[float, float]:
        """Seconds from when it is sent, and from when it is answered, until the caller has its result."""
        sent = perf_counter()
        caller = self._callers[await self._broker.approve(approval)]
        returned, result = perf_counter(), await caller.answered
        if caller.outcome != "approved":
            raise RuntimeError(f"An approved call ended in another way: {caller.outcome}.")
        if again:
            caller.call()
        self._heard()
        return result - sent, max(0.0, result - returned)

    async def _ended(self) -> Ended:
        began = perf_counter()
        await self._broker.revoke_all()
        await asyncio.wait([caller.answered for caller in self._callers.values()], timeout=ANSWERED_WITHIN)
        seconds = perf_counter() - began
        outcomes = Counter(caller.outcome for caller in self._callers.values())
        outcomes["approved"] += self._approved
        for caller in self._callers.values():
            caller.leave()
        return Ended(self._kind, dict(outcomes), seconds)


# -- telling ----------------------------------------------------------------------------------------------------------


def goals(found: Sequence[Held]) -> Iterator[Goal]:
    """The goals that can be told from what was measured."""
    for one in found:
        if one.held == LARGEST:
            yield at_most(f"{one.kind}, {LARGEST:,} held: KiB each", one.each / 1024, EACH_AT_MOST)
        if one.held == DECIDED_AT:
            what = f"{one.kind}, {DECIDED_AT:,} held: ms from decision to result (p99)"
            yield at_most(what, one.from_sent.p99 * 1e3, LATE_AT_MOST)


def sheet(found: Sequence[Held]) -> Sheet:
    """All of it for people."""
    late = tuple(f"decision → result: {name}" if name == "p50" else name for name in ("p50", "p95", "p99"))
    head = ("client", "held", "held/s", "first sign", "KiB each", "CPU", "a call", *late, "quiet")
    return Sheet(head, [_line(one) for one in found])


def _line(one: Held) -> tuple[str, ...]:
    late = (
        f"{getattr(one.from_sent, name) * 1e3:.1f} ({getattr(one.from_returned, name) * 1e3:.1f}) ms"
        for name in ("p50", "p95", "p99")
    )
    holding = (f"{one.rate:.0f}", f"{one.first_sign.p99 * 1e3:.0f} ms", f"{one.each / 1024:.1f}", f"{one.cpu:.0%}")
    return (str(one.kind), f"{one.held:,}", *holding, f"{one.cpu_each * 1e3:.1f} ms", *late, f"{one.quiet:.1f} s")


def _arguments() -> argparse.Namespace:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.bench.holding", description=__doc__, formatter_class=style)
    parser.add_argument("--quick", action="store_true", help="a first impression: one kind of client, up to 1,000 held")
    parser.add_argument("--held", type=int, nargs="+", metavar="N", help="numbers of held calls, growing")
    parser.add_argument("--decisions", type=int, metavar="N", help="how many at each of these")
    parser.add_argument("--rate", type=float, default=10, metavar="N", help="decisions a second")
    parser.add_argument("--still", type=float, metavar="SECONDS", help="how long nothing but holding is measured")
    parser.add_argument("--kinds", type=int, metavar="N", help="only the first kinds of clients")
    parser.add_argument("--store", metavar="URL", help="an empty PostgreSQL database instead of SQLite")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    given = parser.parse_args()
    given.held = given.held or ([100, 1_000] if given.quick else [100, 1_000, 10_000])
    given.decisions = given.decisions or (100 if given.quick else 500)
    given.still = 11.0 if given.still is None else given.still
    given.kinds = given.kinds or (1 if given.quick else len(KINDS))
    return given


async def measured(
    kinds: Sequence[Kind], plan: Plan, store: str | None, progress: Progress
) -> tuple[list[Held], list[Ended]]:
    """Each kind of client in a broker of its own, at `store` or on SQLite.

    Raises:
        SystemExit: so many connections are not allowed here.
    """
    _check_room(plan.held[-1])
    found, ended = list[Held](), list[Ended]()
    steps = 2 * WARM_UP + plan.held[-1] + sum(min(plan.decisions, held) for held in plan.held)
    for kind in kinds:
        task = progress.add_task(str(kind), total=steps)
        with tempfile.TemporaryDirectory() as folder:
            async with broker_of(Path(folder), store) as broker:
                of_kind, end = await Holding(broker, kind, plan, partial(progress.advance, task)).measured()
        found += of_kind
        ended.append(end)
        progress.remove_task(task)
    return found, ended


async def _measured(given: argparse.Namespace, console: Console) -> tuple[list[Held], list[Ended]]:
    plan = Plan(given.held, given.decisions, given.rate, given.still)
    with Progress(console=console, transient=True, disable=not console.is_terminal, refresh_per_second=2) as progress:
        return await measured(KINDS[: given.kinds], plan, given.store, progress)


def _check_room(most: int) -> None:
    allow_many_connections()
    room, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if room < most + SPARE:
        raise SystemExit(f"{most:,} connections need as many open files, and {room:,} are allowed: see `ulimit -n`.")


def main() -> None:
    """Measure and say it."""
    given, console = _arguments(), Console()
    console.width = max(console.width, WIDE)
    gc.disable()  # a collection here would be somebody's latency
    found, ended = uvloop.run(_measured(given, console))
    console.print(sheet(found).rich())
    console.print(f"\n{os.cpu_count()} cores for everything; {given.decisions} decisions, {given.rate:g} a second.")
    for one in ended:
        console.print(str(one), highlight=False)
    reached = list(goals(found))
    for goal in reached:
        console.print(str(goal), highlight=False)
    if given.json is not None:
        facts = {
            "cores": os.cpu_count(),
            "held": [asdict(one) for one in found],
            "ended": [asdict(one) for one in ended],
        }
        given.json.write_bytes(orjson.dumps({**facts, "goals": reached}, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
