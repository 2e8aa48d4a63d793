"""An upstream behind a URL: how long it may be silent, and how much it may say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from broker.errors import UpstreamInterrupted
from broker.gateway.upstreams import UpstreamReply, UpstreamRequest
from tests.gateway.asking import BEGUN, EVENTS, answering, each, get, post, text, upstream
from tests.servers import raw_http, read_http

ENVELOPE: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


# -- limits -----------------------------------------------------------------------------------------------------------

BRIEF = 0.2
"""Seconds. The tests below take another request's limit for a clock."""


async def test_a_server_that_does_not_answer_is_given_up_and_its_connection_closed() -> None:
    lost = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        await reader.read()
        lost.set()

    async with answering(handle, answer_within=BRIEF) as server:
        with pytest.raises(UpstreamInterrupted, match=r"did not answer within 0\.2 s: the request may or may not"):
            await server.send(post())
        await lost.wait()


async def test_a_server_that_stops_in_the_middle_is_given_up() -> None:
    async with answering(each(BEGUN), answer_within=BRIEF) as server:
        reply = await server.send(post())
        assert await anext(reply.chunks) == b": a"
        with pytest.raises(UpstreamInterrupted, match=r"sent nothing more within 0\.2 s"):
            await anext(reply.chunks)


@pytest.mark.parametrize("piece", [b"HTTP/1.1 102 Wait\r\n\r\n", b"x-field: x\r\n"])
async def test_neither_interim_answers_nor_endless_fields_put_the_limit_off(piece: bytes) -> None:
    start = b"" if piece.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\n"

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        writer.write(start)
        while not writer.is_closing():
            writer.write(piece)
            await asyncio.sleep(BRIEF / 10)

    async with answering(drip, answer_within=BRIEF) as server:
        with pytest.raises(UpstreamInterrupted, match="did not answer"):
            await server.send(post())


async def test_a_stream_that_drips_comments_is_alive() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        writer.write(EVENTS)
        for _ in range(8):
            await asyncio.sleep(BRIEF / 4)
            writer.write(b": \n")

    async with answering(drip, answer_within=BRIEF) as server:
        assert await text(await server.send(post())) == b": \n" * 8


LISTEN: dict[str, Any] = {"id": 1, "method": "subscriptions/listen"}


@pytest.mark.parametrize("request_", [get(), post(LISTEN, modern=True)])
async def test_a_stream_that_is_there_to_wait_may_be_silent(request_: UpstreamRequest) -> None:
    go_on = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, body = await read_http(reader)
        writer.write(BEGUN)
        if head[0].startswith("GET") or b"listen" in body:
            await go_on.wait()
            writer.write(b"1\r\n\n\r\n0\r\n\r\n")
        await reader.read()

    async with answering(handle, answer_within=BRIEF) as server:
        waiting = await server.send(request_)
        reading = asyncio.ensure_future(text(waiting))
        with pytest.raises(UpstreamInterrupted):
            await text(await server.send(post()))
        go_on.set()
        assert await reading == b": a\n"


async def test_a_reader_that_takes_its_time_is_not_held_against_the_server() -> None:
    go_on = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, body = await read_http(reader)
        writer.write(BEGUN)
        if b"slow" in body:
            await go_on.wait()
            writer.write(b"1\r\n\n\r\n0\r\n\r\n")
        await reader.read()

    async with answering(handle, answer_within=BRIEF) as server:
        slow = await server.send(post({"id": 1, "method": "slow"}))
        assert await anext(slow.chunks) == b": a"
        for _ in range(2):
            with pytest.raises(UpstreamInterrupted):
                await text(await server.send(post()))
        go_on.set()
        assert await text(slow) == b"\n"


JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (JSON + b"x: ", b"x" * 1000),
        (JSON, b"x" * 1000),
        (JSON, b"x: %s\r\n" % (b"x" * 990)),
        (b"HTTP/1.1 200 ", b"x" * 1000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 40),
        (JSON + b"transfer-encoding: chunked\r\n\r\n2;", b"x" * 1000),
        (JSON + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"x: y\r\n" * 200),
        (JSON + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx: ", b"x" * 1000),
    ],
)
async def test_what_never_ends_and_brings_nothing_is_not_read_for_long(start: bytes, piece: bytes) -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_http(reader)
        writer.write(start)
        while True:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    async with answering(endless) as server:
        with pytest.raises(UpstreamInterrupted, match="fields of more than 65536 bytes"):
            await text(await server.send(post()))
    assert sent < 16 << 20  # the kernel holds some of it


async def test_a_text_that_never_ends_is_cut_after_a_gibibyte() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_http(reader)
        writer.write(JSON + b"\r\n")
        while True:
            writer.write(bytes(1 << 20))
            await writer.drain()

    size = 0

    async def read(reply: UpstreamReply) -> None:
        nonlocal size
        async for chunk in reply.chunks:
            size += len(chunk)

    async with answering(endless) as server:
        reply = await server.send(post())
        with pytest.raises(UpstreamInterrupted, match="more than 1073741824 bytes"):
            await read(reply)
    assert (1 << 30) - (1 << 20) < size <= 1 << 30


def timers_of(port: int) -> list[tuple[int, float]]:
    """The kernel's timer and the seconds that it has left, for connections to `port` (proc(5), /proc/net/tcp)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    timers = [line[5].split(":") for line in lines if line[2].endswith(f":{port:04X}")]
    return [(int(kind), int(left, 16) / 100) for kind, left in timers]


async def test_a_server_whose_machine_vanished_is_noticed_by_the_kernel() -> None:
    async with raw_http(each(BEGUN)) as url, upstream(url) as server:
        await server.send(get())
        port = int(url.rpartition(":")[2].removesuffix("/mcp"))
        keep_alive = 2
        (kind, left) = next(timer for timer in timers_of(port) if timer[0] == keep_alive)
        assert (kind, left <= 60) == (keep_alive, True)
