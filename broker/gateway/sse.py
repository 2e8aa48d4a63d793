"""Server-sent events (WHATWG HTML, section 9.2), as bytes that stay exactly what they were.

What belongs here: framing one message, and cutting a stream into events. What does not: what is in them.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from broker.errors import UpstreamInterrupted
from broker.gateway.wire import dumps

SSE_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
KEEP_ALIVE = b": keep-alive\r\n\r\n"
MAX_EVENT = 64 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"


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
    """

    raw: bytes
    data: bytes | None = None
    id: bytes | None = None

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
        self._data: list[bytes] = []
        self._id: bytes | None = None
        self._size = 0
        self._at_start = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The pieces that `chunk` completes.

        Raises:
            UpstreamInterrupted: an event is over the limit.
        """
        pieces: list[SseEvent] = []
        for line in chunk.splitlines(keepends=True):
            self._take(line, pieces)
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
            self._continue_line_end(pieces)
            return
        if self._at_start and whole.startswith(_BOM):
            pieces.append(SseEvent(_BOM))
            whole = whole.removeprefix(_BOM)
        self._at_start = False
        self._judge(whole, pieces)

    def _continue_line_end(self, pieces: list[SseEvent]) -> None:
        if self._block:
            self._block.append(b"\n")
        else:
            pieces.append(SseEvent(b"\n"))
            self._size = 0

    def _judge(self, whole: bytes, pieces: list[SseEvent]) -> None:
        line = whole.rstrip(b"\r\n")
        if not line:
            raw, data = b"".join([*self._block, whole]), b"\n".join(self._data) if self._data else None
            pieces.append(SseEvent(raw, data, self._id))
            self._reset()
        elif line.startswith(b":") and not self._block:  # keeps a connection alive: goes on at once
            pieces.append(SseEvent(whole))
            self._reset()
        else:
            self._block.append(whole)
            self._note(*_field(line))

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"data":
            self._data.append(value)
        elif name == b"id" and b"\0" not in value:
            self._id = value

    def _reset(self) -> None:
        self._block, self._data, self._id, self._size = [], [], None, 0


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name, value.removeprefix(b" ")


async def events(chunks: AsyncIterable[bytes], limit: int = MAX_EVENT) -> AsyncIterator[SseEvent]:
    """The events of a stream as they come. An event that never ended is left out, as every client does.

    Raises:
        UpstreamInterrupted: an event is over the limit, or the stream broke.
    """
    parser = SseParser(limit)
    async for chunk in chunks:
        for event in parser.feed(chunk):
            yield event
