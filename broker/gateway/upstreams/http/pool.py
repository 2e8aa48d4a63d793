"""Connections to one server, kept apart by tenant, and what else a tenant has there.

What belongs here: opening, keeping and closing them. What does not: what is said on them (`connection`, `upstream`).

A connection serves one grant only, as a stdio process does: whatever a server leaves on it by mistake or malice can
only ever reach the grant that asked.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

import aiohappyeyeballs

from broker.errors import UpstreamUnreachable
from broker.gateway.reasons import why
from broker.gateway.upstreams import ALWAYS, Permit
from broker.gateway.upstreams.http.connection import Connection

CONNECT_WITHIN = 10.0
"""Seconds for a name, a connection and TLS together."""

KEPT_FOR = 4.0
"""Seconds. Servers commonly drop an idle connection after 5; a call that meets this moment is lost."""

SESSIONS_KEPT = 256
"""Legacy sessions remembered for each tenant, to be ended with it; the oldest are forgotten."""

DEAD_AFTER = 90
"""Seconds after which a server whose machine vanished is noticed, however long an answer may be silent."""

_KEEP_ALIVE = {"TCP_KEEPIDLE": DEAD_AFTER // 2, "TCP_KEEPINTVL": DEAD_AFTER // 6, "TCP_KEEPCNT": 3}
_AS_IT_IS = "/?%:@!$&'()*+,;=~"
_ATTEMPT_AFTER = 0.25  # RFC 8305 section 8: when the next address is tried as well


@dataclass(frozen=True, slots=True)
class Address:
    """Where an MCP endpoint is.

    Args:
        authority: for the Host field.
        target: path and query, as they stand in a request line.
    """

    host: str
    port: int
    tls: bool
    authority: str
    target: str

    @classmethod
    def of(cls, url: str) -> Address:
        """Read an http or https URL (RFC 9110 section 4.2).

        Raises:
            ValueError: it is none.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no http or https URL")
        host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
        named = f"[{host}]" if ":" in host else host
        target = quote(parts.path or "/", safe=_AS_IT_IS)
        if parts.query:
            target += "?" + quote(parts.query, safe=_AS_IT_IS)
        tls = parts.scheme == "https"
        authority = named if parts.port is None else f"{named}:{parts.port}"
        return cls(host, parts.port or (443 if tls else 80), tls, authority, target)


@dataclass(eq=False, slots=True)
class Tenant:
    """What one grant has at a server.

    Args:
        id: the grant's.
        connecting: requests that have no connection yet.
        ended: whether the grant is over; nothing more is sent for it.
    """

    id: str
    idle: list[Connection] = field(default_factory=list[Connection])
    busy: set[Connection] = field(default_factory=set[Connection])
    sessions: dict[str, None] = field(default_factory=dict[str, None])
    connecting: int = 0
    ended: bool = False

    def remember(self, session: str) -> None:
        """It opened a session."""
        self.sessions[session] = None
        if len(self.sessions) > SESSIONS_KEPT:
            del self.sessions[next(iter(self.sessions))]

    @property
    def present(self) -> bool:
        """Whether it has a session or an open answer."""
        return bool(self.busy or self.sessions or self.connecting)


