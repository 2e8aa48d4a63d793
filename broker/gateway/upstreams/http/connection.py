"""A connection to an HTTP/1.1 server (RFC 9112): one request at a time, and nothing is believed that was not asked for.

What belongs here: framing, and how much and how late something may come. What does not: which connection is taken
(`pool`), which fields pass (`fields`), MCP.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

from broker.errors import UpstreamInterrupted
from broker.gateway.reasons import why

READ_AHEAD = 256 * 1024
"""Bytes of an answer that wait for a slow reader before the server is not read any more."""

LARGEST_HEAD = 64 * 1024
"""Bytes of an answer's fields, and bytes in a row that bring nothing of its body."""

_ENOUGH = "was not asked any further"


class Answer:
    """What a server says to one request, as it comes.

    Args:
        within: seconds in which its head has to be there, and then the next bytes whenever somebody waits for them.
        lasting: whether it may be silent for longer once its head is there.
    """

    def __init__(self, connection: Connection, within: float, *, lasting: bool) -> None:
        self.status = 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.whole = False
        self._connection = connection
        self._lasting = lasting
        self._within = within
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._broken: str | None = None  # a sentence: an exception that is kept would keep who it was raised to
        self._news: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._silent_since: float | None = self._loop.time()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(within, self._look)

    async def head(self) -> None:
        """Wait for the status and the fields.

        Raises:
            UpstreamInterrupted: they do not come.
        """
        while not self.status:
            if self._broken is not None:
                raise UpstreamInterrupted(self._broken)
            await self._wait()

    async def read(self) -> bytes:
        """What has come since; waits for something, and is empty at the end.

        Raises:
            UpstreamInterrupted: it breaks off, or was closed.
        """
        while not self._pieces:
            if self._broken is not None:
                raise UpstreamInterrupted(self._broken)
            if self.whole:
                return b""
            self._silent_since = self._loop.time()
            try:
                await self._wait()
            finally:
                self._silent_since = None
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._size > READ_AHEAD and not self.whole:
            self._connection.resume()
        self._size = 0
        return data

    def close(self) -> None:
        """Want nothing more of it. Before its end this closes the connection."""
        if self._pieces:
            self._pieces.clear()
            self._broken = self._broken or self._connection.interrupted(_ENOUGH)
        if not self.whole:
            self._connection.end(_ENOUGH)

    # -- what the connection tells ------------------------------------------------------------------------------------

    def begin(self, status: int) -> None:
        """The head is whole."""
        self.status = status
        self._silent_since = None
        if self._lasting:
            self._stop_looking()
        self._wake()

    def add(self, piece: bytes) -> bool:
        """Take a piece of the body; returns whether that is enough for now."""
        self._pieces.append(piece)
        self._size += len(piece)
        self._wake()
        return self._size > READ_AHEAD

    def finish(self, broken: str | None = None) -> None:
        """Nothing more comes; `broken` says why when it is not whole."""
        self.whole = broken is None
        self._broken = broken
        self._stop_looking()
        self._wake()

    # -- waiting ------------------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        self._news = self._loop.create_future()
        try:
            await self._news
        finally:
            self._news = None

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _look(self) -> None:
        """One timer for the whole answer: it runs on while the reader, not the server, is the slow one."""
        now = self._loop.time()
        since = now if self._silent_since is None else self._silent_since
        if since + self._within > now:
            self._timer = self._loop.call_at(since + self._within, self._look)
        else:
            began = "sent nothing more" if self.status else "did not answer"
            self._connection.end(f"{began} within {self._within:g} s")

    def _stop_looking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Nonsense(Exception):
    """What came is not what was asked for."""


