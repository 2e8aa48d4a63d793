"""Heads that come again on a connection: they are not parsed anew, and nobody can tell by anything but the time."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from broker.front import Connection
from broker.front.cycle import ANSWER, KNOWN, Cycle, Whole
from tests.gateway.scene import Scene, tool_call
from tests.gateway.test_front_door import Wire, answering, dialled, posted
from tests.servers import BOUND
from tests.servers.scripted import Scripted

POST = "POST /a/%C3%A9?b=c HTTP/1.1\r\nHost: x\r\n{length}\r\nX-One: 1\r\n\r\n"
LENGTHS = (
    "Content-Length: {}",
    "content-length: {}",
    "CONTENT-LENGTH: {}",
    "Content-Length:{}",
    "Content-Length:  {} ",
)
FIELDS = (
    "Expect: 100-continue",
    "X-Other: content-length: 5",
    "Upgrade: h2c\r\nConnection: upgrade",
    "Cookie: a\r\nCookie: b",
)


class Forgetful(Connection):
    """One that parses every head."""

    def _learn(self, whole: Whole) -> None:
        pass


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with everything that was understood of the request."""
    body = b""
    while (event := await receive())["type"] == "http.request":
        body += event["body"]
        if not event["more_body"]:
            break
    said = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    read = {key: str(value) for key, value in scope.items() if key not in ("headers", "extensions", "client", "server")}
    text = json.dumps({**read, "headers": said, "body": body.decode("latin-1")}, sort_keys=True).encode()
    scope["state"]["left"] = scope["path"] = "behind"  # nobody who comes later may find it
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(text)).encode())]}
    )
    await send({"type": "http.response.body", "body": text})


def requests(dice: random.Random) -> list[bytes]:
    """Many requests of few kinds."""
    made: list[bytes] = []
    for _ in range(60):
        body = b"{" + b"a" * dice.choice([0, 1, 7, 8, 9, 1000]) + b"}\r\n\r\n"
        length = dice.choice(LENGTHS).format(len(body))
        head = POST.format(length=length)
        match dice.randrange(6):
            case 0:
                head, body = "GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""
            case 1:
                head = POST.format(length="Transfer-Encoding: chunked")
                body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            case 2:
                head = POST.format(length=f"{dice.choice(FIELDS)}\r\n{length}")
            case _:
                pass
        made += [head.encode() + body] * dice.choice([1, 2, 4])
    return made