class Pool:
    """Connections to `address`, without a limit: each held or streaming answer has one.

    TLS is verified against the system's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR.

    Args:
        name: the server's, for sentences.
    """

    def __init__(self, name: str, address: Address) -> None:
        self.tenants: dict[str, Tenant] = {}
        self._name = name
        self._address = address
        self._tls = _verified() if address.tls else None
        self._open: set[Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    async def take(self, tenant: Tenant, *, fresh: bool, permit: Permit = ALWAYS) -> Connection:
        """A connection for one request of the tenant's, which may be written at once.

        Args:
            fresh: whether it has to be a new one.
            permit: the request's, for a connection may take its time.

        Raises:
            UpstreamUnreachable: there is none to be had.
        """
        while tenant.idle and not fresh:
            connection = tenant.idle.pop()
            if connection.usable:
                break
            connection.end("left")
        else:
            connection = await self._connect(tenant)
        tenant.busy.add(connection)
        if not permit.spend():
            await self._renew(permit, connection)
        return connection

    async def _renew(self, permit: Permit, connection: Connection) -> None:
        try:
            while not permit.spend():
                await permit.renew()
        except BaseException:
            connection.end("left")
            raise
        if connection.closed:
            raise self._unreachable("the connection was lost before the request was sent")

    def enter(self, grant_id: str) -> Tenant:
        """The tenant of a grant for which something begins: it stays known until `leave`."""
        tenant = self.tenants.get(grant_id)
        if tenant is None:
            tenant = self.tenants[grant_id] = Tenant(grant_id)
        tenant.connecting += 1
        return tenant

    def leave(self, tenant: Tenant) -> None:
        """What began has a connection, or ended without one."""
        tenant.connecting -= 1
        self._forget_if_empty(tenant)

    def end(self, tenant: Tenant, why: str) -> None:
        """Close every connection of a tenant that is over."""
        tenant.ended = True
        if self.tenants.get(tenant.id) is tenant:
            del self.tenants[tenant.id]
        for connection in [*tenant.idle, *tenant.busy]:
            connection.end(why)

    def close(self, why: str) -> None:
        """Close every connection, and open none any more."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self._open):
            connection.end(why)

    def refuse(self, tenant: Tenant) -> None:
        """Refuse to send anything more for a tenant that is over, or for a server that is left.

        Raises:
            UpstreamUnreachable: so it is.
        """
        if self._closed:
            raise UpstreamUnreachable(f"The MCP server {self._name!r} is being closed with the broker.")
        if tenant.ended:
            raise UpstreamUnreachable(f"The MCP server {self._name!r} was not asked: the grant ended.")

    # -- opening ------------------------------------------------------------------------------------------------------

    async def _connect(self, tenant: Tenant) -> Connection:
        self.refuse(tenant)
        connection = Connection(self._name, partial(self._rest, tenant), partial(self._gone, tenant))
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                await self._dial(connection)
        except TimeoutError as error:
            raise self._unreachable(f"no connection within {CONNECT_WITHIN:g} s") from error
        except OSError as error:
            raise self._unreachable(why(error)) from error
        self._open.add(connection)
        try:
            self.refuse(tenant)
        except UpstreamUnreachable:
            connection.end("left")
            raise
        return connection

    async def _dial(self, connection: Connection) -> None:
        loop, at = asyncio.get_running_loop(), self._address
        found = await loop.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM)
        opened = await aiohappyeyeballs.start_connection(  # pyright: ignore[reportUnknownMemberType] - of its addresses
            found, happy_eyeballs_delay=_ATTEMPT_AFTER, socket_factory=_socket
        )
        name = at.host if self._tls is not None else None
        await loop.create_connection(lambda: connection, sock=opened, ssl=self._tls, server_hostname=name)

    def _unreachable(self, reason: str) -> UpstreamUnreachable:
        return UpstreamUnreachable(f"The MCP server {self._name!r} could not be reached ({reason}).")

    # -- keeping ------------------------------------------------------------------------------------------------------

    def _rest(self, tenant: Tenant, connection: Connection) -> None:
        tenant.busy.discard(connection)
        tenant.idle.append(connection)
        loop = asyncio.get_running_loop()
        connection.rested_at = loop.time()
        if self._sweeping is None:
            self._sweeping = loop.call_later(KEPT_FOR, self._sweep)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        overdue, resting = loop.time() - KEPT_FOR, False
        for tenant in list(self.tenants.values()):
            for connection in tenant.idle:
                if connection.rested_at <= overdue:
                    connection.end("left")
                else:
                    resting = True
        self._sweeping = loop.call_later(1.0, self._sweep) if resting else None

    def _gone(self, tenant: Tenant, connection: Connection) -> None:
        self._open.discard(connection)
        tenant.busy.discard(connection)
        if connection in tenant.idle:
            tenant.idle.remove(connection)
        self._forget_if_empty(tenant)

    def _forget_if_empty(self, tenant: Tenant) -> None:
        if not (tenant.present or tenant.idle) and self.tenants.get(tenant.id) is tenant:
            del self.tenants[tenant.id]


def _verified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _socket(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {**_KEEP_ALIVE, "TCP_USER_TIMEOUT": DEAD_AFTER * 1000, "TCP_NODELAY": 1}
    for name, value in options.items():
        if hasattr(socket, name):  # not every system has all of them
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made
