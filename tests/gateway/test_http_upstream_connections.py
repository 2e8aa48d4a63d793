"""An upstream behind a URL: one answer for one request, and the end of a grant and of the broker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.errors import UpstreamInterrupted, UpstreamUnreachable
from broker.gateway.upstreams import UpstreamRequest
from broker.gateway.wire import loads
from tests.gateway.asking import BEGUN, OK, always, answering, get, post, text
from tests.servers import read_http

ENVELOPE: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


# -- one answer for one request ---------------------------------------------------------------------------------------

FORGED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 6\r\n\r\nforged"


class Lingering:
    """A server that says more than it was asked for on each connection.

    Args:
        extra: what, behind the answer to the first request.
        late: whether only when told to.
    """

    def __init__(self, extra: bytes, *, late: bool) -> None:
        self.extra = extra
        self.late = late
        self.connections = 0
        self.say, self.said = asyncio.Event(), asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await read_http(reader)
        if self.late:
            writer.write(OK)
            await self.say.wait()
            writer.write(self.extra)
        else:
            writer.write(OK + self.extra)
        self.said.set()
        while True:
            await read_http(reader)
            writer.write(OK)


@pytest.mark.parametrize("extra", [FORGED, FORGED[:9], b"x"])
@pytest.mark.parametrize("second", ["g1", "g2"])
@pytest.mark.parametrize("late", [False, True])
async def test_what_was_not_asked_for_is_never_the_answer_to_the_next_request(
    extra: bytes, second: str, late: bool
) -> None:
    """With `late` the bytes lie in the kernel when the next request starts: the loop has not read them yet."""
    lingering = Lingering(extra, late=late)
    async with answering(lingering) as server:
        assert await text(await server.send(post(grant="g1"))) == b"{}"
        lingering.say.set()
        await lingering.said.wait()
        assert await text(await server.send(post(grant=second))) == b"{}"
        assert lingering.connections == 2


async def test_a_connection_serves_one_grant_only_and_is_kept_for_it() -> None:
    peers: list[tuple[Any, str]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await read_http(reader)
            peers.append((writer.get_extra_info("peername"), loads(body)["method"]))
            writer.write(OK)

    async with answering(handle) as server:
        for grant in ("g1", "g2", "g1", "g2"):
            await text(await server.send(post({"id": 1, "method": grant}, grant=grant)))
    assert len({peer for peer, _ in peers}) == 2
    assert len(set(peers)) == 2


async def test_an_idle_connection_is_closed_before_the_server_would_do_it() -> None:
    lost = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        writer.write(OK)
        await reader.read()
        lost.set()

    async with answering(handle) as server:
        await text(await server.send(post()))
        await lost.wait()
        assert server.tenants == frozenset()


async def test_a_call_is_not_lost_on_a_kept_connection_that_the_server_has_closed() -> None:
    closed = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        writer.write(OK)
        writer.write_eof()
        closed.set()

    async with answering(handle) as server:
        for _ in range(3):
            closed.clear()
            assert await text(await server.send(post())) == b"{}"
            await closed.wait()


async def test_an_answer_before_the_request_is_taken_leaves_no_half_request_on_the_connection() -> None:
    lines: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append((await reader.readline()).decode())
        if len(lines) == 1:
            writer.write(OK)
            await asyncio.Event().wait()
        writer.write(OK)

    async with answering(handle) as server:
        large = {"id": 1, "method": "m", "params": {"text": "x" * (16 << 20)}}
        for message in (large, None):
            assert await text(await server.send(post(message))) == b"{}"
    assert lines == ["POST /mcp HTTP/1.1\r\n"] * 2


# -- the end of a grant, and of the broker ----------------------------------------------------------------------------


class Sessions:
    """A server that opens a session on `initialize` and streams on GET and on `stream`."""

    def __init__(self) -> None:
        self.opened = 0
        self.ended: list[str] = []
        self.answer_delete = asyncio.Event()
        self.answer_delete.set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, body = await read_http(reader)
            if head[0].startswith("DELETE"):
                self.ended += [line[16:] for line in head if line.lower().startswith("mcp-session-id: ")]
                await self.answer_delete.wait()
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            elif head[0].startswith("GET") or b"stream" in body:
                writer.write(BEGUN)
            elif b"initialize" in body:
                self.opened += 1
                writer.write(OK.replace(b"\r\n\r\n", b"\r\nmcp-session-id: s%d\r\n\r\n" % self.opened))
            elif b"gone" in body:
                writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            else:
                writer.write(OK)


INITIALIZE: dict[str, Any] = {"id": 1, "method": "initialize"}


async def test_a_grant_that_ended_has_its_sessions_and_open_answers_ended_and_no_other_has() -> None:
    sessions = Sessions()
    async with answering(sessions) as server:
        for grant in ("g1", "g1", "g2"):
            assert (await server.send(post(INITIALIZE, grant=grant))).session == f"s{sessions.opened}"
        replies = [await server.send(request) for request in (get(), post({"id": 2, "method": "stream"}))]
        other = await server.send(post({"id": 2, "method": "stream"}, grant="g2"))
        assert server.tenants == {"g1", "g2"}
        reading = [asyncio.ensure_future(text(reply)) for reply in replies]
        await server.release("g1")
        for reader in reading:
            with pytest.raises(UpstreamInterrupted, match="the grant ended"):
                await reader
        assert sorted(sessions.ended) == ["s1", "s2"]
        assert server.tenants == {"g2"}
        assert await anext(other.chunks) == b": a"


async def test_a_session_that_is_over_is_not_ended_again() -> None:
    sessions = Sessions()
    async with answering(sessions) as server:
        for _ in range(2):
            await text(await server.send(post(INITIALIZE)))
        await server.send(UpstreamRequest("DELETE", "g1", modern=False, session="s1"))
        await server.send(post({"id": 1, "method": "gone"}, session="s2"))
        await server.release("g1")
        await server.release("g1")
    assert sessions.ended == ["s1"]


async def test_no_more_than_the_latest_sessions_of_a_grant_are_remembered() -> None:
    sessions = Sessions()
    async with answering(sessions) as server:
        for _ in range(300):
            await text(await server.send(post(INITIALIZE)))
        await server.release("g1")
    assert sorted(sessions.ended) == sorted(f"s{number}" for number in range(45, 301))


async def test_a_call_that_waits_for_its_answer_when_the_grant_ends_is_told() -> None:
    arrived = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        arrived.set()
        await reader.read()

    async with answering(handle) as server:
        sending = asyncio.ensure_future(server.send(post()))
        await arrived.wait()
        await server.release("g1")
        with pytest.raises(UpstreamInterrupted, match="the grant ended: the request may or may not have run"):
            await sending


async def test_a_server_that_does_not_end_its_sessions_is_not_waited_for() -> None:
    sessions = Sessions()
    sessions.answer_delete.clear()
    async with answering(sessions) as server:
        await text(await server.send(post(INITIALIZE)))
        await server.release("g1")
        assert sessions.ended == ["s1"]
        assert server.tenants == frozenset()


async def test_a_kill_ends_open_answers_at_once() -> None:
    async with answering(Sessions()) as server:
        reply = await server.send(get())
        waiting = asyncio.ensure_future(text(reply))
        server.kill()
        with pytest.raises(UpstreamInterrupted, match="the broker stops"):
            await waiting
        with pytest.raises(UpstreamUnreachable, match="being closed"):
            await server.send(post())


async def test_an_answer_that_was_closed_does_not_look_whole() -> None:
    async with answering(always(OK)) as server:
        reply = await server.send(post())
        await reply.close()
        with pytest.raises(UpstreamInterrupted):
            await text(reply)
