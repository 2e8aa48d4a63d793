"""An upstream that speaks Streamable HTTP itself: requests are passed on, answers streamed back untouched.

What belongs here: which fields of HTTP go further in either direction, and what a failed request proves. What does not:
MCP. A gateway is bound by RFC 9110 section 7.6.
"""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping

import aiohttp

from broker.errors import UpstreamInterrupted, UpstreamUnreachable
from broker.gateway.upstreams import Headers, UpstreamReply, UpstreamRequest
from broker.gateway.wire import dumps

CONNECT_TIMEOUT = 10.0

_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
    b"upgrade".split()
)
# What a client says to the broker alone, and what the broker says anew: the body is serialised again.
_NOT_UP = _HOP_BY_HOP | frozenset(
    b"host authorization cookie origin referer forwarded x-real-ip expect accept-encoding content-length "
    b"content-encoding content-type mcp-session-id".split()
)
# What an upstream says of its own origin, and what is told in another way.
_NOT_DOWN = _HOP_BY_HOP | frozenset(
    b"set-cookie set-cookie2 alt-svc clear-site-data strict-transport-security content-length mcp-session-id".split()
)
_SAID_BY_PROXIES = tuple(b"x-forwarded- x-remote- x-original- x-rewrite- x-http-method x-auth- x-real- remote-".split())
_DECODED = frozenset({"gzip", "deflate", "br", "zstd"})  # by aiohttp, should a server send them though not asked to
_MOVED = frozenset({301, 302, 307, 308})  # what was asked for is elsewhere, so it was not done here; not so 303
_LARGE = 1 << 20  # aiohttp writes more than that in pieces, when it is given as a file

# All of these are raised while connecting, before a byte of the request is written.
_NOT_SENT = (
    aiohttp.ClientConnectorError,  # refused, no such host, TLS
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
)
_BROKEN = (aiohttp.ClientError, OSError, TimeoutError)

_log = logging.getLogger(__name__)


