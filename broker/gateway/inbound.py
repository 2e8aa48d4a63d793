"""One request of a client as the gate takes it, and the session ids that clients hold.

A legacy session belongs to the grant that opened it. What the client is given is the upstream's session id with the
client's name and a signature over them, grant and upstream, so whose it is needs no memory: another grant's, or an
invented one, is unknown.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from broker.domain.canonical import Keyring
from broker.domain.people import Grant
from broker.gateway.upstreams import ALWAYS, Headers, Permit, UpstreamRequest
from broker.gateway.wire import Message, RequestId

_NEUTRAL = frozenset(
    b"accept accept-language user-agent traceparent tracestate baggage mcp-protocol-version mcp-method mcp-name".split()
)

_PURPOSE = "mcp-session"


@dataclass(frozen=True, slots=True)
class Inbound:
    """A request that came in at `/mcp/{upstream}`, with its grant found and its envelope checked.

    Args:
        headers: without its credentials.
        came: when it was read, by the loop's clock.
        message: None for GET and DELETE.
        session: the upstream's session id, already found to belong to the grant.
        client: the name that the client gives itself, where that is known.
        check_grant: raises when the grant has ended since.
    """

    method: Literal["POST", "GET", "DELETE"]
    grant: Grant
    headers: Headers
    modern: bool
    check_grant: Callable[[], Awaitable[object]]
    came: float
    message: Message | None = None
    session: str | None = None
    client: str | None = None

    @property
    def session_key(self) -> str | None:
        """A stable key of the legacy session of this grant that can be stored: it does not let anybody in.

        A server may give the same session to several agents.
        """
        return hashlib.sha256(f"{self.grant.id}\n{self.session}".encode()).hexdigest()[:32] if self.session else None

    @property
    def progress_token(self) -> RequestId | None:
        """What it wants to hear of progress by; None when it does not."""
        return self.message.progress_token if self.message is not None else None

    @property
    def lasting_headers(self) -> Headers:
        """The fields that say nothing beside what was asked: those that go with a call when it was approved."""
        return [(name, value) for name, value in self.headers if name in _NEUTRAL or name.startswith(b"mcp-param-")]

    def outlined(self) -> Inbound:
        """The same without the arguments of its call: for who only waits, since what is sent then is what is stored."""
        return replace(self, message=self.message.outlined()) if self.message is not None else self

    def upward(self, permit: Permit = ALWAYS) -> UpstreamRequest:
        """The same for the upstream."""
        return UpstreamRequest(
            method=self.method,
            grant_id=self.grant.id,
            modern=self.modern,
            message=self.message.body if self.message is not None else None,
            headers=self.headers,
            session=self.session,
            permit=permit,
        )

    def approved(self, body: dict[str, Any], permit: Permit) -> UpstreamRequest:
        """What a person approved, as `body`; of the fields around it only those that say nothing beside it."""
        return replace(self.upward(permit), message=body, headers=self.lasting_headers)

    def asking(self, method: str, request_id: RequestId, params: dict[str, Any]) -> UpstreamRequest:
        """A request of the broker's own in the same session, such as `tools/list`."""
        body = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        headers = [(name, value) for name, value in self.headers if name != b"mcp-name" and b"mcp-param-" not in name]
        headers = [(name, method.encode() if name == b"mcp-method" else value) for name, value in headers]
        return replace(self.upward(), method="POST", message=body, headers=headers, own=True)


def seal_session(keyring: Keyring, grant_id: str, upstream: str, session: str, client: str | None = None) -> str:
    """The session id that a client is given for an upstream's `session`; it keeps the name of the client, if known."""
    told = session if client is None else f"{session}.{urlsafe_b64encode(client.encode()).decode()}"
    return f"{told}.{keyring.sign(_PURPOSE, _bound(grant_id, upstream, session, client))}"


def open_session(keyring: Keyring, grant_id: str, upstream: str, sealed: str) -> tuple[str, str | None] | None:
    """The upstream's session id and the client's name; None when `sealed` was not given to this grant for it."""
    told, _, signature = sealed.rpartition(".")
    for session, client in _readings(told):
        if keyring.verify(_PURPOSE, _bound(grant_id, upstream, session, client), signature):
            return session, client
    return None


def _readings(told: str) -> Iterator[tuple[str, str | None]]:
    """What a client was told may be: which one it is, the signature says."""
    session, _, name = told.rpartition(".")
    with suppress(ValueError):
        yield session, urlsafe_b64decode(name).decode()
    yield told, None


def _bound(grant_id: str, upstream: str, session: str, client: str | None) -> bytes:
    named = () if client is None else (client,)
    return "\n".join((grant_id, upstream, session, *named)).encode()
