"""What anybody can take of the broker without a grant, and for how long: the attacks, against a real process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config

from broker.domain.canonical import Keyring
from broker.domain.origins import Origins
from broker.errors import Invalid
from broker.front import Connection, Server
from broker.gateway.endpoint import Endpoint
from broker.gateway.errands import Errands
from broker.gateway.gate import Gate
from broker.gateway.grants import Grants
from broker.gateway.holds import Holds
from broker.gateway.patience import Patience
from broker.gateway.record import Record
from broker.gateway.upstreams import UpstreamReply, UpstreamRequest
from broker.gateway.upstreams.http import HttpUpstream
from tests.cli.test_stop import gone
from tests.gateway.scene import Agent, Scene, modern, modern_headers, tool_call
from tests.gateway.served import Served, serving
from tests.servers import BOUND, ROOT, raw_http, read_http
from tests.servers.scripted import Scripted

pytestmark = pytest.mark.timeout(60)

MANY = 20 * 1024 * 1024
PIECE = b"a" * 65_000


class Wire:
    """A client that writes bytes as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def write(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def until(self, end: bytes) -> bytes:
        async with asyncio.timeout(BOUND):
            return await self.reader.readuntil(end)

    async def rest(self) -> bytes:
        """What comes until the broker closes."""
        async with asyncio.timeout(BOUND):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def trickle(self) -> bytes:
        """Write a byte now and then until the broker answers or closes; what came until it closed."""
        beginning = asyncio.ensure_future(self.reader.read(1))  # who writes on could lose the answer to a reset
        while not beginning.done():
            with contextlib.suppress(ConnectionError):
                await self.write(b"a")
            await asyncio.wait([beginning], timeout=0.2)
        return b"" if beginning.exception() is not None else beginning.result() + await self.rest()


@contextlib.asynccontextmanager
async def dialled(url: str) -> AsyncGenerator[Callable[[], Any]]:
    """Gives what opens connections, which are closed in the end."""
    host, port = url.removeprefix("http://").split(":")
    open_ones: list[asyncio.StreamWriter] = []

    async def dial() -> Wire:
        reader, writer = await asyncio.open_connection(host, int(port))
        open_ones.append(writer)
        return Wire(reader, writer)

    yield dial
    for writer in open_ones:
        writer.transport.abort()


def posted(agent: Agent, message: dict[str, Any], *fields: str, length: int | None = None) -> tuple[bytes, bytes]:
    """The head and the body of a call."""
    body = json.dumps(message).encode()
    lines = [
        "POST /mcp/one HTTP/1.1",
        f"Host: {agent.url.removeprefix('http://')}",
        f"Authorization: Bearer {agent.token}",
        "Accept: application/json, text/event-stream",
        "Content-Type: application/json",
        f"Content-Length: {length or len(body)}",
        *(f"{name}: {value}" for name, value in modern_headers(message).items()),
        *fields,
    ]
    return "\r\n".join([*lines, "", ""]).encode(), body


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory, scripted_server: Scripted) -> AsyncGenerator[Served]:
    """A broker in a process of its own, for tests that leave it as it was."""
    async with serving(tmp_path_factory.mktemp("front"), {"one": {"url": scripted_server.url}}) as made:
        yield made