class HttpUpstream:
    """An MCP server at a URL.

    Connections are pooled without a limit: each held or streaming answer has one. Redirects, cookies and the
    environment's proxies are not followed.

    Args:
        headers: the upstream's own, such as its credentials; they replace the client's of the same name.
    """

    def __init__(self, name: str, url: str, headers: Mapping[str, str] | None = None) -> None:
        self._name = name
        self._url = url
        self._own = {"accept-encoding": "identity"} | {key.lower(): value for key, value in (headers or {}).items()}
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @property
    def name(self) -> str:
        """Its name in the configuration and in `/mcp/{name}`."""
        return self._name

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """Send one request; return when the answer's status is known.

        aiohttp repeats a request on a connection that the server closed meanwhile, but never a POST; a GET or DELETE of
        MCP can be repeated safely.

        Raises:
            UpstreamUnreachable: no connection, or the server says that its endpoint is elsewhere.
            UpstreamInterrupted: bytes may have been sent and no answer came.
        """
        if self._closed:
            raise UpstreamUnreachable(self._sentence("is being closed with the broker."))
        body = None if request.message is None else dumps(request.message)
        try:
            response = await self._pool().request(
                request.method,
                self._url,
                data=io.BytesIO(body) if body is not None and len(body) > _LARGE else body,
                headers=self._upward(request),
                skip_auto_headers=("accept", "user-agent"),
                allow_redirects=False,
            )
        except _NOT_SENT as error:
            raise UpstreamUnreachable(self._sentence(f"could not be reached ({_why(error)}).")) from error
        except ValueError as error:  # a field that HTTP does not allow: found before anything is sent
            raise UpstreamUnreachable(self._sentence(f"was not asked: {error}.")) from error
        except _BROKEN as error:
            raise UpstreamInterrupted(
                self._sentence(f"went away before it answered ({_why(error)}): the call may or may not have run.")
            ) from error
        if 300 <= response.status < 400:
            self._refuse_redirect(response)
        if response.status == 401:  # about the broker's credentials: told to the client, it would try to sign in
            response.close()
            raise UpstreamUnreachable(self._sentence("refuses the broker's credentials (401). Set its `headers`."))
        if request.message is not None and "id" in request.message and "method" in request.message:
            self._refuse_nonsense(response)
        return self._reply(response)

    async def close(self) -> None:
        """Close every connection; answers that still stream end as interrupted."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:  # made late, because it belongs to the running loop
            self._session = aiohttp.ClientSession(
                # Servers commonly drop an idle connection after 5 s; a POST that meets this moment cannot be repeated.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0),
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT, sock_connect=CONNECT_TIMEOUT),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session

    def _upward(self, request: UpstreamRequest) -> list[tuple[str, str]]:
        fields = [
            (name.decode(), value.decode())
            for name, value in _end_to_end(request.headers, _NOT_UP)
            if value.isascii() and name.decode() not in self._own and not _misleads(name, modern=request.modern)
        ]
        if request.message is not None:
            fields.append(("content-type", "application/json"))
        if request.session is not None:
            fields.append(("mcp-session-id", request.session))
        return [*fields, *self._own.items()]

    def _refuse_redirect(self, response: aiohttp.ClientResponse) -> None:
        _log.warning("MCP server %s redirects to %r", self._name, response.headers.get("location"))
        response.close()
        told = f"answered with a redirect ({response.status}), which is not followed"
        if response.status in _MOVED:
            raise UpstreamUnreachable(self._sentence(f"{told}. Set its `url` to where it is."))
        raise UpstreamInterrupted(self._sentence(f"{told}: the call may or may not have run."))

    def _refuse_nonsense(self, response: aiohttp.ClientResponse) -> None:
        """A request is answered with JSON or a stream of events (2025-03-26, Streamable HTTP); 404 may have no body."""
        kind = response.content_type
        if response.status == 404 or kind in ("text/event-stream", "application/json") or kind.endswith("+json"):
            return
        response.close()
        raise UpstreamInterrupted(
            self._sentence(f"answered with HTTP {response.status} and {kind or 'nothing'}, which is no MCP.")
        )

    def _reply(self, response: aiohttp.ClientResponse) -> UpstreamReply:
        async def close() -> None:
            response.close()

        return UpstreamReply(
            status=response.status,
            headers=_downward(response),
            chunks=self._chunks(response),
            session=response.headers.get("mcp-session-id"),
            close=close,
        )

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        try:
            async for chunk in response.content.iter_any():
                yield chunk
        except _BROKEN as error:
            raise UpstreamInterrupted(
                self._sentence(
                    f"went away in the middle of its answer ({_why(error)}): the call may or may not have run."
                )
            ) from error

    def _sentence(self, said: str) -> str:
        return f"The MCP server {self._name!r} {said}"


def _downward(response: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    raw = [(name.lower(), value) for name, value in response.raw_headers]
    decoded = response.headers.get("content-encoding", "").lower() in _DECODED
    return [
        (name, value)
        for name, value in _end_to_end(raw, _NOT_DOWN)
        if not name.startswith(b"access-control-") and not (decoded and name == b"content-encoding")
    ]


def _end_to_end(fields: Headers, ours: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """`fields` without `ours` and what the sender's `Connection` names (RFC 9110 section 7.6.1)."""
    named = {token.strip().lower() for name, value in fields if name == b"connection" for token in value.split(b",")}
    dropped = named.union(ours)
    return [(name, value) for name, value in fields if name not in dropped]


def _misleads(name: bytes, *, modern: bool) -> bool:
    """Whether a field could make a server believe something that nobody has checked."""
    # Gateways of CGI and WSGI read `_` as `-`: such a name could pass for a field that is set or checked here.
    return b"_" in name or name.startswith(_SAID_BY_PROXIES) or (not modern and name.startswith(b"mcp-param-"))


def _why(error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or type(error).__name__
