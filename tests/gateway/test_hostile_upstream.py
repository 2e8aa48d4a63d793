"""Servers that lie, break off, never end or send too much, behind a whole broker."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.gateway.asking import EVENTS
from tests.gateway.scene import Agent, Bare, block, modern, modern_headers, tool_call
from tests.gateway.served import Served, serving
from tests.servers import BOUND, raw_http, read_http

pytestmark = pytest.mark.timeout(120)

MB = 1 << 20
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
Behaviour = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Given the body of a request, answers it. The connection is closed then."""

RESULT: dict[str, Any] = {"content": [{"type": "text", "text": "done"}], "isError": False, "resultType": "complete"}
DISCOVERED: dict[str, Any] = {"supportedVersions": ["2026-07-28"], "capabilities": {}, "resultType": "complete"}


def answer(body: bytes, result: Any = None) -> bytes:
    """The response to the request in `body`."""
    return json.dumps({"jsonrpc": "2.0", "id": json.loads(body)["id"], "result": result or RESULT}).encode()


def with_length(text: bytes) -> bytes:
    """An answer with this body."""
    return HEAD + b"content-length: %d\r\n\r\n" % len(text) + text


def packed(text: bytes, coding: bytes = b"gzip") -> bytes:
    """An answer with this body, said to be compressed."""
    return with_length(text).replace(b"\r\n", b"\r\ncontent-encoding: " + coding + b"\r\n", 1)


BOMB = gzip.compress(bytes(200 * MB), 1)


@dataclass
class Hostile:
    """A server that answers well unless it is told what to do; it always says which versions it speaks."""

    url: str = ""
    misbehave: Behaviour | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await read_http(reader)
            if b"server/discover" in body:
                writer.write(with_length(answer(body, DISCOVERED)))
            elif self.misbehave is not None:
                await self.misbehave(body, reader, writer)
                return
            else:
                writer.write(with_length(answer(body)))


@pytest.fixture(scope="module")
async def hostile() -> AsyncGenerator[Hostile]:
    made = Hostile()
    async with raw_http(made.serve) as made.url:
        yield made


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory, hostile: Hostile) -> AsyncGenerator[Served]:
    """A broker before it: `one` is given up after 2 s of silence, `two` has more patience."""
    upstreams = {"one": {"url": hostile.url, "answer_within": "2s"}, "two": {"url": hostile.url}}
    async with serving(tmp_path_factory.mktemp("served"), upstreams) as made:
        yield made


@pytest.fixture(autouse=True)
def well(hostile: Hostile) -> None:
    hostile.misbehave = None


def says(response: bytes) -> Behaviour:
    """Answers with these bytes and closes the connection."""

    async def handle(body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response)
        await writer.drain()

    return handle


def stays_after(response: bytes) -> Behaviour:
    """The same, and keeps the connection open."""

    async def handle(body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response)
        await writer.drain()
        await reader.read()

    return handle