async def answers(wire: Wire, made: Sequence[bytes], dice: random.Random | None = None) -> list[bytes]:
    """What each request is answered, head and body; with `dice` some come in two pieces."""
    found: list[bytes] = []
    for request in made:
        cut = dice.choice([0, 0, 0, 5, len(request) // 2, len(request) - 1]) if dice is not None else 0
        for piece in (request[:cut], request[cut:]):
            await wire.write(piece)
            await asyncio.sleep(0)
        found.append(await answer(wire))
    return found


async def answer(wire: Wire) -> bytes:
    """The next one."""
    told = head = await wire.until(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head = await wire.until(b"\r\n\r\n")
        told += head
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return told + await asyncio.wait_for(wire.reader.readexactly(length), BOUND)


def body_of(told: bytes) -> Any:
    """What `echo` said."""
    return json.loads(told.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("seed", range(3))
async def test_requests_are_understood_alike_whether_their_heads_came_before_or_not(seed: int) -> None:
    made = requests(random.Random(seed))
    told: list[list[bytes]] = []
    for kind in (Connection, Forgetful):
        async with answering(echo, kind) as url, dialled(url) as dial:
            told.append(await answers(await dial(), made, random.Random(seed)))
    assert told[0] == told[1]


async def test_a_head_is_known_from_its_third_time_on_that_connection() -> None:
    known: list[dict[str, Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        known.append(scope["extensions"][KNOWN])
        await echo(scope, receive, send)

    made = [POST.format(length=f"Content-Length: {size}").encode() + b"a" * size for size in (1, 22, 333, 4444)]
    async with answering(app) as url, dialled(url) as dial:
        for wire in (await dial(), await dial()):
            assert [len(body_of(told)["body"]) for told in await answers(wire, made)] == [1, 22, 333, 4444]
    assert known[2] is known[3]
    assert len({id(one) for one in known}) == len(known) - 2


async def test_the_body_of_a_request_that_was_answered_early_is_never_taken_for_a_request() -> None:
    paths: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])
        if scope["path"] == "/early":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
        else:
            await echo(scope, receive, send)

    smuggled = POST.format(length="Content-Length: 2").encode() + b"{}"
    async with answering(app) as url, dialled(url) as dial:
        wire = await dial()
        await answers(wire, [smuggled] * 4)
        await wire.write(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (2 * len(smuggled)))
        await wire.until(b"\r\n\r\n")
        await wire.write(smuggled)
        await asyncio.sleep(0.05)  # or both would be one
        await wire.write(smuggled)
        await answers(wire, [b"GET /last HTTP/1.1\r\nHost: x\r\n\r\n"])
    assert paths == ["/a/é"] * 4 + ["/early", "/last"]


async def test_who_asks_again_before_the_answer_is_left_though_the_head_is_known() -> None:
    paths: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])
        if len(paths) > 4:
            while (await receive())["type"] == "http.request":
                pass
        else:
            await echo(scope, receive, send)

    request = POST.format(length="Content-Length: 2").encode() + b"{}"
    async with answering(app) as url, dialled(url) as dial:
        wire = await dial()
        await answers(wire, [request] * 4)
        await wire.write(request)
        await asyncio.sleep(0.05)  # or both would be one
        await wire.write(request)
        assert await wire.rest() == b""
    assert len(paths) == 5


async def test_a_head_that_is_known_lets_nobody_in_whose_grant_ended(small: Scene, server: Scripted) -> None:
    agent = await small.agent()
    head, body = posted(agent, tool_call("look"))
    async with dialled(agent.url) as dial:
        wire = await dial()

        assert [told[:12] for told in await answers(wire, [head + body] * 4)] == [b"HTTP/1.1 200"] * 4
        made = len(server.calls)
        await small.revoke(agent)
        await asyncio.sleep(0.5)  # for so long a grant is remembered
        await wire.write(head + body)
        assert (await wire.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 401 ")
        assert len(server.calls) == made


async def test_answers_that_nobody_reads_do_not_pile_up() -> None:
    sizes: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        sizes.append(60_000)
        scope["extensions"][ANSWER](200, [(b"content-length", b"60000")], b"a" * 60_000)

    request = POST.format(length="Content-Length: 2").encode() + b"{}"
    async with answering(app) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # with the sleep: or two would come as one
            client.connect((host, int(port)))
            with suppress(ConnectionError):
                for _ in range(200):
                    client.send(request)
                    await asyncio.sleep(0.004)
    assert sum(sizes) < 6_000_000


async def test_nothing_is_left_of_a_request_once_it_is_answered() -> None:
    async with answering(echo) as url, dialled(url) as dial:
        wire = await dial()
        gc.collect()
        gc.disable()
        try:
            await answers(wire, [POST.format(length="Content-Length: 2").encode() + b"{}"] * 50)
            left = [one for one in gc.get_objects() if isinstance(one, Cycle)]
        finally:
            gc.enable()
    assert len(left) < 3


async def test_a_request_that_comes_before_the_one_before_has_ended_waits_as_long_as_it_has_to() -> None:
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/first":
            await send({"type": "http.response.start", "status": 204, "headers": [(b"content-length", b"0")]})
            await asyncio.sleep(0.1)
            await send({"type": "http.response.body"})
            ended.set()
        else:
            await ended.wait()
            await asyncio.sleep(1.5)  # at rest it would be closed within a second
            await echo(scope, receive, send)

    async with answering(app, keep_alive=0) as url, dialled(url) as dial:
        wire = await dial()
        await wire.write(b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n")
        await wire.until(b"\r\n\r\n")
        assert body_of((await answers(wire, [b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n"]))[0])["path"] == "/held"


async def test_a_connection_that_rests_after_an_answer_is_closed() -> None:
    async with answering(echo, keep_alive=0) as url, dialled(url) as dial:
        wire = await dial()
        await answers(wire, [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
        assert await wire.rest() == b""
