"""An upstream that speaks Streamable HTTP itself: requests are passed on, answers streamed back untouched.

What belongs here: what an answer of HTTP or its absence proves, and the sessions that are to be ended. What does not:
connections (`pool`, `connection`), fields (`fields`), judging.
"""

from __future__ import annotations

import asyncio
import logging
import math
import zlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import suppress
from typing import Any

from broker.errors import GrantEnded, SettingsError, UpstreamError, UpstreamInterrupted, UpstreamUnreachable
from broker.gateway.upstreams import Fields, UpstreamReply, UpstreamRequest
from broker.gateway.upstreams.http.connection import Answer
from broker.gateway.upstreams.http.fields import own_fields, said, upward
from broker.gateway.upstreams.http.pool import Address, Pool, Tenant
from broker.gateway.wire import dumps

ANSWER_WITHIN = 600.0
"""Seconds."""

END_WITHIN = 5.0
"""Seconds for telling a server that a grant's sessions are over."""

LARGEST_BODY = 1 << 30
"""Bytes of an answer that is no stream of events."""

LARGEST_UNPACKED = 64 << 20
"""Bytes of an answer that came compressed, of whatever kind."""

_PIECE = 64 * 1024
_MOVED = frozenset({301, 302, 307, 308})  # what was asked for is elsewhere, so it was not done here; not so 303
_NO_BODY = frozenset({204, 205, 304})
_STREAM = b"text/event-stream"
_PACKED = (b"gzip", b"x-gzip", b"deflate")

_log = logging.getLogger(__name__)


