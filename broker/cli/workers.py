"""The workers of one `broker serve`: its process starts them, starts those that died again, and stops them all.

Each is a whole broker, and they are to each other as brokers on several machines are (`docs/replicas.md`); which gets
which connection they settle among themselves (`broker.front.workers`). This process has the listener, so that clients
wait while one starts, and nothing of what is served. What belongs here: processes. What does not: serving.
"""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import signal
import socket
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from broker.front import Place, places

if TYPE_CHECKING:
    from broker.settings import Settings

log = logging.getLogger(__name__)

LONGEST_PAUSE = 30.0
"""Seconds before one that keeps dying is started once more, at most. The first time there is no pause."""

SETTLED_AFTER = 60.0
"""Seconds after which one that dies is no longer one that keeps dying."""

AT_ONCE = 2.0
"""Seconds after a second signal until a worker that has not ended is killed."""

# With the paths of this process: `-m` would look for the broker in the working folder first.
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[1:]; from broker.cli.main import run; from broker.cli.serve import work; "
    "run(work)"
)


class Worker:
    """One of them, through all the processes that it is.

    Args:
        stopping: set once its end is no reason to start it again.
    """

    def __init__(self, settings: Settings, place: Place, stopping: asyncio.Event) -> None:
        self._place = place
        self._given = pickle.dumps((settings, place))
        self._stopping = stopping
        self._process: Process | None = None

    async def start(self) -> dict[str, Any] | None:
        """Return what it tells of itself when it serves; None when it ended before."""
        try:
            self._process = process = await self._begun()
        except OSError as error:
            log.error("Worker %d cannot be started: %s.", self._place.number, error.strerror)
            return None
        cast("StreamWriter", process.stdin).write(self._given)
        if self._stopping.is_set():
            self.stop()
        line = await cast("StreamReader", process.stdout).readline()
        return json.loads(line) if line else None

    async def _begun(self) -> Process:
        # A session of its own: of what is typed in a terminal this process hears alone.
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", _PROGRAM, *sys.path),
            pass_fds=self._place.descriptors,
            start_new_session=True,
            stdin=PIPE,
            stdout=PIPE,
        )

    async def keep(self) -> int:
        """Start it again whenever it ends; return its exit status once it ended for good."""
        loop = asyncio.get_running_loop()
        pause = 0.0
        while True:
            began = loop.time()
            status = await self._process.wait() if self._process is not None else 1
            if self._stopping.is_set():
                return status
            if loop.time() - began > SETTLED_AFTER:
                pause = 0.0
            log.warning("Worker %d ended (%s). It is started again in %g s.", self._place.number, _how(status), pause)
            if await _happens(self._stopping, pause):
                return 0
            pause = min(2 * pause or 1.0, LONGEST_PAUSE)
            await self.start()

    def stop(self) -> None:
        """Ask it to end. By no signal: it may have had one from elsewhere, and a second one ends it at once."""
        if self._process is not None:
            cast("StreamWriter", self._process.stdin).close()

    def signal(self, number: int) -> None:
        """Send it one, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)


async def _happens(event: asyncio.Event, within: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            await event.wait()
    return event.is_set()


def _how(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"signal {-status}"


class Workers:
    """All of them, on one listener."""

    def __init__(self, settings: Settings, listener: socket.socket, many: int) -> None:
        self._stopping = asyncio.Event()
        self._all = [Worker(settings, place, self._stopping) for place in places(listener, many)]
        self._kept: list[asyncio.Future[int]] = []
        self._at_once = 0  # the signal that wants that

    async def start(self) -> dict[str, Any] | None:
        """Return what the first tells of itself when all of them serve.

        None: they end, since one of them could not start, which said why, or somebody asked for it meanwhile.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        first, *others = self._all
        told = await self._started(first)  # alone: what is wrong is told once, and what is to be made is made once
        if told is None or self._stopping.is_set():
            self._stop()
            return None
        if None in await asyncio.gather(*(self._started(worker) for worker in others)):
            self._stop()
        return None if self._stopping.is_set() else told

    async def _started(self, worker: Worker) -> dict[str, Any] | None:
        told = await worker.start()
        self._kept.append(asyncio.ensure_future(worker.keep()))
        return told

    async def until_stopped(self) -> None:
        """Return when somebody asks this process to end."""
        await self._stopping.wait()

    async def ended(self, within: float) -> int:
        """Return the exit status when all have ended, by themselves or killed after so many seconds."""
        _, late = await asyncio.wait(self._kept, timeout=within)
        if late:
            log.warning("%d workers did not end in time: they are killed.", len(late))
            self._kill()
        statuses = await asyncio.gather(*self._kept)
        if self._at_once:
            return 128 + self._at_once
        return next((status if status > 0 else 128 - status for status in statuses if status), 0)

    def _signalled(self, number: int) -> None:
        if not self._stopping.is_set():
            self._stop()
            return
        self._at_once = number
        for worker in self._all:  # two: the first may be its first, and two of a kind may be taken for one
            worker.signal(signal.SIGTERM)
            worker.signal(signal.SIGINT)
        asyncio.get_running_loop().call_later(AT_ONCE, self._kill)

    def _stop(self) -> None:
        self._stopping.set()
        for worker in self._all:
            worker.stop()

    def _kill(self) -> None:
        for worker in self._all:
            worker.signal(signal.SIGKILL)
