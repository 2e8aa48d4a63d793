"""One client's connection, and the server of them all: what each may take, and for how long.

What belongs here: HTTP/1.1 as bytes, and what it may take of this process. What does not: which worker it belongs to
(`workers`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
from collections.abc import Callable, Generator
from contextlib import contextmanager
from math import inf
from typing import Any, ClassVar, cast
from urllib.parse import unquote

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from broker.front.cycle import ANSWER, KNOWN, LARGEST_KEPT, LEFT, MOST_KEPT, Cycle, Repeated, Whole

log = logging.getLogger(__name__)

DESCRIPTORS = 65_536
"""As many are enough. MCP servers inherit the limit, and some programs close every possible one when they start."""

REMIND_EVERY = 60.0
"""Seconds between warnings that connections are turned away."""


class _Pipelined(Exception):
    """A second request came before the first was answered."""


class Connection(HttpToolsProtocol):
    """One client's connection: uvicorn's, with an end to everything that the client has to send.

    It is closed when a request's head is not whole in time, or has more than `largest_head` bytes (431, RFC 6585
    section 5); when its body pauses or lasts too long (408, RFC 9110 section 15.5.9); and when a second request comes
    before the first is answered: uvicorn would stop reading then, and who leaves would not be noticed. A request to
    speak another protocol is ignored, and the rest of its request answered (RFC 9110 section 7.8). uvicorn's
    `root_path` and `limit_concurrency` are not looked at.
    """

    largest_head: ClassVar[int] = 64 * 1024
    head_within: ClassVar[float] = 10.0
    body_pause: ClassVar[float] = 60.0
    body_within: ClassVar[float] = 300.0

    _leave: Callable[[], None] | None = None  # what is to be called when the client is gone
    _undigested: int = 0  # bytes since the last that completed a head or were part of a body
    _between: bool = True  # whether the next byte begins a request
    _idle: bool = False  # whether an answer has ended, and nothing came since; only between requests
    _due: float = inf  # when the client must have sent what it began, or begin something; never while it waits for us
    _body_until: float = inf  # the same for all of the body that is being read
    _seen: tuple[int, ...] = ()  # the last heads, as hashes: most come but once on their connection
    _repeated: dict[tuple[bytes, bytes], Repeated] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn has it
        """A client came: it has to send a head."""
        super().connection_made(transport)
        self._due = self.loop.time() + self.head_within

    def data_received(self, data: bytes) -> None:
        """Read on. A head that would never end is not read to its end, nor is anything else that is no body."""
        if self._idle:
            self._idle, self._due = False, self.loop.time() + self.head_within
        whole = Whole.of(data) if self._between and not self._undigested else None
        if whole is not None and self._repeats(whole):
            return
        while data and not self.transport.is_closing():
            room = self.largest_head - self._undigested
            piece, data = data[:room], data[room:]
            self._undigested += len(piece)
            data = self._feed(piece) + data
            if self._undigested >= self.largest_head:
                self._refuse(431, "The head of the request is too large.")
        if self._body_until != inf:
            self._due = min(self.loop.time() + self.body_pause, self._body_until)
        if whole is not None and self._between:
            self._learn(whole)

    def _repeats(self, whole: Whole) -> bool:
        """Take care of a request whose head is known; returns whether it is."""
        repeated = self._repeated.get(whole.head) if self._repeated is not None else None
        if repeated is None or self.transport.is_closing():
            return False
        if self._busy:
            self.transport.abort()
            return True
        self._due, self.expect_100_continue = inf, False
        scope = repeated.scope_of(whole, self.app_state)
        self._begin(scope, repeated.known, keep_alive=True)
        self.cycle.body += whole.body
        self.cycle.more_body = False
        self.cycle.message_event.set()
        return True

    def _learn(self, whole: Whole) -> None:
        """Remember a head that was parsed, when it came before among the last few."""
        if len(whole.head[0]) + len(whole.head[1]) > LARGEST_KEPT or self.transport.is_closing():
            return
        head = hash(whole.head)
        if head not in self._seen:
            self._seen = (head, *self._seen[: MOST_KEPT - 1])
            return
        repeated = Repeated.of(self.cycle, whole)
        if repeated is None:
            return
        self._repeated = self._repeated or {}
        if len(self._repeated) >= MOST_KEPT:
            del self._repeated[next(iter(self._repeated))]
        self._repeated[whole.head] = repeated

    def _feed(self, piece: bytes) -> bytes:
        """Have `piece` parsed; returns what is to be parsed next."""
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            if self.parser.get_method() == b"CONNECT":
                self._refuse(400, "This is no proxy.")
                return b""
            return self._head_without_upgrade() + piece[upgrade.args[0] :]
        except httptools.HttpParserError:
            if not self.transport.is_closing():
                self._refuse(400, "Invalid HTTP request received.")
        return b""

    def _head_without_upgrade(self) -> bytes:
        """The head that was read, for a new parser: the old one takes what follows for the other protocol."""
        start = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        fields = [name + b":" + value for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._undigested = 0
        return b"\r\n".join([start, *fields, b"", b""])

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._busy:
            self.transport.abort()
            raise _Pipelined
        self._between = False
        super().on_message_begin()

    @property
    def _busy(self) -> bool:
        """Whether a request is not answered yet, or its answer not read: who reads nothing would fill the memory."""
        return self.cycle is not None and (self.flow.write_paused or not _is_answered(self.cycle))  # pyright: ignore[reportUnnecessaryComparison] - it is at first

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        parser = self.parser
        if parser.should_upgrade():
            return  # it is read once more
        self._undigested = 0
        self._body_until = self.loop.time() + self.body_within
        target, version = httptools.parse_url(self.url), parser.get_http_version()
        scope: Any = self.scope
        scope["method"] = parser.get_method().decode("ascii")
        scope["http_version"] = version
        scope["raw_path"] = target.path
        scope["path"] = unquote(target.path.decode("ascii"))
        scope["query_string"] = target.query or b""
        self._begin(scope, {}, keep_alive=version != "1.0" and parser.should_keep_alive())

    def _begin(self, scope: Any, known: dict[str, Any], *, keep_alive: bool) -> None:
        """Have a request answered."""
        self._leave = None
        self.cycle = cycle = Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        scope["extensions"] = {LEFT: self._when_left, ANSWER: cycle.answer, KNOWN: known}
        self._start_asgi_task(cycle, cast("Any", self.app))  # pyright: ignore[reportUnknownMemberType]

    def on_body(self, body: bytes) -> None:
        """A part of its body came."""
        self._undigested = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """It is whole."""
        if self.parser.should_upgrade():
            return
        self._undigested = 0
        self._between = True
        self._due = self._body_until = inf
        super().on_message_complete()
        self._rest_if_done()

    def on_response_complete(self) -> None:
        """It is answered: the connection may be used for another, for a while."""
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self._rest_if_done()

    def _rest_if_done(self) -> None:
        """An answer may be whole before its request is, and the next request may be there before it has ended."""
        if self._between and _is_answered(self.cycle):
            self._idle, self._due = True, self.loop.time() + self.timeout_keep_alive

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or was left."""
        super().connection_lost(exc)
        if self._leave is not None and not self.cycle.response_complete:
            self._leave()
        self._leave = None

    def _when_left(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self.flow.resume_reading()  # a long body may have stopped it, and then nobody would notice
        if self.cycle.disconnected:
            self.loop.call_soon(leave)

    def look(self, now: float) -> None:
        """Close it if the client is late."""
        if now < self._due:
            return
        if self._idle:
            self.transport.close()
        elif self._body_until == inf or self.transport.is_closing():
            self.transport.abort()
        else:
            self._refuse(408, "The body of the request did not come in time.")

    def shutdown(self) -> None:
        """The broker stops: what is answered may be answered to its end, what is not whole yet does not begin."""
        if self._body_until != inf and not self.cycle.response_started:
            self._refuse(503, "The broker is stopping.")
        else:
            super().shutdown()

    def _refuse(self, status: int, sentence: str) -> None:
        """Answer the request that is being read, unless that has begun already, and close."""
        if self._body_until != inf:
            if self.cycle.response_started:
                self.transport.abort()
                return
            self.cycle.disconnected = True  # so that its application says nothing more
            self.cycle.message_event.set()
        words = sentence.encode()
        fields = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + fields % len(words) + words)
        self.transport.close()
        self._due = self.loop.time() + self.head_within  # to read that


