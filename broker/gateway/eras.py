"""Which revisions an upstream speaks: asked once, so that a modern client of a handshake-only server hears it at once.

What belongs here: the question and what its answer says. What does not: translating between eras, which nobody does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from broker.errors import UpstreamError, UpstreamInterrupted
from broker.gateway.inbound import Inbound
from broker.gateway.jsonrpc import CLIENT_INFO_META_KEY, PROTOCOL_VERSION_META_KEY
from broker.gateway.protocol import (
    CLIENT_CAPABILITIES_META_KEY,
    HANDSHAKE_PROTOCOL_VERSIONS,
    LATEST_MODERN_VERSION,
    MODERN_PROTOCOL_VERSIONS,
    UNSUPPORTED_PROTOCOL_VERSION,
)
from broker.gateway.refusals import asked_id
from broker.gateway.replies import read_response
from broker.gateway.upstreams import Upstream, UpstreamRequest
from broker.gateway.wire import WireError

Versions = tuple[str, ...]

MOST, LONGEST = 16, 32
"""Versions that are believed, and their characters."""

LEAVES_WITHIN = 5.0
"""Seconds for the end of the session that the question opened."""

WITHIN = 60.0
"""Seconds in which an upstream says what it speaks; the first start of a command may install it."""

_ID = "approval-broker-probe"
_INFO = {"name": "approval-broker", "version": "1"}
_ACCEPT = (b"accept", b"application/json, text/event-stream")
_UNDECIDED = frozenset({401, 403, 408, 425, 429})
"""Refusals that say nothing of the era."""


class Eras:
    """What one upstream speaks."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._modern = False
        self._handshake: Versions = ()
        self._asking: asyncio.Task[None] | None = None

    async def check(self, inbound: Inbound) -> None:
        """Let a modern request pass unless the upstream is known to speak the handshake only.

        Raises:
            WireError: -32022 with the versions that it speaks (2026-07-28, Versioning); the client falls back.
            UpstreamError: it could not be asked; the request was not sent.
        """
        if self._modern:
            return
        if not self._handshake:
            await self._asked(inbound.grant.id)
        if self._handshake:
            supported = list(self._handshake)
            data = {"supported": supported, "requested": LATEST_MODERN_VERSION}
            told = f"Unsupported protocol version: the MCP server {self._upstream.name!r} speaks {supported[0]}"
            identity = asked_id(inbound) if inbound.message and inbound.message.kind == "request" else None
            raise WireError(UNSUPPORTED_PROTOCOL_VERSION, told, identity, data)

    async def _asked(self, grant_id: str) -> None:
        """Requests that come meanwhile wait for the same answer; one that leaves does not take it from the others."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(grant_id))
        await asyncio.shield(self._asking)

    async def _ask(self, grant_id: str) -> None:
        try:
            async with asyncio.timeout(WITHIN):
                await self._learn(grant_id)
        except TimeoutError:
            raise UpstreamError(f"The MCP server {self._upstream.name!r} said nothing within {WITHIN:.0f} s.") from None
        except UpstreamInterrupted as error:  # what may or may not have run is the question, not the request
            raise UpstreamError(
                f"The MCP server {self._upstream.name!r} ended or went away before it said which versions it speaks."
            ) from error

    async def _learn(self, grant_id: str) -> None:
        status, answer = await self._discover(grant_id)
        spoken = _versions(answer)
        if any(version in MODERN_PROTOCOL_VERSIONS for version in spoken):
            self._modern = True
        elif spoken:
            self._handshake = spoken
        elif status < 500 and status not in _UNDECIDED:
            self._handshake = await self._shake_hands(grant_id)

    async def _discover(self, grant_id: str) -> tuple[int, Mapping[str, Any]]:
        meta = {
            PROTOCOL_VERSION_META_KEY: LATEST_MODERN_VERSION,
            CLIENT_INFO_META_KEY: _INFO,
            CLIENT_CAPABILITIES_META_KEY: {},
        }
        headers = (
            _ACCEPT,
            (b"mcp-protocol-version", LATEST_MODERN_VERSION.encode()),
            (b"mcp-method", b"server/discover"),
        )
        message = _request("server/discover", {"_meta": meta})
        status, answer, _ = await self._exchange(UpstreamRequest("POST", grant_id, True, message, headers))
        return status, answer

    async def _shake_hands(self, grant_id: str) -> Versions:
        """The version that an `initialize` agrees on; nothing when it refuses that too."""
        params = {"protocolVersion": HANDSHAKE_PROTOCOL_VERSIONS[-1], "capabilities": {}, "clientInfo": _INFO}
        message = _request("initialize", params)
        _, answer, session = await self._exchange(UpstreamRequest("POST", grant_id, False, message, (_ACCEPT,)))
        if session is not None:
            await self._leave(grant_id, session)
        version = _object(answer.get("result")).get("protocolVersion")
        return _named([version])

    async def _leave(self, grant_id: str, session: str) -> None:
        with suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(LEAVES_WITHIN):
                ending = await self._upstream.send(UpstreamRequest("DELETE", grant_id, False, session=session))
                await ending.close()

    async def _exchange(self, request: UpstreamRequest) -> tuple[int, Mapping[str, Any], str | None]:
        reply = await self._upstream.send(request)
        try:
            answer = await read_response(reply, _ID) or {}
        except UpstreamInterrupted:  # it is no MCP: nothing was learnt from it, and nothing was run
            answer = {}
        finally:
            await reply.close()
        return reply.status, answer, reply.session


def _request(method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"jsonrpc": "2.0", "id": _ID, "method": method, "params": params}


def _versions(answer: Mapping[str, Any]) -> Versions:
    """The versions that an answer to `server/discover` names, result or -32022; empty when it names none."""
    error = _object(answer.get("error"))
    refused = error.get("code") == UNSUPPORTED_PROTOCOL_VERSION
    named = _object(error.get("data")).get("supported") if refused else None
    found = _object(answer.get("result")).get("supportedVersions", named)
    return _named(cast("list[Any]", found)) if isinstance(found, list) else ()


def _named(found: list[Any]) -> Versions:
    """What can be a version: it is kept, and repeated to every client."""
    return tuple(version for version in found if isinstance(version, str) and len(version) <= LONGEST)[:MOST]


def _object(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}