NONSENSE: dict[str, bytes] = {
    "nothing": b"",
    "another protocol": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "no status": b"HTTP/1.1 abc OK\r\n\r\n",
    "an impossible status": b"HTTP/1.1 999 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
    "a status below 100": b"HTTP/1.1 042 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
    "another version": b"HTTP/2.0 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-type: application/json\ncontent-length: 2\n\n{}",
    "a switch of protocols": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc",
    "no content": b"HTTP/1.1 204 No Content\r\ncontent-type: application/json\r\n\r\n",
    "reset content": b"HTTP/1.1 205 Reset\r\ncontent-type: application/json\r\ncontent-length: 0\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\ncontent-type: application/json\r\n\r\n",
    "a redirect": b"HTTP/1.1 307 Elsewhere\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
    "see other": b"HTTP/1.1 303 Elsewhere\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
    "a page": b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi",
    "two lengths": HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{} ",
    "a length and chunks": HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a negative length": HEAD + b"content-length: -2\r\n\r\n{}",
    "a length without end": HEAD + b"content-length: 99999999999999999999999\r\n\r\n{}",
    "a length that is too long": HEAD + b"content-length: 100\r\n\r\n{}",
    "a chunk size that is none": CHUNKED + b"zz\r\n{}\r\n",
    "a negative chunk size": CHUNKED + b"-2\r\n{}\r\n",
    "an overflowing chunk size": CHUNKED + b"fffffffffffffffff\r\n{}\r\n",
    "a chunk that is too long": CHUNKED + b"2\r\n{}{}\r\n0\r\n\r\n",
    "chunks that break off": CHUNKED + b"5\r\n{",
    "an unknown coding": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a field of 10 MB": HEAD + b"x: " + b"x" * (10 * MB) + b"\r\n\r\n",
    "a field name of 10 MB": HEAD + b"x" * (10 * MB) + b": x\r\n\r\n",
    "100,000 fields": HEAD + b"x: x\r\n" * 100_000 + b"content-length: 2\r\n\r\n{}",
    "a reason of 10 MB": b"HTTP/1.1 200 " + b"x" * (10 * MB) + b"\r\n\r\n",
    "100,000 interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000,
    "a chunk extension of 10 MB": CHUNKED + b"2;" + b"x" * (10 * MB) + b"\r\n{}\r\n0\r\n\r\n",
    "a field after the body of 10 MB": CHUNKED + b"2\r\n{}\r\n0\r\nx: " + b"x" * (10 * MB) + b"\r\n\r\n",
    "a field with a line end": HEAD + b"x: a\rset-cookie: b\r\ncontent-length: 2\r\n\r\n{}",
    "a field with a zero": HEAD + b"x: a\0b\r\ncontent-length: 2\r\n\r\n{}",
    "a field with a space": HEAD + b"x : a\r\ncontent-length: 2\r\n\r\n{}",
    "a session that is none": HEAD + b"mcp-session-id: \xff\xfe\r\ncontent-length: 2\r\n\r\n{}",
    "two sessions": HEAD + b"mcp-session-id: a\r\nmcp-session-id: b\r\ncontent-length: 2\r\n\r\n{}",
    "two types": HEAD + b"content-type: text/event-stream\r\ncontent-length: 2\r\n\r\n{}",
    "text that is no JSON": with_length(b'{"jsonrpc": "2.0", "id": 1, "result": \xff}'),
    "an answer to another request": with_length(b'{"jsonrpc": "2.0", "id": 77, "result": {}}'),
    "no compression": packed(b"{}"),
    "compression that breaks off": packed(gzip.compress(b"{}")[:-4]),
    "bytes behind what is compressed": packed(gzip.compress(b"{}") + b"x" * MB),
    "an unknown compression": packed(b"{}", b"br"),
    "compression twice": packed(gzip.compress(gzip.compress(b"{}")), b"gzip, gzip"),
    "a stream without an answer": EVENTS + b": hello\n\n",
    "a stream that breaks off": EVENTS.replace(b"\r\n\r\n", b"\r\ncontent-length: 100\r\n\r\n") + b'data: {"jso',
    "a stream of nonsense": EVENTS + b"\xff\xfe\0\ndata\n:\n\n\ndata: {not json\n\nid: \0\n\n",
    "a stream that is a bomb": EVENTS.replace(b"\r\n", b"\r\ncontent-encoding: gzip\r\n", 1) + BOMB,
}
ENDLESS: dict[str, Callable[[], Behaviour]] = {
    "silence": lambda: stays_after(b""),
    "silence after the fields": lambda: stays_after(CHUNKED),
    "silence in the middle": lambda: stays_after(CHUNKED + b"1\r\n{\r\n"),
    "silence in a stream": lambda: stays_after(EVENTS + b": hello\n\n"),
}


