"""The tools of an upstream as it describes them to one caller.

What belongs here: asking `tools/list`, finding one definition. What does not: what the client's own lists say
(they pass through), judging.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any, cast

from broker.domain.canonical import canonical_json
from broker.errors import SessionUnknown, UpstreamError, UpstreamInterrupted
from broker.gateway.inbound import Inbound
from broker.gateway.replies import read_response
from broker.gateway.upstreams import Upstream
from broker.gateway.wire import RequestId

TIMEOUT = 30.0
MOST_PAGES = 100

Definition = Mapping[str, Any]

_numbers = itertools.count(1)


class Catalog:
    """Asks one upstream for its tools, in the session or with the envelope of the caller."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def definition(self, inbound: Inbound, tool: str) -> Definition | None:
        """How the upstream describes `tool` now; None when it does not list it.

        Raises:
            SessionUnknown: the caller's session is over.
            UpstreamError: the upstream does not tell.
        """
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._find(inbound, tool)
        except TimeoutError:
            raise UpstreamError(
                f"The MCP server {self._upstream.name!r} did not list its tools within {TIMEOUT:.0f} s."
            ) from None
        except UpstreamInterrupted as error:  # what may or may not have run is the listing, not the call
            raise UpstreamError(
                f"The MCP server {self._upstream.name!r} went away before it listed its tools."
            ) from error

    async def _find(self, inbound: Inbound, tool: str) -> Definition | None:
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            page = await self._page(inbound, cursor)
            tools = page.get("tools")
            for described in cast("list[Any]", tools) if isinstance(tools, list) else []:
                if isinstance(described, dict) and cast("Definition", described).get("name") == tool:
                    return self._checked(cast("Definition", described))
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str):
                return None
        raise UpstreamError(f"The MCP server {self._upstream.name!r} lists its tools without an end.")

    def _checked(self, definition: Definition) -> Definition:
        """A definition is part of a fingerprint, so it must have a canonical form."""
        try:
            canonical_json([definition])
        except ValueError as error:
            raise UpstreamError(
                f"The MCP server {self._upstream.name!r} describes a tool in a way that cannot be recorded: {error}."
            ) from None
        return definition

    async def _page(self, inbound: Inbound, cursor: str | None) -> Mapping[str, Any]:
        request_id: RequestId = f"approval-broker-{next(_numbers)}"
        params: dict[str, Any] = {} if cursor is None else {"cursor": cursor}
        if inbound.message is not None and inbound.modern:
            meta = cast("Mapping[str, Any]", inbound.message.params.get("_meta", {}))
            params["_meta"] = {key: value for key, value in meta.items() if key.startswith("io.modelcontextprotocol/")}
        reply = await self._upstream.send(inbound.asking("tools/list", request_id, params))
        try:
            if reply.status == 404 and inbound.session is not None:
                raise SessionUnknown
            response = await read_response(reply, request_id)
        finally:
            await reply.close()
        result = response.get("result") if response is not None else None
        if not isinstance(result, dict):
            raise UpstreamError(f"The MCP server {self._upstream.name!r} did not list its tools.")
        return cast("Mapping[str, Any]", result)
