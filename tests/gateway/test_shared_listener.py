"""Connections go to the worker that their agent belongs to: several workers in one process, byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from broker.app.serving import serving
from broker.front import listening, places, worker_of
from tests.servers import BOUND

MANY = 3
AGENTS = {worker_of(token, MANY): token for token in (b"agent-%d" % number for number in range(50))}
"""The token of an agent of each worker."""


def answering(number: int) -> ASGIApp:
    """Tells its number, and what it was sent."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/early":
            await answer(send, {"worker": number})
        body, more = b"", True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            body += message.get("body", b"")
        if scope["path"] != "/early":
            await answer(send, {"worker": number, "body": len(body), "fields": len(scope["headers"])})

    return app


async def answer(send: Send, said: dict[str, Any]) -> None:
    body = json.dumps(said).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Client:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, head: bytes, body: bytes = b"", path: bytes = b"/") -> dict[str, Any]:
        """Send a request at once, and read its answer."""
        self.writer.write(request(head, body, path))
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        async with asyncio.timeout(BOUND):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            body = await self.reader.readexactly(length)
        return json.loads(body) if b" 200 " in head else {"status": int(head.split()[1]), "text": body.decode()}

    async def left(self) -> bytes:
        """What comes until it is closed."""
        async with asyncio.timeout(BOUND):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read()
            return b""


def request(head: bytes, body: bytes = b"", path: bytes = b"/") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n" % (path, len(body), head) + body


def of(worker: int) -> bytes:
    """The field of an agent of that worker."""
    return b"Authorization: Bearer %s\r\n" % AGENTS[worker]


@contextlib.asynccontextmanager
async def connected(*serve: int) -> AsyncGenerator[tuple[Client, Callable[[int], Awaitable[None]]]]:
    """A connection that worker 0 took; these others serve, too, and more can be started."""

    async def nothing() -> None:
        pass

    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(listening("127.0.0.1", 0))
        there = places(listener, MANY)
        for one in (*there[0].outboxes, *(place.inbox for place in there)):
            stack.enter_context(one)

        async def start(number: int) -> None:
            # One process cannot accept from one listener twice: the others have listeners that nobody knows.
            own = stack.enter_context(listening("127.0.0.1", 0)) if number else listener
            await stack.enter_async_context(serving(answering(number), own, there[number], 1, nothing))

        for number in (0, *serve):
            await start(number)
        client = Client(*await asyncio.open_connection(*listener.getsockname()))
        yield client, start
        client.writer.close()


async def test_one_connection_is_answered_by_the_worker_of_each_request_in_turn() -> None:
    async with connected(1, 2) as (client, _):
        asked = (0, 1, 1, 2, 0, 2, 1)
        assert [(await client.ask(of(worker)))["worker"] for worker in asked] == list(asked)
        assert (await client.ask(b""))["worker"] == 1, "without a grant it stays where it is"
        assert (await client.ask(of(2).replace(b"Bearer", b"bearer")))["worker"] == 2


async def test_nothing_of_a_request_is_lost_on_its_way_however_it_comes() -> None:
    large = b"x" * 1_000_000
    async with connected(1, 2) as (client, _):
        for worker, body in ((1, b""), (2, b"short"), (1, large), (2, large)):
            assert await client.ask(of(worker), body) == {"worker": worker, "body": len(body), "fields": 3}
        slowly = request(of(1), b"body")
        for start in range(0, len(slowly), 7):
            client.writer.write(slowly[start : start + 7])
            await client.writer.drain()
            await asyncio.sleep(0)
        assert await client.answer() == {"worker": 1, "body": 4, "fields": 3}
        upgrading = of(2) + b"Connection: upgrade\r\nUpgrade: h2c\r\n"
        assert (await client.ask(upgrading, b"body")) == {"worker": 2, "body": 4, "fields": 4}


async def test_a_head_that_is_too_large_is_refused_wherever_it_would_go() -> None:
    async with connected(1, 2) as (client, _):
        assert (await client.ask(of(1) + b"X: " + b"x" * 70_000 + b"\r\n"))["status"] == 431
    async with connected(1, 2) as (client, _):
        assert (await client.ask(of(1) + b"X: " + b"x" * 60_000 + b"\r\n", b"x" * 100_000))["worker"] == 1


async def test_a_request_of_another_agent_that_comes_before_the_end_of_the_one_before_is_not_answered_by_anybody() -> (
    None
):
    async with connected(1, 2) as (client, _):
        client.writer.write(request(of(0), b"body", b"/early")[:-1])
        assert (await client.answer())["worker"] == 0
        client.writer.write(b"y" + request(of(1)))
        assert await client.left() == b""


async def test_while_a_worker_is_away_connections_wait_for_it_and_more_than_a_few_are_told_to_come_again() -> None:
    async with connected(2) as (client, start):
        client.writer.write(request(of(1)))
        where = client.writer.get_extra_info("peername")
        others = [Client(*await asyncio.open_connection(*where)) for _ in range(20)]
        for other in others:
            other.writer.write(request(of(1) + b"X: " + b"x" * 60_000 + b"\r\n"))
        answers = [asyncio.ensure_future(other.answer()) for other in others]
        told, _ = await asyncio.wait(answers, timeout=BOUND, return_when=asyncio.FIRST_COMPLETED)
        refused = told.pop().result()
        assert refused["status"] == 503
        assert "Try again" in refused["text"]
        assert (await Client(*await asyncio.open_connection(*where)).ask(of(2)))["worker"] == 2
        await start(1)
        assert (await client.answer())["worker"] == 1
        await asyncio.wait(answers, timeout=BOUND)
        assert {answer.result().get("worker", 503) for answer in answers} == {1, 503}
        for other in others:
            other.writer.close()
