"""MCP's own words, and what holds for every request of its stateless era (2026-07-28).

What belongs here: its revisions, the codes of its errors, the names of its fields, and whether an envelope is whole.
What does not: JSON-RPC's part of them (`broker.gateway.jsonrpc`), parameters that header fields repeat
(`broker.gateway.mirrored`). Pure, and without the SDK, which takes half of a start and a third of the memory for types
that nothing here needs; the tests hold every word and rule against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from broker.gateway.jsonrpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    PROTOCOL_VERSION_META_KEY,
)
from broker.gateway.mirrored import decoded

HANDSHAKE_PROTOCOL_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Revisions that open a session with `initialize`, the oldest first."""

MODERN_PROTOCOL_VERSIONS = ("2026-07-28",)
"""Revisions in which every request says its own."""

LATEST_MODERN_VERSION = MODERN_PROTOCOL_VERSIONS[-1]

HEADER_MISMATCH, MISSING_REQUIRED_CLIENT_CAPABILITY, UNSUPPORTED_PROTOCOL_VERSION = -32020, -32021, -32022
"""2026-07-28, Transports, Capabilities and Versioning."""

CLIENT_CAPABILITIES_META_KEY = "io.modelcontextprotocol/clientCapabilities"
LOG_LEVEL_META_KEY = "io.modelcontextprotocol/logLevel"
SUBSCRIPTION_ID_META_KEY = "io.modelcontextprotocol/subscriptionId"
"""What a message says in its `_meta`."""

MCP_PROTOCOL_VERSION_HEADER, MCP_METHOD_HEADER, MCP_NAME_HEADER = "mcp-protocol-version", "mcp-method", "mcp-name"
"""The fields of HTTP that repeat what a body says."""

NAME_BEARING_METHODS: Mapping[str, str] = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""Which parameter of a method `Mcp-Name` repeats."""

ERROR_CODE_HTTP_STATUS: Mapping[int, int] = {
    **dict.fromkeys((PARSE_ERROR, INVALID_REQUEST, INVALID_PARAMS), 400),
    **dict.fromkeys((HEADER_MISMATCH, MISSING_REQUIRED_CLIENT_CAPABILITY, UNSUPPORTED_PROTOCOL_VERSION), 400),
    METHOD_NOT_FOUND: 404,
}
"""The status of an answer that is such an error (2026-07-28, Transports). Other codes have none of their own."""

_ROUTING = frozenset({MCP_PROTOCOL_VERSION_HEADER, MCP_METHOD_HEADER, MCP_NAME_HEADER})
_ENVELOPE = (PROTOCOL_VERSION_META_KEY, CLIENT_CAPABILITIES_META_KEY)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a request is refused, as members of a JSON-RPC error."""

    code: int
    message: str
    data: Mapping[str, Any] | None = None


def duplicated_field(headers: Iterable[tuple[str, str]]) -> str | None:
    """The first of the routing fields that is there twice: readers of the first and of the last would disagree."""
    seen = set[str]()
    for name, _ in headers:
        if (key := name.lower()) in _ROUTING and key in seen:
            return key
        seen.add(key)
    return None


def version_rejection(requested: str) -> Rejection | None:
    """Why a revision is refused; None for one of the stateless era."""
    if requested in MODERN_PROTOCOL_VERSIONS:
        return None
    data = {"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": requested}
    return Rejection(UNSUPPORTED_PROTOCOL_VERSION, "Unsupported protocol version", data)


def envelope_rejection(body: Mapping[str, Any], headers: Mapping[str, str]) -> Rejection | None:
    """Why a request of the stateless era is refused; None where it is whole.

    Its `_meta` names a revision and the client's capabilities, the routing fields repeat what the body says, and the
    revision is of this era, in this order: a client that contradicts itself is told that, and not to fall back
    (2026-07-28, Basic Protocol, Transports, Versioning).

    Args:
        headers: their names in lower case.
    """
    params = body.get("params")
    meta = cast("dict[str, Any]", params).get("_meta") if isinstance(params, dict) else None
    if not isinstance(meta, dict):
        keys = " and ".join(map(repr, _ENVELOPE))
        return Rejection(INVALID_PARAMS, f"params._meta must be an object carrying the required {keys} envelope keys")
    if missing := [key for key in _ENVELOPE if key not in meta]:
        told = f"params._meta is missing the required envelope key(s): {', '.join(missing)}"
        return Rejection(INVALID_PARAMS, told)
    version = cast("dict[str, Any]", meta)[PROTOCOL_VERSION_META_KEY]
    said = headers.get(MCP_PROTOCOL_VERSION_HEADER)
    if said is None or said != version:
        told = f"{MCP_PROTOCOL_VERSION_HEADER} header does not match the request envelope's protocol version"
        return Rejection(HEADER_MISMATCH, told)
    return _routing_rejection(body, headers) or version_rejection(said)


def _routing_rejection(body: Mapping[str, Any], headers: Mapping[str, str]) -> Rejection | None:
    method = body.get("method", "")
    if headers.get(MCP_METHOD_HEADER) != method:
        return Rejection(HEADER_MISMATCH, f"{MCP_METHOD_HEADER} header does not match the request body's method")
    key = NAME_BEARING_METHODS.get(method, "")
    name = body["params"].get(key)
    if name is not None and decoded(headers.get(MCP_NAME_HEADER)) != name:
        told = f"{MCP_NAME_HEADER} header does not match the request body's {key!r} parameter"
        return Rejection(HEADER_MISMATCH, told)
    return None


def is_input_required(result: object) -> bool:
    """Whether a result asks its client for something first (2026-07-28, Multi Round-Trip Requests)."""
    return isinstance(result, dict) and cast("dict[str, Any]", result).get("resultType") == "input_required"
