"""A broker process that is there at once: forked from one that has imported everything and done nothing else.

What belongs here: starting `broker serve`, and how it ended. What does not: anything that is said to it. Else it is a
process like any other: it has an environment and settings of its own, opens the store anew, and can be killed.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

TIME_LIMIT = 20.0
_numbers = count()

_prepared = multiprocessing.get_context("forkserver")
_prepared.set_forkserver_preload(["pytest", "uvloop", "broker.app", "broker.settings", "broker.cli", __name__])


@dataclass
class BrokerProcess:
    """One that runs at `url`, and writes its log to a file."""

    url: str
    written: Path
    process: ForkServerProcess

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return self.written.read_text()

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()

    def stop(self) -> None:
        """Ask it to end."""
        self.process.terminate()

    async def ended(self) -> int | None:
        """The exit status once it ended, negative when a signal ended it; None when it goes on for too long."""
        await asyncio.to_thread(self.process.join, TIME_LIMIT)
        return self.process.exitcode


@asynccontextmanager
async def serving(folder: Path, environment: Mapping[str, str]) -> AsyncGenerator[BrokerProcess]:
    """`broker serve` in a folder with these variables, from when it says where it is; killed in the end."""
    ours, its = _prepared.Pipe(duplex=False)
    log = folder / f"broker-{next(_numbers)}.log"
    process = _prepared.Process(target=_serve, args=(folder, dict(environment), its, log))
    try:
        await asyncio.to_thread(process.start)
        its.close()
        told = await asyncio.to_thread(_first_line, ours)
        assert told, log.read_text()
        yield BrokerProcess(json.loads(told)["url"], log, process)
    finally:
        process.kill()
        process.join()
        ours.close()


def _first_line(said: Connection) -> str:
    with open(said.fileno(), closefd=False) as lines:
        return lines.readline()


def _serve(folder: Path, environment: dict[str, str], said: Connection, written: Path) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    with written.open("w") as log:
        os.dup2(log.fileno(), 2)
    os.dup2(said.fileno(), 1)
    sys.argv = ["broker", "serve", "--json"]
    from broker.cli import main

    main()
