"""MCP around a JSON-RPC message: its era, the headers that speak of it, its HTTP status.

What belongs here: what depends on MCP's revisions. What does not: JSON-RPC itself (`broker.gateway.jsonrpc`, whose
names are here too), server-sent events (`broker.gateway.sse`), answers of upstreams (`broker.gateway.replies`),
judging. Pure: no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from starlette.datastructures import Headers as HeaderView

from broker.gateway.jsonrpc import (
    PROTOCOL_VERSION_META_KEY,
    Message,
    RequestId,
    WireError,
    dumps,
    error_message,
    is_response,
    loads,
    look_alike,
    parse_message,
    result_message,
)
from broker.gateway.mirrored import decoded, disagreement, mirrored
from broker.gateway.protocol import (
    CLIENT_CAPABILITIES_META_KEY,
    ERROR_CODE_HTTP_STATUS,
    HEADER_MISMATCH,
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    MODERN_PROTOCOL_VERSIONS,
    NAME_BEARING_METHODS,
    Rejection,
    duplicated_field,
    envelope_rejection,
    version_rejection,
)
from broker.gateway.upstreams import Fields, Headers, once

__all__ = [
    "Message",
    "RequestId",
    "WireError",
    "check_envelope",
    "check_param_headers",
    "dumps",
    "error_message",
    "http_status",
    "is_modern",
    "is_response",
    "loads",
    "look_alike",
    "parse_message",
    "result_message",
    "say_params",
]

_PARAM = b"mcp-param-"
_NAMES = {**NAME_BEARING_METHODS, **dict.fromkeys(("tasks/get", "tasks/update", "tasks/cancel"), "taskId")}
_VERSION, _METHOD, _NAME = (
    header.encode() for header in (MCP_PROTOCOL_VERSION_HEADER, MCP_METHOD_HEADER, MCP_NAME_HEADER)
)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_./:-]+")  # is written as it is in a field
_MODERN_VERSIONS = frozenset(version.encode() for version in MODERN_PROTOCOL_VERSIONS)


def is_modern(headers: Headers, message: Message | None = None) -> bool:
    """Whether a request is of the stateless era: its version header says so, or its envelope names a version."""
    return (message is not None and message.enveloped) or Fields.of(headers).made(_say_modern)


def _say_modern(fields: Fields) -> bool:
    return any(name == _VERSION and value in _MODERN_VERSIONS for name, value in fields)


def check_envelope(message: Message, headers: Headers) -> None:
    """Check that a message is whole for its era and that no header says something else than the body.

    A modern request needs its envelope and matching `MCP-Protocol-Version`, `Mcp-Method` and `Mcp-Name` (2026-07-28,
    Transports). A legacy one needs none of them, but what it has must not contradict the body: an upstream could
    believe the header.

    Raises:
        WireError: with the code that the specification has for the first thing found.
    """
    if _plainly_agrees(message, headers):
        return
    view = HeaderView(raw=list(headers))
    if duplicate := duplicated_field(view.items()):
        raise WireError(HEADER_MISMATCH, f"{duplicate} header appears more than once", message.id)
    modern = is_modern(headers, message)
    _refuse(_era_rejection(message, view) if modern else None, message.id)
    _check_routing(message, view, modern=modern)


def _plainly_agrees(message: Message, headers: Headers) -> bool:
    """Whether there is nothing to find: told at once of what most calls are like, without looking at everything."""
    fields = Fields.of(headers).made(once)
    if len(fields) != len(headers):
        return False
    if not message.enveloped:
        return fields.get(_VERSION) not in _MODERN_VERSIONS and _METHOD not in fields and _NAME not in fields
    meta, name = message.params["_meta"], message.params.get(_NAMES.get(message.method or "", ""))
    return (
        message.kind == "request"
        and CLIENT_CAPABILITIES_META_KEY in meta
        and meta[PROTOCOL_VERSION_META_KEY] in MODERN_PROTOCOL_VERSIONS
        and fields.get(_VERSION) == meta[PROTOCOL_VERSION_META_KEY].encode()
        and fields.get(_METHOD) == (message.method or "").encode()
        and isinstance(name, str)
        and _PLAIN_NAME.fullmatch(name) is not None
        and fields.get(_NAME) == name.encode()
    )


def _era_rejection(message: Message, view: HeaderView) -> Rejection | None:
    if message.kind == "request":
        return envelope_rejection(message.body, view)
    return version_rejection(view.get(MCP_PROTOCOL_VERSION_HEADER, ""))


def _check_routing(message: Message, view: HeaderView, *, modern: bool) -> None:
    if view.get(MCP_METHOD_HEADER, message.method) != message.method:
        raise WireError(HEADER_MISMATCH, f"{MCP_METHOD_HEADER} header does not match the body's method", message.id)
    key = _NAMES.get(message.method or "")
    named, name = view.get(MCP_NAME_HEADER), message.params.get(key or "")
    if key is not None and named is not None and decoded(named) != name:
        raise WireError(HEADER_MISMATCH, f"{MCP_NAME_HEADER} header does not match the body's {key!r}", message.id)
    if modern and named is None and isinstance(name, str):
        raise WireError(HEADER_MISMATCH, f"{MCP_NAME_HEADER} header is missing: the body has a {key!r}", message.id)


def say_params(fields: Fields) -> bool:
    """Whether any of them is to mirror an argument."""
    return any(name.startswith(_PARAM) for name, _ in fields)


def check_param_headers(
    input_schema: Any, arguments: Mapping[str, Any], headers: Headers, request_id: RequestId | None = None
) -> None:
    """Check the `Mcp-Param-*` headers of a modern `tools/call` against its arguments (2026-07-28, Custom Headers).

    Args:
        input_schema: the tool's, which says which arguments are mirrored.
        headers: as they came: a header that is there twice is refused.

    Raises:
        WireError: -32020 for the first header that disagrees, or that mirrors no argument: a server could believe it.
    """
    parameters = mirrored(input_schema)
    wrong = disagreement(parameters, arguments, HeaderView(raw=list(headers)).items())
    if wrong is not None:
        raise WireError(HEADER_MISMATCH, wrong, request_id)
    known = {one.field.lower().encode() for one in parameters}
    for name, _ in headers:
        if name.startswith(_PARAM) and name not in known:
            told = f"{name.decode('latin-1')} header mirrors no parameter of the tool"
            raise WireError(HEADER_MISMATCH, told, request_id)


def _refuse(rejection: Rejection | None, request_id: RequestId | None) -> None:
    if rejection is not None:
        raise WireError(rejection.code, rejection.message, request_id, rejection.data)


def answers(message: Any, request_id: RequestId) -> bool:
    """Whether a server's message is the response to that request; 1 is not "1", nor true, nor 1.0.

    So is an error with no id: the server refused the request before it had read whose it was (JSON-RPC, section 5).
    """
    if not isinstance(message, dict) or not is_response(response := cast("dict[str, Any]", message)):
        return False
    identity = response.get("id")
    if identity is None:
        return "error" in response
    return identity == request_id and type(identity) is type(request_id)


def http_status(response: Mapping[str, Any], default: int = 200) -> int:
    """The HTTP status of a modern JSON answer: errors have one by their code (2026-07-28, Transports)."""
    error = response.get("error")
    code = cast("Mapping[str, Any]", error).get("code") if isinstance(error, dict) else None
    return ERROR_CODE_HTTP_STATUS.get(code, default) if isinstance(code, int) else default