def _is_answered(cycle: RequestResponseCycle) -> bool:
    """Whether the client has the whole answer, which it may know before the application says that it ends."""
    if cycle.response_complete or not cycle.response_started:
        return cycle.response_complete
    return not cycle.chunked_encoding and (cycle.expected_content_length == 0 or cycle.scope["method"] == "HEAD")


class Server(uvicorn.Server):
    """uvicorn without signal handlers: whoever runs the broker decides when it stops."""

    _remind_at: float = 0

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in self._connections:
                connection.look(now)
            self._look_for_room(now)
        return await super().on_tick(counter)

    async def end(self, serving: asyncio.Future[Any], patience: float, deadline: float) -> None:
        """Return when `serving` has ended.

        Args:
            patience: the loop's time until which clients may read their answers; then their connections are cut.
            deadline: the loop's time until which what answered them may end.
        """
        loop = asyncio.get_running_loop()
        await asyncio.wait([serving], timeout=max(0, patience - loop.time()))
        for connection in self._connections:
            connection.transport.abort()
        await asyncio.wait([serving], timeout=max(0, deadline - loop.time()))
        self.force_exit = True
        await serving

    @property
    def _connections(self) -> list[Connection]:
        return [one for one in self.server_state.connections if isinstance(one, Connection)]

    def _look_for_room(self, now: float) -> None:
        # Nobody tells that there is none: the event loop then accepts connections only to close them.
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            if now >= self._remind_at:
                self._remind_at = now + REMIND_EVERY
                log.warning("New connections are turned away: %s. Raise the limit (`ulimit -n`).", error.strerror)


def allow_many_connections() -> None:
    """Let this process have more files and connections open, as far as it may decide that itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
