"""How soon a broker answers, and what it holds while nothing happens: `python -m tests.bench.starting`.

`broker serve` on a SQLite store that exists, with one upstream over HTTP, its policy and one grant, is started again
and again, in turns with `python -c pass` (what the interpreter alone takes here now) and `broker --help`. Each number
is the median over the rounds:

- ready: from the start of the process until it says that it runs; CPU: what it used until then.
- answered: until its first `tools/call` is answered whole, which is made as soon as it is ready.
- idle: its resident memory some seconds after that; with pages: the same once somebody has opened one, for which the
  pages and the API are loaded.

Times are true of this machine now, and of what else it does. The lines at the end say where the goals of the design
stand; a missed one is no error, the exit status is about the run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import aiohttp
import orjson
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.bench.answers import SAID
from tests.bench.processes import BROKER, MODULE, cpu_time, resident, run, start
from tests.bench.report import Goal
from tests.bench.requests import MODERN, call, opened
from tests.bench.ways import POLICY

ANSWERED_WITHIN, IDLE_AT_MOST, HELP_WITHIN = 1.5, 90, 0.5
"""Seconds, MiB, seconds."""

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Started:
    """One start, or the medians of some: seconds and MiB."""

    ready: float
    answered: float
    cpu: float
    idle: float
    with_pages: float


@dataclass(frozen=True, slots=True)
class Site:
    """What a broker is started with, and what its agent sends."""

    config: Path
    token: str


@contextlib.asynccontextmanager
async def _site(folder: Path) -> AsyncGenerator[Site]:
    """Files for a broker in `folder`, before an upstream that runs."""
    async with contextlib.AsyncExitStack() as stack:
        _, upstream = await start(stack, *MODULE, "tests.bench.http_upstream")
        config = folder / "broker.toml"
        (folder / "policy.json").write_bytes(orjson.dumps(POLICY))
        config.write_text(f'[server]\nport = 0\n[upstreams.fast]\nurl = "{upstream}"\npolicy = "policy.json"\n')
        grant = ("grant", "create", "--upstream", "fast", "--label", "first", "--owner", "first@example.com")
        _, made = await start(stack, *BROKER, *grant, "--json", "--config", str(config))
        yield Site(config, orjson.loads(made)["token"])


async def _started(site: Site, still: float) -> Started:
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(raise_for_status=True))
        begin = perf_counter()
        process, said = await start(stack, *BROKER, "serve", "--json", "--config", str(site.config))
        ready, cpu = perf_counter() - begin, cpu_time(process.pid)
        url = orjson.loads(said)["url"]
        headers = await opened(http, f"{url}/mcp/fast", MODERN, site.token) | {"Content-Type": "application/json"}
        async with http.post(f"{url}/mcp/fast", data=call(MODERN, 1), headers=headers) as answer:
            assert SAID in await answer.text()
        answered = perf_counter() - begin
        await asyncio.sleep(still)
        idle = resident(process.pid)
        async with http.get(f"{url}/sign-in") as page:
            await page.read()
        return Started(ready, answered, cpu, idle / MIB, resident(process.pid) / MIB)


async def _ended(*command: str) -> float:
    """Seconds that a command takes to its end."""
    async with contextlib.AsyncExitStack() as stack:
        begin = perf_counter()
        process = await run(stack, *command)
        await process.communicate()
        return perf_counter() - begin


@dataclass(frozen=True, slots=True)
class Measured:
    """The medians over all rounds; seconds, but for the memory of `serve`."""

    python: float
    help: float
    serve: Started

    def goals(self) -> Iterator[Goal]:
        """Where each stands."""
        for what, stands, goal in (
            ("start to first answered call: s", self.serve.answered, ANSWERED_WITHIN),
            ("idle: MiB", self.serve.idle, IDLE_AT_MOST),
            ("broker --help: s", self.help, HELP_WITHIN),
        ):
            yield Goal(f"{what}, at most {goal:g}", stands, goal, goal / stands)

    def table(self) -> Table:
        """All of it for people; times in brackets are those of the interpreter alone."""
        table = Table("command", box=None, pad_edge=False)
        for name in ("ready", "answered", "CPU", "idle", "with pages"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_row("python -c pass", f"{self.python:.2f} s")
        table.add_row("broker --help", self._time(self.help))
        serve = self.serve
        memory = (f"{serve.idle:.1f} MiB", f"{serve.with_pages:.1f} MiB")
        table.add_row(
            "broker serve", self._time(serve.ready), self._time(serve.answered), f"{serve.cpu:.2f} s", *memory
        )
        return table

    def _time(self, seconds: float) -> str:
        return f"{seconds:.2f} s ({seconds / self.python:.0f})"


def _medians(found: Sequence[Started]) -> Started:
    return Started(*(median(getattr(one, field.name) for one in found) for field in fields(Started)))


async def _measured(rounds: int, still: float, step: Callable[[], None]) -> Measured:
    python, helped, served = list[float](), list[float](), list[Started]()
    with tempfile.TemporaryDirectory() as folder:
        async with _site(Path(folder)) as site:
            await _started(site, 0)  # the store is migrated, and everything compiled
            for _ in range(rounds):
                python.append(await _ended(MODULE[0], "-c", "pass"))
                helped.append(await _ended(*BROKER, "--help"))
                served.append(await _started(site, still))
                step()
    return Measured(median(python), median(helped), _medians(served))


def _arguments() -> argparse.Namespace:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.bench.starting", description=__doc__, formatter_class=style)
    parser.add_argument("--rounds", type=int, default=7, help="how often everything is started")
    parser.add_argument("--still", type=float, default=10.0, metavar="SECONDS", help="how long a broker then idles")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    return parser.parse_args()


def _facts(found: Measured, goals: Sequence[Goal]) -> Mapping[str, object]:
    return {"cores": os.cpu_count(), **asdict(found), "goals": [asdict(goal) for goal in goals]}


def main() -> None:
    """Measure and say it."""
    given, console = _arguments(), Console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting", total=given.rounds)
        found = asyncio.run(_measured(given.rounds, given.still, partial(progress.advance, task)))
    goals = list(found.goals())
    console.print(found.table())
    console.print(f"\n{os.cpu_count()} cores; medians of {given.rounds} starts. In brackets: in `python -c pass`.")
    for goal in goals:
        console.print(str(goal), highlight=False)
    if given.json is not None:
        given.json.write_bytes(orjson.dumps(_facts(found, goals), option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