class HttpUpstream:
    """An MCP server at a URL.

    Redirects, cookies and the environment's proxies are not followed. Certificates are verified; an authority of one's
    own is named with SSL_CERT_FILE or SSL_CERT_DIR, as everywhere else.

    Args:
        headers: the upstream's own, such as its credentials; they replace the client's of the same name.
        answer_within: seconds in which an answer has to begin, and in which more of it has to come while somebody
            waits for it. A stream that is there to wait (GET, `subscriptions/listen`) may be silent once it began, and
            no answer is cut for how long it takes.

    Raises:
        SettingsError: the URL or a field cannot be used.
    """

    def __init__(
        self, name: str, url: str, headers: Mapping[str, str] | None = None, *, answer_within: float = ANSWER_WITHIN
    ) -> None:
        self._name = name
        try:
            address, self._own = Address.of(url), own_fields(headers or {})
        except ValueError as error:
            raise SettingsError(f"upstreams.{name} cannot be used: {error}.") from error
        self._answer_within = answer_within
        self._pool = Pool(name, address)
        self._line = f"{address.target} HTTP/1.1".encode()
        self._fixed = [*({b"host": address.authority.encode()} | self._own).items()]

    @property
    def name(self) -> str:
        """Its name in the configuration and in `/mcp/{name}`."""
        return self._name

    @property
    def tenants(self) -> frozenset[str]:
        """The ids of grants that have a session or an open answer here."""
        return frozenset(grant_id for grant_id, tenant in self._pool.tenants.items() if tenant.present)

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """Send one request, once; return when the answer's status is known.

        Raises:
            UpstreamUnreachable: no connection, or the server says that its endpoint is elsewhere.
            UpstreamInterrupted: bytes may have been sent and no answer came, or none that can be used.
        """
        tenant = self._pool.enter(request.grant_id)
        try:
            written = self._written(request)
            # A call goes out on a kept connection at the risk of losing it; the rare others need not take any.
            connection = await self._pool.take(tenant, fresh=request.method != "POST", permit=request.permit)
            method = request.message.get("method") if request.message is not None else None
            lasting = request.method == "GET" or method == "subscriptions/listen"
            answer = connection.ask(written, self._answer_within, lasting=lasting)
        finally:
            self._pool.leave(tenant)
        try:
            await answer.head()
            return self._reply(request, tenant, answer)
        except BaseException:
            answer.close()
            raise

    def touch(self, session: str) -> None:
        """The server's own sessions are its own to keep."""

    async def release(self, grant_id: str) -> None:
        """End every session and open answer of a grant that ended. What the server makes of it is not waited for."""
        tenant = self._pool.tenants.get(grant_id)
        if tenant is None:
            return
        sessions = list(tenant.sessions)
        self._pool.end(tenant, "was left because the grant ended")
        with suppress(TimeoutError):
            async with asyncio.timeout(END_WITHIN):
                await asyncio.gather(*(self._end_session(session) for session in sessions))

    async def close(self) -> None:
        """Close every connection; answers that still stream end as interrupted. Sessions outlive the broker."""
        self.kill()

    def kill(self) -> None:
        """The same at once."""
        self._pool.close("was left because the broker stops")

    # -- upwards ------------------------------------------------------------------------------------------------------

    def _written(self, request: UpstreamRequest) -> bytes:
        fields = Fields.of(request.headers)
        try:
            lines = [request.method.encode(), fields.made(self._modern_lines if request.modern else self._legacy_lines)]
            body = dumps(request.message) if request.message is not None else b""
        except ValueError as error:
            raise UpstreamUnreachable(f"The MCP server {self._name!r} was not asked: {error}.") from error
        if request.message is not None:
            lines.append(b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body))
        if request.session is not None:
            lines.append(b"mcp-session-id: %b\r\n" % request.session.encode())
        return b"".join([*lines, b"\r\n", body])

    def _modern_lines(self, fields: Fields) -> bytes:
        return self._lines(fields, modern=True)

    def _legacy_lines(self, fields: Fields) -> bytes:
        return self._lines(fields, modern=False)

    def _lines(self, fields: Fields, *, modern: bool) -> bytes:
        """What follows the method in the head of a request, but for what its body and its session add."""
        lines = [name + b": " + value for name, value in (*self._fixed, *upward(fields, self._own, modern=modern))]
        return b"\r\n".join([b" " + self._line, *lines, b""])

    async def _end_session(self, session: str) -> None:
        nobody = Tenant("")
        request = UpstreamRequest("DELETE", nobody.id, modern=False, session=session)
        with suppress(UpstreamError):
            connection = await self._pool.take(nobody, fresh=True)
            answer = connection.ask(self._written(request), END_WITHIN, lasting=True)
            try:
                await answer.head()
            finally:
                connection.end("left")

    # -- downwards ----------------------------------------------------------------------------------------------------

    def _reply(self, request: UpstreamRequest, tenant: Tenant, answer: Answer) -> UpstreamReply:
        try:
            told = said(answer.fields)
        except ValueError as error:
            raise self._interrupted(f"answered with fields that contradict each other ({error})") from error
        self._refuse_status(answer)
        if told.coding not in (b"", b"identity", *_PACKED):
            raise self._interrupted(f"answered in an encoding that was not asked for ({_quoted(told.coding)})")
        if request.message is not None and "id" in request.message and "method" in request.message:
            self._refuse_nonsense(answer.status, told.kind)
        self._note_session(request, tenant, answer.status, told.session)

        async def close() -> None:
            answer.close()

        chunks = self._chunks(tenant, answer, math.inf if told.kind == _STREAM else LARGEST_BODY)
        if told.coding in _PACKED:
            chunks = self._unpacked(chunks)
        return UpstreamReply(answer.status, [*told.downward], chunks, told.session, close)

    def _refuse_status(self, answer: Answer) -> None:
        if answer.status == 401:  # about the broker's credentials: told to the client, it would try to sign in
            raise UpstreamUnreachable(
                f"The MCP server {self._name!r} refuses the broker's credentials (401). Set its `headers`."
            )
        if not 300 <= answer.status < 400 or answer.status == 304:
            return
        location = next((value for name, value in answer.fields if name == b"location"), b"")
        _log.warning("MCP server %s redirects to %r", self._name, location[:1000])
        told = f"answered with a redirect ({answer.status}), which is not followed"
        if answer.status in _MOVED:
            raise UpstreamUnreachable(f"The MCP server {self._name!r} {told}. Set its `url` to where it is.")
        raise self._interrupted(told)

    def _refuse_nonsense(self, status: int, kind: bytes) -> None:
        """A request is answered with JSON or a stream of events (2025-03-26, Streamable HTTP); 404 may have no body."""
        means_mcp = kind in (_STREAM, b"application/json") or kind.endswith(b"+json")
        if status not in _NO_BODY and (means_mcp or status == 404):
            return
        raise self._interrupted(
            f"answered with HTTP {status} and {_quoted(kind) or 'no content type'}, which is no MCP"
        )

    def _note_session(self, request: UpstreamRequest, tenant: Tenant, status: int, opened: str | None) -> None:
        if request.session is not None and status < 400:  # it may be older than this process
            tenant.remember(request.session)
        over = status == 404 or (request.method == "DELETE" and status < 300)
        if over and request.session is not None:
            tenant.sessions.pop(request.session, None)
        opens = request.message is not None and request.message.get("method") == "initialize"
        if opens and opened is not None and status < 300:
            tenant.remember(opened)

    async def _chunks(self, tenant: Tenant, answer: Answer, left: float) -> AsyncGenerator[bytes]:
        try:
            while piece := await answer.read():
                left -= len(piece)
                if left < 0:
                    raise self._interrupted(f"answered with more than {LARGEST_BODY} bytes")
                yield piece
        except UpstreamInterrupted as error:
            if tenant.ended:
                raise GrantEnded(str(error)) from None
            raise

    async def _unpacked(self, chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """The server was asked not to compress; what it compresses nonetheless is unpacked in small pieces."""
        unpacker, left = zlib.decompressobj(zlib.MAX_WBITS | 32), LARGEST_UNPACKED
        try:
            async for packed in chunks:
                for piece in _pieces(unpacker, packed):
                    left -= len(piece)
                    if left < 0:
                        raise self._interrupted(f"compressed an answer of more than {LARGEST_UNPACKED} bytes")
                    yield piece
        except zlib.error as error:
            raise self._interrupted(f"answered with bytes that are not compressed as it says ({error})") from error
        if not unpacker.eof:
            raise self._interrupted("went away in the middle of its compressed answer")

    def _interrupted(self, said: str) -> UpstreamInterrupted:
        return UpstreamInterrupted(f"The MCP server {self._name!r} {said}: the request may or may not have run.")


def _quoted(value: bytes) -> str:
    return value.decode("ascii", "replace")[:100]


def _pieces(unpacker: Any, packed: bytes) -> Iterator[bytes]:
    """What `packed` unpacks to.

    Raises:
        zlib.error: it is not compressed, or goes on behind the end of what is.
    """
    piece = b""
    while packed or len(piece) == _PIECE:  # a full piece: more may wait inside
        if unpacker.eof:
            raise zlib.error("bytes behind the end")
        piece = unpacker.decompress(packed, _PIECE)
        packed = unpacker.unconsumed_tail
        if piece:
            yield piece