# -- how much ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"GET /", PIECE),
        (b"GET / HTTP/1.1\r\nX: ", PIECE),
        (b"GET / HTTP/1.1\r\n", b"X: " + PIECE + b"\r\n"),
        (b"POST /mcp/one HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", PIECE),
        (b"POST /mcp/one HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: " + PIECE + b"\r\n"),
    ],
    ids=["target", "one field", "fields", "one trailer", "trailers"],
)
async def test_a_head_without_end_takes_no_memory(served: Served, start: bytes, piece: bytes) -> None:
    await (await served.agent.call("one", "look")).whole()
    before = served.resident
    async with dialled(served.agent.url) as dial:
        wire = await dial()
        with pytest.raises(ConnectionError):
            await wire.write(start, *[piece] * (MANY // len(piece)))
        assert served.resident - before < 5_000_000


async def test_who_sends_too_large_a_head_is_told(served: Served) -> None:
    async with dialled(served.agent.url) as dial:
        wire = await dial()
        await wire.write(b"GET /healthz HTTP/1.1\r\nX: " + b"a" * (64 * 1024))
        assert (await wire.rest()).startswith(b"HTTP/1.1 431 ")


async def test_a_head_and_a_body_may_have_what_they_may(served: Served) -> None:
    large = await served.agent.call("one", "look", {"text": "x" * 3_000_000})
    assert (large.status, "result" in await large.message()) == (200, True)
    assert (await served.agent.send("one", modern("tools/list"), {"X-Large": "a" * 60_000})).status == 200


# -- how long ---------------------------------------------------------------------------------------------------------


class Hasty(Connection):
    """One with less patience."""

    head_within, body_pause, body_within = 2.0, 1.0, 4.0


@contextlib.asynccontextmanager
async def answering(app: ASGIApp, http: type[Connection] = Connection, *, keep_alive: int = 5) -> AsyncGenerator[str]:
    """The front door before an application of the test's own; gives its URL."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    quiet: Any = {"ws": "none", "lifespan": "off", "log_config": None, "access_log": False, "date_header": False}
    server = Server(Config(app, http=http, timeout_keep_alive=keep_alive, **quiet))
    running = asyncio.ensure_future(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        now = asyncio.get_running_loop().time()
        await server.end(running, now, now + BOUND)


async def reads_all(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer once the body is whole."""
    while (event := await receive()).get("more_body"):
        pass
    status = 200 if event["type"] == "http.request" else 500
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


async def test_who_sends_no_head_is_closed_after_a_while() -> None:
    async with answering(reads_all, Hasty) as url, dialled(url) as dial:
        silent, half, again, slow = [await dial() for _ in range(4)]
        await again.write(b"HEAD / HTTP/1.1\r\n\r\n")
        await again.until(b"\r\n\r\n")
        began = monotonic()
        await half.write(b"GET /")
        await again.write(b"GET /")
        await slow.write(b"GET / HTTP/1.1\r\nX: ")
        assert await asyncio.gather(silent.rest(), half.rest(), again.rest(), slow.trickle()) == [b"", b"", b"", b""]
        assert 1 < monotonic() - began < 8


async def test_a_body_that_pauses_or_lasts_too_long_is_refused() -> None:
    async with answering(reads_all, Hasty) as url, dialled(url) as dial:
        pausing, lasting = await dial(), await dial()
        for wire in (pausing, lasting):
            await wire.write(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{")
        began = monotonic()
        trickling = asyncio.ensure_future(lasting.trickle())
        assert (await pausing.rest()).startswith(b"HTTP/1.1 408 ")
        assert monotonic() - began < 3
        assert (await trickling).startswith(b"HTTP/1.1 408 ")
        assert monotonic() - began > 3.5


async def test_a_body_that_pauses_is_cut_when_it_is_answered_already() -> None:
    async def early(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async with answering(early, Hasty) as url, dialled(url) as dial:
        wire = await dial()
        await wire.write(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{")
        assert b" 401 " in await wire.until(b"\r\n\r\n")
        await wire.write(b"{")
        assert await wire.rest() == b""


# -- how many ---------------------------------------------------------------------------------------------------------


async def test_connections_that_ask_nothing_shut_nobody_out_for_long(tmp_path: Path, server: Scripted) -> None:
    async with serving(tmp_path, {"one": {"url": server.url}}) as served:
        await (await served.agent.call("one", "look")).whole()
        await served.agent.http.get(f"{served.agent.url}/healthz")
        room = served.open_files + 20
        resource.prlimit(served.pid, resource.RLIMIT_NOFILE, (room, room))
        async with dialled(served.agent.url) as dial:
            silent = [await dial() for _ in range(60)]
            await asyncio.gather(*(wire.rest() for wire in silent))
        assert (await (await served.agent.call("one", "look")).message())["result"]["content"][0]["text"] == "done"
    warnings = [line for line in served.said.splitlines() if "turned away" in line]
    assert len(warnings) == 1
    assert "ulimit -n" in warnings[0]


def test_it_takes_as_many_descriptors_as_it_may() -> None:
    program = (
        "import resource; from broker.front import allow_many_connections; resource.setrlimit(resource.RLIMIT_NOFILE,"
        "(256, 4096)); allow_many_connections(); print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["4096", "4096"]


# -- one after the other ----------------------------------------------------------------------------------------------


async def test_who_asks_twice_at_once_and_leaves_has_nothing_run(small: Scene, server: Scripted) -> None:
    agent = await small.agent()
    head, body = posted(agent, tool_call("act"))
    async with dialled(agent.url) as dial:
        wire = await dial()
        await wire.write(head + body)
        approval = await small.submitted(agent)
        await wire.until(b"\r\n\r\n")
        await wire.write(head + body)
        wire.writer.close()
        await small.happened("approval.abandoned", agent)
        await small.decide(approval)
    assert "approval.claimed" not in await small.kinds(agent)
    assert server.calls == []


async def test_who_has_the_whole_answer_may_ask_before_the_broker_knows_that() -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": scope["path"][-2:].encode(), "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body"})

    async with answering(app) as url, dialled(url) as dial:
        wire = await dial()
        await wire.write(b"GET /11 HTTP/1.1\r\n\r\n")
        await wire.until(b"\r\n\r\n11")
        await wire.write(b"GET /22 HTTP/1.1\r\n\r\n")
        asyncio.get_running_loop().call_later(0.2, go_on.set)
        assert b" 200 " in await wire.until(b"\r\n\r\n22")


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
async def test_a_request_that_offers_another_protocol_is_answered_in_this_one(
    small: Scene, server: Scripted, protocol: str
) -> None:
    agent = await small.agent()
    head, body = posted(agent, tool_call("look"), "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}")
    async with dialled(agent.url) as dial:
        wire = await dial()
        await wire.write(head + body[:5], body[5:])
        assert b" 200 " in await wire.until(b"false}}")
        await wire.write(head + body)
        assert b" 200 " in await wire.until(b"false}}")
        assert len(server.calls) == 2
        assert "upgrade" not in server.sent[-1]


async def test_it_is_no_proxy(small: Scene) -> None:
    agent = await small.agent()
    async with dialled(agent.url) as dial:
        wire = await dial()
        await wire.write(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n")
        assert (await wire.rest()).startswith(b"HTTP/1.1 400 ")


# -- what fails -------------------------------------------------------------------------------------------------------


class Failing(HttpUpstream):
    """A server that is spoken to with a fault that nobody foresaw."""

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        raise Invalid("unforeseen")


async def test_what_nobody_foresaw_is_answered_in_json_rpc(
    small: Scene, server: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    agent, broker, keyring = await small.agent(), small.broker, Keyring([b"k" * 64])
    holds = Holds(broker.approvals, broker.feed, broker.clock, str, Patience(timedelta(seconds=50)))
    record = Record(broker.store, keyring, keep_results=False)
    upstream = Failing("one", server.url, {}, answer_within=1)
    gate = Gate(
        upstream, broker.policies["one"], broker.approvals, record, holds, Errands(broker.approvals, broker.feed)
    )
    origins = Origins(agent.url)
    endpoint = Endpoint({"one": gate}, Grants(broker.store, broker.clock), keyring, origins)
    async with answering(endpoint) as url:
        there = Agent(url, agent.grant, agent.token, agent.http)
        host = {"Host": agent.url.removeprefix("http://")}
        answer = await there.send("one", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, host)
        assert answer.status == 500
        assert (await answer.message())["error"]["code"] == -32603
        assert "unforeseen" in caplog.text
        assert "Exception in ASGI application" not in caplog.text
    await endpoint.close(within=0)


# -- the end ----------------------------------------------------------------------------------------------------------


async def test_whatever_clients_and_servers_do_it_ends_in_time_and_quietly(tmp_path: Path) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while True:
            writer.write(b'data: "' + PIECE + b'"\n\n')
            await writer.drain()

    stubborn = [sys.executable, str(ROOT / "tests" / "servers" / "raw_server.py"), "stubborn"]
    async with raw_http(flood) as url:
        upstreams = {"one": {"url": url}, "stubborn": {"command": stubborn}}
        async with serving(tmp_path, upstreams, stop_within="3s") as served, dialled(served.agent.url) as dial:
            agent = served.agent
            await (await agent.call("stubborn", "look")).whole()
            reads_nothing, half, form = [await dial() for _ in range(3)]
            host = agent.url.removeprefix("http://")
            await form.write(f"POST /sign-in HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\na".encode())
            head, body = posted(agent, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x"}})
            await half.write(head + body[:-1])
            await reads_nothing.write(head + body)
            await reads_nothing.until(b"\r\n\r\n")
            reads_nothing.writer.transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]
            began = monotonic()
            os.kill(served.pid, signal.SIGTERM)
            assert b" 503 " in await half.until(b"\r\n")
            assert monotonic() - began < 1
            await gone(served.pid)
            took = monotonic() - began
    assert took < 4.5
    assert "Traceback" not in served.said
    assert "Exception in ASGI" not in served.said
