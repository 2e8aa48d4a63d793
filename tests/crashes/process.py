"""A command of the broker that is there at once: forked from a process that has imported everything and done nothing.

What belongs here: starting `broker …`, and how it ended. What does not: anything that is said to it. Else it is a
process like any other: it has an environment and settings of its own, opens the store anew, and can be killed.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, TextIO

TIME_LIMIT = 20.0
_numbers = count()

_prepared = multiprocessing.get_context("forkserver")
_prepared.set_forkserver_preload(["pytest", "uvloop", "broker.app", "broker.settings", "broker.cli", __name__])


@dataclass
class Started:
    """One that runs. What it prints is read from `stdout`; it writes its log to a file."""

    stdout: TextIO
    written: Path
    process: ForkServerProcess

    @property
    def pid(self) -> int:
        """Its number."""
        assert self.process.pid is not None
        return self.process.pid

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

    def wait(self) -> int | None:
        """The exit status once it ended, negative when a signal ended it; None when it goes on for too long."""
        self.process.join(TIME_LIMIT)
        return self.process.exitcode

    async def ended(self) -> int | None:
        """The same, awaited."""
        return await asyncio.to_thread(self.wait)


@dataclass
class BrokerProcess(Started):
    """A `broker serve` that told where it is."""

    told: dict[str, Any]

    @property
    def url(self) -> str:
        """Where."""
        return self.told["url"]


@contextmanager
def started(
    folder: Path, *arguments: str, log: Path, environment: Mapping[str, str] | None = None
) -> Generator[Started]:
    """`broker …` in a folder, with nothing of the broker's in its environment but these variables; killed in the end.

    Args:
        log: the file that becomes its standard error.
    """
    ours, its = _prepared.Pipe(duplex=False)
    process = _prepared.Process(target=_run, args=(folder, arguments, dict(environment or {}), its, log))
    try:
        process.start()
        its.close()
        with open(ours.fileno(), closefd=False) as stdout:
            yield Started(stdout, log, process)
    finally:
        process.kill()
        process.join()
        ours.close()


@asynccontextmanager
async def serving(folder: Path, environment: Mapping[str, str] | None = None) -> AsyncGenerator[BrokerProcess]:
    """`broker serve` in a folder with these variables, from when it says where it is; killed in the end."""
    with ExitStack() as running:
        log = folder / f"broker-{next(_numbers)}.log"
        process = started(folder, "serve", "--json", log=log, environment=environment)
        made = await asyncio.to_thread(running.enter_context, process)
        told = await asyncio.to_thread(made.stdout.readline)
        assert told, made.log
        yield BrokerProcess(made.stdout, made.written, made.process, json.loads(told))


def _run(folder: Path, arguments: Sequence[str], environment: dict[str, str], said: Connection, written: Path) -> None:
    os.chdir(folder)
    for name in [name for name in os.environ if name.startswith("BROKER_")]:
        del os.environ[name]
    os.environ.update(environment)
    with written.open("w") as log:
        os.dup2(log.fileno(), 2)
    os.dup2(said.fileno(), 1)
    said.close()
    sys.argv = ["broker", *arguments]
    from broker.cli import main

    main()
