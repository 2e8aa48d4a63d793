"""The Upstream port: one MCP server behind the broker, spoken to in the words of Streamable HTTP.

An HTTP upstream passes requests on; a stdio upstream plays the HTTP server for its process. The gateway sees no
difference. What belongs here: the port and its values. What does not: judging, recording, holding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, cast

T = TypeVar("T")

Headers = Sequence[tuple[bytes, bytes]]
"""HTTP fields as ASGI has them: lower-case names."""


class Fields(tuple[tuple[bytes, bytes], ...]):
    """HTTP fields, with what was made of them: once for all requests that have the same."""

    _made: dict[Callable[[Fields], Any], Any] | None = None

    @staticmethod
    def of(headers: Headers) -> Fields:
        """The same fields."""
        return headers if isinstance(headers, Fields) else Fields(headers)

    def made(self, make: Callable[[Fields], T]) -> T:
        """What `make` makes of them."""
        made = self._made
        if made is None:
            made = self._made = {}
        if make not in made:
            made[make] = make(self)
        return cast("T", made[make])


def once(fields: Fields) -> Mapping[bytes, bytes]:
    """The fields that are there once; a repeated one counts as none, since readers would disagree about it."""
    found = dict(fields)
    if len(found) == len(fields):
        return found
    times = Counter(name for name, _ in fields)
    return {name: value for name, value in found.items() if times[name] == 1}


class Permit(Protocol):
    """The right to send a request, which lasts for a moment: what limits count is when a call is sent."""

    def spend(self) -> bool:
        """Use it up: whether the request may be sent now. Then it is sent, with nothing more before its first byte."""
        ...

    async def renew(self) -> None:
        """Ask for another.

        Raises:
            UpstreamUnreachable: the request may not be sent any more.
        """
        ...


class _Always:
    def spend(self) -> bool:
        """It is never used up."""
        return True

    async def renew(self) -> None:
        """It never ends."""


ALWAYS: Permit = _Always()
"""The permit of what no limit counts."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One HTTP request to an upstream's MCP endpoint.

    Args:
        method: POST with a `message`; GET and DELETE without.
        message: the parsed JSON-RPC object that was judged; it is serialised again for the upstream.
        headers: the client's fields as they came; each upstream lets pass only what may go further, never the client's
            credentials, Host, Origin or session id.
        session: the upstream's own session id (legacy), already found to belong to the grant.
        grant_id: whose request it is; a stdio process serves one grant only.
        modern: whether the request is of the stateless era (2026-07-28).
        own: whether the broker asks for itself: only the answer is of use, for nobody hears what comes before it. What
            it cancels for itself may still be answered.
        permit: spent when nothing more stands before the first byte, and renewed until it can be.
    """

    method: Literal["POST", "GET", "DELETE"]
    grant_id: str
    modern: bool
    message: Mapping[str, Any] | None = None
    headers: Headers = ()
    session: str | None = None
    own: bool = False
    permit: Permit = ALWAYS


async def _nothing() -> None:
    return None


@dataclass(slots=True)
class UpstreamReply:
    """The answer, streamed as it comes.

    Args:
        headers: end-to-end fields only; `content-length` is gone, `mcp-session-id` is taken out into `session`.
        chunks: the body, closed by whoever reads it; raises `UpstreamInterrupted` when the upstream goes away in the
            middle, or `close` was called.
        close: gives the connection back, at any time; closing early cancels a modern request (2026-07-28, Transports).
        body: all of it where it is there already; then `chunks` have the same.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    chunks: AsyncGenerator[bytes]
    session: str | None = None
    close: Callable[[], Awaitable[None]] = field(default=_nothing)
    body: bytes | None = None


class Upstream(Protocol):
    """An MCP server behind the broker."""

    @property
    def name(self) -> str:
        """Its name in the configuration and in `/mcp/{name}`."""
        ...

    @property
    def tenants(self) -> frozenset[str]:
        """The ids of grants that have a session, a process or an open answer here."""
        ...

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """Send one request; return when the answer's status is known.

        Raises:
            UpstreamUnreachable: it provably never reached the server (refused, no process, unknown session).
            UpstreamInterrupted: it was sent and no answer came: it may or may not have run.
        """
        ...

    def touch(self, session: str) -> None:
        """Somebody waits in a legacy session: it is in use, though nothing is asked there."""
        ...

    async def release(self, grant_id: str) -> None:
        """End every session, process and open answer of a grant that ended; the chunks of these answers raise
        `UpstreamInterrupted`. A server that does not play along is not waited for longer than some seconds.
        """
        ...

    async def close(self) -> None:
        """End every connection and process of this upstream."""
        ...

    def kill(self) -> None:
        """The same at once, without waiting for anything: the broker was told to stop a second time."""
        ...