class Connection(asyncio.Protocol):
    """An open connection.

    Args:
        name: the server's, for sentences.
        rest: called when it can take the next request.
        gone: called when it is closed.
    """

    def __init__(self, name: str, rest: Callable[[Connection], None], gone: Callable[[Connection], None]) -> None:
        self.rested_at = 0.0
        self._name = name
        self._rest = rest
        self._gone = gone
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._poll = select.poll()
        self._paused = False
        self._closed = False
        self._begin()

    def ask(self, request: bytes, within: float, *, lasting: bool) -> Answer:
        """Send a whole request."""
        self._begin()
        self._answer = Answer(self, within, lasting=lasting)
        self._transport.write(request)
        return self._answer

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent on it any more, as far as was heard."""
        return self._closed or self._transport.is_closing()

    @property
    def usable(self) -> bool:
        """Whether it is open and the server has said nothing since its last answer, not even in the kernel's buffer.

        What is there already would be taken for the answer to the next request. An end of the stream counts too: a
        request on such a connection is lost, and a call cannot be sent twice.
        """
        return not self.closed and not self._poll.poll(0)

    def resume(self) -> None:
        """Read on."""
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def end(self, why: str) -> None:
        """Close it at once; an answer that is under way ends with a sentence that says why."""
        answer, self._answer = self._answer, None
        self._closed = True
        self._transport.abort()
        if answer is not None and not answer.whole:
            answer.finish(self.interrupted(why))

    def interrupted(self, why: str) -> str:
        """What is told of a request that was sent."""
        return f"The MCP server {self._name!r} {why}: the request may or may not have run."

    def _begin(self) -> None:
        self._fields_size = self._barren = 0
        self._interim = self._until_close = self._keep = False

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Something came."""
        answer = self._answer
        if answer is None:
            self.end("spoke unasked")
            return
        self._barren += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.end(f"answered with what is no HTTP ({_nonsense(error)})")
            return
        if answer.whole:
            self._finished()
        elif self._barren > LARGEST_HEAD:
            self.end(f"answered with fields of more than {LARGEST_HEAD} bytes")

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._closed = True
        answer, self._answer = self._answer, None
        if answer is not None:
            if exc is None and self._until_close and answer.status:
                answer.finish()
            else:
                where = "in the middle of its answer" if answer.status else "before it answered"
                answer.finish(self.interrupted(f"went away {where} ({why(exc)})"))
        del self._parser  # it refers back to this
        self._gone(self)

    def _finished(self) -> None:
        self._answer = None
        if not self._keep or self._transport.get_write_buffer_size() or self._transport.is_closing():
            self.end(_ENOUGH)
            return
        self.resume()
        self._rest(self)

    # -- the parser's -------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A second answer in the same bytes is not believed, and nothing that comes after the first is read."""
        if self._answer is None or self._answer.whole:
            raise _Nonsense("an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or one after the body: those are counted and left out."""
        self._fields_size += len(name) + len(value)
        if self._fields_size > LARGEST_HEAD:
            raise _Nonsense(f"fields of more than {LARGEST_HEAD} bytes")
        if self._answer is not None and not self._answer.status:
            self._answer.fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is whole; that of an interim answer says nothing (RFC 9110 section 15.2)."""
        answer, status = self._answer, self._parser.get_status_code()
        if answer is None:
            return
        self._interim = 100 <= status < 200 and status != 101
        if self._interim:
            answer.fields.clear()
            return
        if not 200 <= status < 600 or self._parser.get_http_version() not in ("1.1", "1.0"):
            raise _Nonsense(f"status {status} of HTTP/{self._parser.get_http_version()}")
        codings = [value.lower() for name, value in answer.fields if name == b"transfer-encoding"]
        if codings not in ([], [b"chunked"]):
            raise _Nonsense("an unknown transfer coding")
        self._until_close = not codings and all(name != b"content-length" for name, _ in answer.fields)
        answer.begin(status)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._barren = 0
        if self._answer is not None and self._answer.add(body) and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._answer is not None and not self._interim:
            self._keep = self._parser.should_keep_alive()
            self._answer.finish()


def _nonsense(error: Exception) -> str:
    # No variable may hold the cause: with its traceback it would keep the bytes until the garbage is collected.
    return str(error.__context__ if isinstance(error.__context__, _Nonsense) else error)
