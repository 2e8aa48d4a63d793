"""Server-sent events (WHATWG HTML, section 9.2), as bytes that stay exactly what they were.

What belongs here: framing one message, and cutting a stream into events. What does not: what is in them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from broker.errors import UpstreamInterrupted
from broker.gateway.jsonrpc import dumps

SSE_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
KEEP_ALIVE = b": keep-alive\r\n\r\n"
MAX_EVENT = 64 * 1024 * 1024

SMALL = 2 * 1024
LARGE = 32 * 1024
MANY_LINES = 256
"""A chunk of more bytes or lines than these is read in portions, between which others have their turn."""

NO_WORK, SHORTEST_REST, LONGEST_REST = 0.0001, 0.001, 0.005
"""Seconds."""

BOM = b"\xef\xbb\xbf"
_LINE_ENDS = (b"\n", b"\r\n", b"\r")
_LONGEST_RETRY = 9  # digits: eleven days


def sse_event(message: bytes | Mapping[str, Any]) -> bytes:
    """One JSON-RPC message as an event. Bytes have to be a single line."""
    data = message if isinstance(message, bytes) else dumps(message)
    return b"event: message\r\ndata: " + data + b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class SseEvent:
    """A piece of a stream.

    Args:
        raw: its bytes; those of all pieces together are the stream.
        data: the event's data lines joined by newlines; None for what is no event (comments, a byte-order mark).
        id: the event's id, when it has one.
        name: the event's type; clients read messages from `message` alone, which it is when it has none.
        retry: milliseconds that the server asks a client to wait before it reconnects, when it says so.
    """

    raw: bytes
    data: bytes | None = None
    id: bytes | None = None
    name: bytes = b"message"
    retry: int | None = None

    def with_data(self, data: bytes) -> bytes:
        """The event's bytes with other data (a single line); its other fields stay as they are."""
        others = [line for line in self.raw.splitlines() if line and _field(line)[0] != b"data"]
        return b"\r\n".join([*others, b"data: " + data, b"", b""])


class SseParser:
    """Cuts a stream into events, however it comes in chunks. Takes linear time.

    Args:
        limit: how many bytes one event may have.
    """

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._line: list[bytes] = []  # the pieces of a line that has not ended
        self._block: list[bytes] = []  # the lines of an event that has not ended
        self._aside: list[bytes] = []  # lines that are no event, until one comes or the chunk ends
        self._data: list[bytes] = []
        self._id: bytes | None = None
        self._name = b""
        self._retry: int | None = None
        self._size = 0
        self._at_start = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The pieces that `chunk` completes; comments and empty lines in a row are one piece.

        Raises:
            UpstreamInterrupted: an event is over the limit.
        """
        pieces: list[SseEvent] = []
        for line in chunk.splitlines(keepends=True):
            if line in _LINE_ENDS and not self._size and not self._at_start:
                self._after_cr = line == b"\r"
                self._aside.append(line)
            else:
                self._take(line, pieces)
        self._put_aside(pieces)
        return pieces

    def rest(self) -> bytes:
        """The bytes of an event that never ended. A client throws them away."""
        return b"".join([*self._block, *self._line])

    def _take(self, line: bytes, pieces: list[SseEvent]) -> None:
        self._size += len(line)
        if self._size > self._limit:
            raise UpstreamInterrupted(
                f"The MCP server sent an event of more than {self._limit} bytes: it was not read."
            )
        self._line.append(line)
        if not line.endswith((b"\r", b"\n")):
            return
        whole, after_cr = b"".join(self._line), self._after_cr
        self._line.clear()
        self._after_cr = whole.endswith(b"\r")
        if whole == b"\n" and after_cr:  # the second half of a line end: a chunk ended inside it
            self._continue_line_end()
            return
        if self._at_start and whole.startswith(BOM):
            self._aside.append(BOM)
            whole = whole.removeprefix(BOM)
        self._at_start = False
        self._judge(whole, pieces)

    def _continue_line_end(self) -> None:
        if self._block:
            self._block.append(b"\n")
        else:
            self._aside.append(b"\n")
            self._size = 0

    def _put_aside(self, pieces: list[SseEvent]) -> None:
        if self._aside:
            pieces.append(SseEvent(b"".join(self._aside)))
            self._aside.clear()

    def _judge(self, whole: bytes, pieces: list[SseEvent]) -> None:
        line = whole.rstrip(b"\r\n")
        if not line and self._block:
            self._put_aside(pieces)
            raw, data = b"".join([*self._block, whole]), b"\n".join(self._data) if self._data else None
            pieces.append(SseEvent(raw, data, self._id, self._name or b"message", self._retry))
            self._reset()
        elif not self._block and line[:1] in (b"", b":"):  # keeps a connection alive: goes on at once
            self._aside.append(whole)
            self._reset()
        else:
            self._block.append(whole)
            self._note(*_field(line))

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._name = value
        elif name == b"id" and b"\0" not in value:
            self._id = value
        elif name == b"retry" and value.isdigit() and len(value) <= _LONGEST_RETRY:
            self._retry = int(value)

    def _reset(self) -> None:
        self._block, self._data, self._size = [], [], 0
        self._id, self._name, self._retry = None, b"", None


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name, value.removeprefix(b" ")


def portions(chunk: bytes) -> Sequence[bytes]:
    """A chunk as it is, or, when there is much to do in it, in parts: a turn of the event loop belongs between them."""
    size = len(chunk)
    if size <= SMALL:
        return (chunk,)
    step = SMALL if chunk.count(b"\n") + chunk.count(b"\r") > MANY_LINES else LARGE
    return (chunk,) if size <= step else [chunk[at : at + step] for at in range(0, size, step)]


async def rest_after(work: float) -> None:
    """Let others have their turn after so many seconds of work, and threads, which need the interpreter too.

    A pause as long as the work: after a turn of no length at all, a thread gets the interpreter only by force, every
    5 ms, and the store needs it dozens of times for one call.
    """
    await asyncio.sleep(min(max(work, SHORTEST_REST), LONGEST_REST) if work > NO_WORK else 0)


async def batches(chunks: AsyncIterable[bytes], limit: int = MAX_EVENT) -> AsyncGenerator[list[SseEvent]]:
    """The events of a stream as they come, those that came together at once; others have a turn between two batches.

    Raises:
        UpstreamInterrupted: an event is over the limit, or the stream broke.
    """
    parser = SseParser(limit)
    async for chunk in chunks:
        for portion in portions(chunk):
            began = perf_counter()
            if found := parser.feed(portion):
                yield found
            if portion is not chunk:
                await rest_after(perf_counter() - began)


async def events(chunks: AsyncIterable[bytes], limit: int = MAX_EVENT) -> AsyncGenerator[SseEvent]:
    """The events of a stream as they come. An event that never ended is left out, as every client does.

    Raises:
        UpstreamInterrupted: an event is over the limit, or the stream broke.
    """
    async for batch in batches(chunks, limit):
        for event in batch:
            yield event
