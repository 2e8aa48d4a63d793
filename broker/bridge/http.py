"""HTTP with the broker, and what a request that failed proves.

What belongs here: connections, the grant, waiting for a broker that is away. What does not: MCP.
"""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from types import SimpleNamespace
from typing import Any, Literal

import aiohttp

from broker.errors import BrokerError, UpstreamInterrupted, UpstreamUnreachable
from broker.gateway.reasons import why

CONNECT_TIMEOUT = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between attempts to reach a broker that is away; each is twice the one before."""

LARGEST_ANSWER = 64 * 1024 * 1024
KEEP_ALIVE_AFTER = 30
"""Seconds of silence after which a connection is probed: laptops sleep and networks change under an open stream."""

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

Say = Callable[[str], None]


class Refused(BrokerError):
    """The broker did not take the request: nothing ran."""

    code = "request_refused"


class ShutOut(UpstreamInterrupted):
    """The grant ended while the request was under way: it may or may not have run."""

    code = "grant_ended"


class BrokerHttp:
    """One upstream's endpoint at the broker.

    Connections are pooled without a limit: each open answer has one. Redirects, cookies and the environment's proxies
    are not followed: the grant goes to the broker and to nobody else.

    Args:
        url: of the endpoint.
        token: the grant.
        patience: seconds that a request waits for a broker that cannot be reached.
        say: tells a person what is going on.
    """

    def __init__(self, url: str, token: str, patience: float, say: Say) -> None:
        self.url = url
        self._patience = patience
        self._say = say
        self._told = set[str]()  # of a broker that is away
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_sent)
        self._session = aiohttp.ClientSession(
            # Servers commonly drop an idle connection after 5 s; a POST that meets this moment cannot be repeated.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0, socket_factory=_socket),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT, sock_connect=CONNECT_TIMEOUT),
            headers={
                "authorization": f"Bearer {token}",
                "accept-encoding": "identity",
                "user-agent": "approval-broker-connect",
            },
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            trace_configs=[trace],
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def send(
        self,
        method: Literal["POST", "GET", "DELETE"],
        fields: Mapping[str, str],
        body: bytes | None = None,
        *,
        sending: Callable[[], None] | None = None,
        patience: float | None = None,
    ) -> aiohttp.ClientResponse:
        """Send one request; return when the answer's status is known. While the broker cannot be reached, try again.

        Args:
            sending: called when the first byte is written.
            patience: instead of the usual one; may be infinite.

        Raises:
            UpstreamUnreachable: nothing was sent.
            UpstreamInterrupted: bytes were sent and no answer came.
        """
        pause, loop = FIRST_PAUSE, asyncio.get_running_loop()
        until = loop.time() + (self._patience if patience is None else patience)
        while True:
            try:
                response = await self._once(method, fields, body, sending)
            except UpstreamUnreachable as error:
                if isinstance(error.__cause__, aiohttp.ClientSSLError | ValueError) or loop.time() + pause > until:
                    if patience is None:  # nobody waits for the others
                        self._tell_once("A request was given up.", error)
                    raise
                self._tell_once("Trying again.", error)
            else:
                self._tell_back()
                return response
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _once(
        self, method: str, fields: Mapping[str, str], body: bytes | None, sending: Callable[[], None] | None
    ) -> aiohttp.ClientResponse:
        try:
            return await self._session.request(
                method,
                self.url,
                data=io.BytesIO(body) if body is not None and len(body) > _LARGE else body,
                headers=fields,
                allow_redirects=False,
                trace_request_ctx=sending,
            )
        except _NOT_SENT as error:
            raise UpstreamUnreachable(
                f"The broker at {self.url} cannot be reached ({_why(error)}).{_advice(error)}"
            ) from error
        except ValueError as error:  # a field that HTTP does not allow: found before anything is sent
            raise UpstreamUnreachable(f"The request cannot be sent: {error}.") from error
        except _BROKEN as error:
            raise UpstreamInterrupted(f"The connection to the broker at {self.url} broke ({_why(error)}).") from error

    def _tell_once(self, what: str, error: UpstreamUnreachable) -> None:
        if what not in self._told:
            self._told.add(what)
            self._say(f"{error} {what}")

    def _tell_back(self) -> None:
        if self._told:
            self._told.clear()
            self._say("The broker answers again.")


def is_stream(response: aiohttp.ClientResponse) -> bool:
    """Whether an answer is a stream of events."""
    return response.status == 200 and response.content_type == "text/event-stream"


async def chunks(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    """The body as it comes. A connection that breaks ends it: who needs more than came finds that it is missing."""
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except _BROKEN:
        return


async def whole(response: aiohttp.ClientResponse) -> bytes:
    """The body.

    Raises:
        UpstreamInterrupted: it broke off, or has more than 64 MiB.
    """
    pieces: list[bytes] = []
    left = LARGEST_ANSWER
    try:
        async for chunk in response.content.iter_any():
            pieces.append(chunk)
            left -= len(chunk)
            if left < 0:
                raise UpstreamInterrupted(f"The answer has more than {LARGEST_ANSWER} bytes: it was not read.")
    except _BROKEN as error:
        raise UpstreamInterrupted(f"The connection to the broker broke in an answer ({_why(error)}).") from error
    return b"".join(pieces)


async def _sent(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx()


def _socket(address: Any) -> socket.socket:
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE_AFTER)
    return made


def _why(error: Exception) -> str:
    match error:
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return "the connection was closed"
        case aiohttp.ClientResponseError():
            return "what it says is no HTTP"
        case aiohttp.ConnectionTimeoutError():
            return f"no connection within {CONNECT_TIMEOUT:.0f} s"
        case aiohttp.ClientConnectorError(errno=None, __cause__=OSError(errno=None)):
            return "none of its addresses takes a connection"
        case _:
            return why(error.__cause__ or error)


def _advice(error: Exception) -> str:
    no_tls = isinstance(error.__cause__, ssl.SSLError) and not isinstance(error.__cause__, ssl.SSLCertVerificationError)
    return " If that broker speaks no TLS, BROKER_URL has to begin with http://." if no_tls else ""