def responses(body: bytes, kind: str) -> list[dict[str, Any]]:
    """Every response in a body."""
    if "event-stream" not in kind:
        return [json.loads(body)]
    events: list[dict[str, Any]] = []
    for event in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = event.split(b"\n")
        if b"event: cut" not in lines:
            with contextlib.suppress(ValueError):
                events += [json.loads(line[5:]) for line in lines if line.startswith(b"data:")]
    return events


async def only_response(asked: Bare) -> dict[str, Any]:
    (response,) = responses(await asked.whole(), asked.headers.get("content-type", ""))
    return response


async def check_told(agent: Agent) -> None:
    """A call and another request each get one clear error."""
    called = await only_response(await agent.call("one", "look"))
    assert called["id"] == 1
    assert called["result"]["isError"] is True
    assert block(called)["status"] in ("interrupted", "unavailable")
    assert "MCP server" in called["result"]["content"][0]["text"]
    listed = await only_response(await agent.send("one", modern("prompts/list", request_id=7)))
    assert listed["id"] == 7
    assert "MCP server" in listed["error"]["message"]


async def check_well(agent: Agent) -> None:
    assert (await (await agent.call("one", "look")).message())["result"]["isError"] is False


@pytest.mark.parametrize("name", [*NONSENSE, *ENDLESS])
async def test_whatever_a_server_answers_the_agent_is_told_once_and_the_next_call_works(
    served: Served, hostile: Hostile, name: str
) -> None:
    hostile.misbehave = says(NONSENSE[name]) if name in NONSENSE else ENDLESS[name]()
    await check_told(served.agent)
    hostile.misbehave = None
    await check_well(served.agent)


