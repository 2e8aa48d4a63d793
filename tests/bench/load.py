"""The load, a process of its own: callers that each make their next call as soon as their last one is answered.

Each line of its input is a `Job`, each line of its output what came of it. Here every microsecond counts, since it
would be taken for the server's: requests are built before they are timed, answers are looked into no more than it takes
to see that they are whole and right, and nothing is awaited between two calls.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from time import perf_counter
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import aiohttp
import orjson
import uvloop

from tests.bench.answers import SAID, SMALL
from tests.bench.processes import cpu_time
from tests.bench.requests import INITIALIZE, LEGACY, call, closed, http_request, message, opened, whole

WARM_UP = 0.2
"""Of the time of a job, before anything is measured."""

_SAID = SAID.encode()


@dataclass(frozen=True, slots=True)
class Job:
    """Calls to make.

    Args:
        size: bytes of text in each answer.
        events: whether the server is to answer with an event; else with JSON.
        url: the server, or None when `command` starts it.
        token: sent as a bearer token.
        charged: the process whose CPU time is measured; what `command` starts is its own.
    """

    revision: str
    callers: int
    seconds: float
    size: int = SMALL
    events: bool = False
    url: str | None = None
    token: str | None = None
    command: tuple[str, ...] = ()
    charged: int = 0

    @property
    def asked(self) -> dict[str, Any]:
        """Arguments of the calls beside the usual ones."""
        return ({"size": self.size} if self.size != SMALL else {}) | ({"events": True} if self.events else {})


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a job: how many calls in how many seconds, latencies and CPU time in seconds."""

    calls: int
    seconds: float
    p50: float
    p95: float
    p99: float
    cpu: float


class _Caller(Protocol):
    began: float

    def call(self) -> None: ...


class _Calls:
    """What callers have in common: when to stop, and what was measured.

    Args:
        size: bytes that an answer has at least.
    """

    _done: asyncio.Future[None]

    def __init__(self, size: int) -> None:
        self._size = size

    async def make(self, callers: Sequence[_Caller], seconds: float) -> tuple[list[float], float]:
        """Let all callers call for so long; the latencies, and how long it took."""
        self._done = asyncio.get_running_loop().create_future()
        self._times: list[float] = []
        began = perf_counter()
        self._until, self._busy = began + seconds, len(callers)
        for caller in callers:
            self._next(caller, perf_counter())
        await self._done
        return self._times, perf_counter() - began

    def answered(self, caller: _Caller, answer: bytes) -> None:
        """The answer to a caller's call is whole."""
        now = perf_counter()
        if _SAID not in answer or len(answer) < self._size:
            self.failed(f"An answer of another kind came: {answer.decode(errors='replace')}")
        self._times.append(now - caller.began)
        if now < self._until:
            self._next(caller, now)
            return
        self._busy -= 1
        if not self._busy and not self._done.done():
            self._done.set_result(None)

    def failed(self, why: str) -> None:
        """No more answers will come; of no interest once all came."""
        if not self._done.done():
            self._done.set_exception(RuntimeError(why))

    def _next(self, caller: _Caller, now: float) -> None:
        caller.began = now
        caller.call()


# -- over HTTP --------------------------------------------------------------------------------------------------------


class _HttpCaller(asyncio.Protocol):
    """A caller with a connection of its own, kept alive."""

    began = 0.0

    def __init__(self, calls: _Calls, request: bytes) -> None:
        self._calls = calls
        self._request = request
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def call(self) -> None:
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._got += data
        if whole(self._got):
            answer, self._got = self._got, b""
            self._calls.answered(self, answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._calls.failed("The server closed a connection.")


@asynccontextmanager
async def _over_http(job: Job, url: str, calls: _Calls) -> AsyncGenerator[tuple[Sequence[_Caller], int]]:
    loop, address = asyncio.get_running_loop(), urlsplit(url)
    async with aiohttp.ClientSession(raise_for_status=True) as http:
        fields = await opened(http, url, job.revision, job.token)
        request = http_request(url, fields, call(job.revision, 1, job.asked))
        callers: list[_HttpCaller] = []
        for _ in range(job.callers):
            _, caller = await loop.create_connection(
                partial(_HttpCaller, calls, request), address.hostname or "", address.port or 80
            )
            callers.append(caller)
        try:
            yield callers, job.charged
        finally:
            for caller in callers:
                caller.transport.abort()
            await closed(http, url, fields)


# -- over the pipes of a process --------------------------------------------------------------------------------------


class _Pipes(asyncio.SubprocessProtocol):
    """A server that answers in the order in which it was asked."""

    def __init__(self, calls: _Calls) -> None:
        self._calls = calls
        self._rest = b""
        self._waiting: deque[Callable[[bytes], None]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        process = cast("asyncio.SubprocessTransport", transport)
        self._stdin = cast("asyncio.WriteTransport", process.get_pipe_transport(0))

    def tell(self, line: bytes) -> None:
        """Send what has no answer."""
        self._stdin.write(line)

    def ask(self, line: bytes, answered: Callable[[bytes], None]) -> None:
        """Send what has one."""
        self._waiting.append(answered)
        self._stdin.write(line)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._waiting.popleft()(line)

    def process_exited(self) -> None:
        self._calls.failed("The server ended.")


class _PipeCaller:
    """A caller that shares the process with the others."""

    began = 0.0

    def __init__(self, calls: _Calls, pipes: _Pipes, request: bytes) -> None:
        self._answered = partial(calls.answered, self)
        self._pipes = pipes
        self._request = request

    def call(self) -> None:
        self._pipes.ask(self._request, self._answered)


@asynccontextmanager
async def _over_pipes(job: Job, calls: _Calls) -> AsyncGenerator[tuple[Sequence[_Caller], int]]:
    loop = asyncio.get_running_loop()
    transport, pipes = await loop.subprocess_exec(lambda: _Pipes(calls), *job.command, stderr=None)
    try:
        if job.revision == LEGACY:
            opened: asyncio.Future[bytes] = loop.create_future()
            pipes.ask(_line(message("initialize", INITIALIZE, 0)), opened.set_result)
            await opened
            pipes.tell(_line(message("notifications/initialized")))
        requests = [call(job.revision, number + 1, job.asked) + b"\n" for number in range(job.callers)]
        yield [_PipeCaller(calls, pipes, request) for request in requests], transport.get_pid()
    finally:
        transport.close()


def _line(message: dict[str, Any]) -> bytes:
    return orjson.dumps(message) + b"\n"


# -- one job ----------------------------------------------------------------------------------------------------------


async def _done(job: Job) -> Load:
    calls = _Calls(job.size)
    over = _over_http(job, job.url, calls) if job.url is not None else _over_pipes(job, calls)
    async with over as (callers, charged):
        await calls.make(callers, job.seconds * WARM_UP)
        gc.collect()
        before = cpu_time(charged)
        times, seconds = await calls.make(callers, job.seconds)
        cpu = cpu_time(charged) - before
    cuts = statistics.quantiles(times, n=100) if len(times) > 1 else times * 99
    return Load(len(times), seconds, cuts[49], cuts[94], cuts[98], cpu)


async def _main() -> None:
    gc.disable()  # of one job there is little to collect, and a collection would be somebody's latency
    for line in sys.stdin:
        load = await _done(Job(**orjson.loads(line)))
        sys.stdout.buffer.write(orjson.dumps(asdict(load)) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(_main())
