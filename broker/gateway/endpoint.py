"""The ASGI application at `/mcp/{upstream}`: who asks, and whether it is one whole MCP message.

What belongs here: HTTP. What does not: what happens to the message (`gate`). Plain ASGI, since every call passes here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from starlette.types import Receive, Scope, Send

from broker.domain.canonical import Keyring
from broker.domain.origins import Origins
from broker.domain.people import Grant
from broker.errors import BrokerError, SessionUnknown, StoreError, UpstreamInterrupted
from broker.gateway.gate import Gate, is_endless
from broker.gateway.grants import Grants
from broker.gateway.inbound import Inbound, open_session, seal_session
from broker.gateway.jsonrpc import INTERNAL_ERROR, INVALID_REQUEST
from broker.gateway.replies import is_stream, json_reply
from broker.gateway.upstreams import Fields, Headers, UpstreamReply, once
from broker.gateway.wire import WireError, check_envelope, error_message, is_modern, parse_message

log = logging.getLogger(__name__)

PATH = "/mcp/"
LARGEST_BODY = 4 * 1024 * 1024

AT_ONCE = 0.05
"""Seconds for which a grant that was looked at is not looked at again for the same request."""

_SESSION = b"mcp-session-id"
_OWN = frozenset((b"authorization", b"content-length"))  # fields that are for nobody behind the endpoint
_LEFT, _ANSWER, _KNOWN = "broker.left", "broker.answer", "broker.known"  # what `broker.front` offers to who answers
_HEAD = "broker.gateway.head"


class HttpRefusal(BrokerError):
    """The request is refused before its message is looked at."""

    code = "request_refused"

    def __init__(self, status: int, sentence: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers


@dataclass(slots=True)
class _Head:
    """What the head of a request says, whatever its message is.

    Args:
        token: its grant's; empty when it shows none.
        sealed: the session that it names.
        fields: without its credentials.
        opened: the grant for which the session was opened, once it was found to belong to it, and what it says.
    """

    gate: Gate
    token: str
    sealed: str | None
    fields: Fields
    opened: tuple[str, tuple[str, str | None]] | None = None


class Endpoint:
    """Serves `/mcp/{upstream}` for every upstream that has a gate."""

    def __init__(self, gates: Mapping[str, Gate], grants: Grants, keyring: Keyring, origins: Origins) -> None:
        self._gates = gates
        self._grants = grants
        self._keyring = keyring
        self._origins = origins
        self._serving: dict[asyncio.Task[Any], bool] = {}  # and whether its answer is endless
        self._left = set[asyncio.Task[Any]]()  # whose client is gone
        self._releasing: set[asyncio.Future[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request. When the client goes away, what is done for it is cancelled."""
        try:
            gate, inbound = await self._read(scope, receive)
        except _Disconnected:
            return
        except Exception as error:  # noqa: BLE001 - it is told and logged
            await _send(_refusal(error), scope, send)
            return
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._serving[task] = is_endless(inbound)
        scope["extensions"][_LEFT](partial(self._leave, task))
        try:
            reply = await self._reply(gate, inbound)
            del inbound  # an answer may take hours
            await _send(reply, scope, send)
        except asyncio.CancelledError:
            if task not in self._left:
                raise
            task.uncancel()
        finally:
            del self._serving[task]
            self._left.discard(task)

    def _leave(self, task: asyncio.Task[Any]) -> None:
        """The client is gone."""
        if task in self._serving:
            self._left.add(task)
            task.cancel()

    async def close(self, within: float) -> None:
        """Refuse what comes new, tell who waits for people to come back, let what runs end, and then end the upstreams.

        Args:
            within: seconds until the upstreams are ended, whatever still runs.
        """
        gates = self._gates.values()
        for gate in gates:
            gate.stop()
        running = [task for task, endless in self._serving.items() if not endless]
        finishing = [asyncio.ensure_future(gate.finish()) for gate in gates]
        if ends := [*running, *finishing]:
            _, late = await asyncio.wait(ends, timeout=within)
            if late:
                log.warning("The broker stops and interrupts what still runs: %d in all.", len(late))
        await asyncio.gather(*self._releasing, *(gate.close() for gate in gates))
        for task in finishing:
            task.cancel()

    def kill(self) -> None:
        """End the upstreams at once."""
        for gate in self._gates.values():
            gate.upstream.kill()

    async def release_ended(self) -> None:
        """End what grants that were revoked or expired still have open at the upstreams.

        Raises:
            StoreError: grants cannot be looked up.
        """
        upstreams = [gate.upstream for gate in self._gates.values()]
        present = frozenset[str]().union(*(upstream.tenants for upstream in upstreams))
        ended = await self._grants.ended(present) if present else frozenset[str]()
        for one in upstreams:
            for grant in ended & one.tenants:  # none waits for another: a server may take its time
                releasing = asyncio.ensure_future(one.release(grant))
                self._releasing.add(releasing)
                releasing.add_done_callback(self._releasing.discard)

    async def _reply(self, gate: Gate, inbound: Inbound) -> UpstreamReply:
        try:
            reply = await gate.handle(inbound)
        except Exception as error:  # noqa: BLE001 - it is told and logged
            reply = _refusal(error)
        if reply.session is not None:
            mine = inbound.grant.id, gate.upstream.name
            sealed = seal_session(self._keyring, *mine, reply.session, inbound.client)
            reply.headers.append((_SESSION, sealed.encode()))
        return reply

    # -- one request --------------------------------------------------------------------------------------------------

    async def _read(self, scope: Scope, receive: Receive) -> tuple[Gate, Inbound]:
        known: dict[str, Any] = scope["extensions"][_KNOWN]
        head = known.get(_HEAD)
        if head is None:
            head = known[_HEAD] = self._head(scope)
        gate = head.gate
        looked = asyncio.get_running_loop().time()
        grant = await self._grant(head)
        method: str = scope["method"]
        if method not in ("POST", "GET", "DELETE"):
            raise HttpRefusal(405, "Only POST, GET and DELETE.", (b"allow", b"POST, GET, DELETE"))
        message = parse_message(await _body(scope["headers"], receive)) if method == "POST" else None
        if message is not None:
            check_envelope(message, head.fields)
        modern = is_modern(head.fields, message)
        opened = None if modern else self._session(head, grant)
        session, client = opened or (None, message.client if message is not None else None)
        inbound = Inbound(
            method=method,
            grant=grant,
            headers=head.fields,
            modern=modern,
            check_grant=partial(self._check_grant, looked, head),
            came=asyncio.get_running_loop().time(),
            message=message,
            session=session,
            client=client,
        )
        return gate, inbound

    def _head(self, scope: Scope) -> _Head:
        fields = Fields(scope["headers"])
        said = fields.made(once)
        if not self._origins.allows_host(_field(said, b"host")):
            raise HttpRefusal(403, "The Host field is not the broker's own: use its server.public_url.")
        if not self._origins.allows_origin(_field(said, b"origin")):
            raise HttpRefusal(403, "Pages of other origins may not speak to the broker.")
        gate = self._gates.get(scope["path"].removeprefix(PATH))
        if gate is None:
            raise HttpRefusal(404, "There is no such upstream here: the address is /mcp/ and its name.")
        scheme, _, token = (_field(said, b"authorization") or "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        rest = Fields(field for field in fields if field[0] not in _OWN)
        return _Head(gate, bearer, _field(said, _SESSION), rest)

    async def _grant(self, head: _Head) -> Grant:
        grant = await self._grants.by_token(head.token) if head.token else None
        if grant is None:
            sentence = (
                "The grant in `Authorization: Bearer <grant>` is unknown, expired or revoked: ask your administrator "
                "for a new one (`broker grant create`)."
                if head.token
                else "Send `Authorization: Bearer <grant>`: `broker grant create` makes a grant."
            )
            raise HttpRefusal(401, sentence, (b"www-authenticate", b"Bearer"))
        upstream = head.gate.upstream.name
        if upstream not in grant.upstreams:
            raise HttpRefusal(403, f"This grant is not for {upstream}.")
        return grant

    async def _check_grant(self, looked: float, head: _Head) -> None:
        if asyncio.get_running_loop().time() - looked > AT_ONCE:
            await self._grant(head)

    def _session(self, head: _Head, grant: Grant) -> tuple[str, str | None] | None:
        if head.sealed is None:
            return None
        if head.opened is None or head.opened[0] != grant.id:
            opened = open_session(self._keyring, grant.id, head.gate.upstream.name, head.sealed)
            if opened is None:
                raise SessionUnknown
            head.opened = grant.id, opened
        return head.opened[1]


class _Disconnected(Exception):
    """The client went away before its request was whole."""


async def _body(headers: Headers, receive: Receive) -> bytes:
    too_large = HttpRefusal(413, f"The body is larger than {LARGEST_BODY} bytes: nothing ran.")
    length = dict(headers).get(b"content-length", b"")
    if length.isdigit() and int(length) > LARGEST_BODY:
        raise too_large
    pieces: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise _Disconnected
        pieces.append(event.get("body", b""))
        size += len(pieces[-1])
        if size > LARGEST_BODY:
            raise too_large
        if not event.get("more_body", False):
            return b"".join(pieces)


async def _send(reply: UpstreamReply, scope: Scope, send: Send) -> None:
    if reply.body is not None:
        await reply.close()
        scope["extensions"][_ANSWER](reply.status, reply.headers, reply.body)
        return
    try:
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        async with aclosing(reply.chunks) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except UpstreamInterrupted as error:
        log.warning("%s", error)
        if not is_stream(reply):
            return  # the server closes a connection whose answer is not whole: nobody may take it for that
    finally:
        await reply.close()
    await send({"type": "http.response.body", "body": b""})


def _refusal(error: Exception) -> UpstreamReply:
    """What is answered when there is no answer of the gate."""
    match error:
        case HttpRefusal():
            reply = json_reply(error_message(None, INVALID_REQUEST, str(error)), error.status)
            reply.headers.extend(error.headers)
            return reply
        case WireError():
            return json_reply(error.body, error.status)
        case SessionUnknown():
            return json_reply(error_message(None, INVALID_REQUEST, str(error)), 404)
        case StoreError():
            log.error("%s", error)
            return json_reply(
                error_message(None, INTERNAL_ERROR, "The broker cannot read its store: nothing ran."), 503
            )
        case _:
            log.error("A request failed.", exc_info=error)
            told = "The broker failed on this request: it may or may not have run. Its log says why."
            return json_reply(error_message(None, INTERNAL_ERROR, told), 500)


def _field(fields: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = fields.get(name)
    return value.decode("latin-1") if value is not None else None