LARGE = [response for response in NONSENSE.values() if len(response) > MB // 2 and BOMB not in response]
SMALL = [response for response in NONSENSE.values() if response not in LARGE]


@pytest.mark.parametrize("answers", [SMALL, LARGE], ids=["small", "large"])
async def test_two_hundred_hostile_answers_leave_neither_memory_nor_files_behind(
    served: Served, hostile: Hostile, answers: list[bytes]
) -> None:
    async def rounds(count: int) -> None:
        for number in range(count):
            hostile.misbehave = says(answers[number % len(answers)])
            await (await served.agent.call("one", "look")).whole()
        hostile.misbehave = None
        await check_well(served.agent)

    await rounds(2 * len(answers))
    files, resident = served.open_files, served.resident
    await rounds(200)
    assert await served.settled(files) <= files
    assert served.resident - resident < 16 * MB


# -- lying about where an answer ends ---------------------------------------------------------------------------------


async def test_an_answer_smuggled_behind_another_reaches_nobody(served: Served, hostile: Hostile) -> None:
    """The extra bytes come with the answer; the connection is left open for the next victim."""
    forged = with_length(json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"content": ["forged"]}}).encode())

    async def smuggle(body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(with_length(answer(body)) + forged)
        await reader.read()

    hostile.misbehave = smuggle
    for _ in range(3):
        await check_well(served.agent)


# -- how much ---------------------------------------------------------------------------------------------------------


@dataclass
class Flood:
    """Answers with `size` bytes, as one JSON text or as a stream of events.

    Args:
        written: how many have left so far.
    """

    kind: str
    size: int
    written: int = 0

    async def __call__(self, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole = answer(body)
        filler = b" " * (MB - 1) + b"\n" if self.kind == "json" else b": " + b"x" * (MB - 4) + b"\n\n"
        end = whole if self.kind == "json" else b"data: " + whole + b"\n\n"
        head = EVENTS if self.kind == "events" else HEAD + b"\r\n"
        writer.write(head)
        while self.written < self.size:
            writer.write(filler)
            await writer.drain()
            self.written += len(filler)
        writer.write(end)


@contextlib.asynccontextmanager
async def bare_call(agent: Agent) -> AsyncGenerator[asyncio.StreamReader]:
    """A call on a connection whose answer is read only as far as the test does."""
    at = urlsplit(agent.url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port, limit=MB)
    message = tool_call("look")
    body = json.dumps(message).encode()
    fields = {
        **modern_headers(message),
        "Host": at.netloc,
        "Authorization": f"Bearer {agent.token}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"POST /mcp/two HTTP/1.1\r\n{head}\r\n".encode() + body)
    try:
        yield reader
    finally:
        writer.close()


@pytest.mark.parametrize("kind", ["json", "events"])
async def test_a_client_that_does_not_read_makes_the_server_wait_and_not_the_broker_grow(
    served: Served, hostile: Hostile, kind: str
) -> None:
    hostile.misbehave = flood = Flood(kind, 256 * MB)
    before = served.resident
    async with bare_call(served.agent) as reader, asyncio.timeout(60):
        seen = -1
        while flood.written != seen or not seen:  # until nothing moves any more
            seen = flood.written
            await asyncio.sleep(0.5)
        assert flood.written < 64 * MB
        assert served.resident - before < 30 * MB
        size = most = 0
        while piece := await reader.read(MB):
            size += len(piece)
            most = max(most, served.resident)
    assert size > flood.size
    assert most - before < 30 * MB


@pytest.mark.parametrize("kind", ["json", "events"])
async def test_an_answer_of_a_hundred_megabytes_passes_in_constant_space(
    served: Served, hostile: Hostile, kind: str
) -> None:
    hostile.misbehave = Flood(kind, 100 * MB)
    before = most = served.resident
    asked, size = await served.agent.call("two", "look"), 0
    async for piece in asked.response.content.iter_chunked(MB):
        size += len(piece)
        most = max(most, served.resident)
    assert size > 100 * MB
    assert most - before < 30 * MB


async def test_an_event_of_twenty_megabytes_passes(served: Served, hostile: Hostile) -> None:
    text = "x" * (20 * MB)

    async def handle(body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        result = {**RESULT, "content": [{"type": "text", "text": text}]}
        writer.write(EVENTS + b"data: " + answer(body, result) + b"\n\n")
        await writer.drain()

    hostile.misbehave = handle
    response = await only_response(await served.agent.call("two", "look"))
    assert response["result"]["content"][0]["text"] == text


@pytest.mark.parametrize("kind", ["json", "events"])
async def test_an_answer_that_comes_byte_by_byte_passes(served: Served, hostile: Hostile, kind: str) -> None:
    async def drip(body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole = answer(body)
        text = with_length(whole) if kind == "json" else EVENTS + b"data: " + whole + b"\n\n"
        for byte in text:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)  # each byte is a write of its own

    hostile.misbehave = drip
    await check_well(served.agent)


async def test_a_compressed_bomb_is_cut_and_does_not_fill_the_memory(served: Served, hostile: Hostile) -> None:
    hostile.misbehave = says(packed(BOMB))
    before = served.resident
    asked = await served.agent.call("two", "look")
    with pytest.raises(aiohttp.ClientPayloadError):
        await asked.whole()
    assert asked.response.content.total_bytes <= 64 * MB
    assert served.resident - before < 30 * MB


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
async def test_an_answer_that_is_compressed_though_nobody_asked_is_understood(
    served: Served, hostile: Hostile, pack: Callable[[bytes], bytes]
) -> None:
    coding = b"gzip" if pack is gzip.compress else b"deflate"

    async def handle(body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(packed(pack(answer(body)), coding))

    hostile.misbehave = handle
    await check_well(served.agent)


# -- a caller that leaves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"", EVENTS + b": hello\n\n", CHUNKED + b"1\r\n \r\n"])
async def test_a_caller_that_leaves_takes_the_request_with_it(served: Served, hostile: Hostile, begun: bytes) -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def handle(body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begun)
        arrived.set()
        await reader.read()
        gone.set()

    hostile.misbehave = handle
    async with bare_call(served.agent), asyncio.timeout(BOUND):
        await arrived.wait()
    async with asyncio.timeout(BOUND):
        await gone.wait()
