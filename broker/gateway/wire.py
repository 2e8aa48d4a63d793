"""JSON-RPC 2.0 as it travels: parsing what a client sends, telling its era, building replies.

What belongs here: one message, the headers that speak of it, and the errors that are JSON-RPC errors. What does not:
server-sent events (`broker.gateway.sse`), answers of upstreams (`broker.gateway.replies`), judging. Pure: no I/O.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import orjson
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    InboundLadderRejection,
    classify_inbound_request,
    decode_header_value,
    find_duplicated_routing_header,
    unsupported_protocol_version_rejection,
    validate_mcp_param_headers,
)
from mcp_types import PROTOCOL_VERSION_META_KEY
from mcp_types.jsonrpc import HEADER_MISMATCH, INVALID_REQUEST, PARSE_ERROR
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from starlette.datastructures import Headers as HeaderView

from broker.domain.canonical import MAX_DEPTH, depth_exceeds
from broker.errors import BrokerError
from broker.gateway.upstreams import Headers

RequestId = str | int
Kind = Literal["request", "notification", "response"]

_LONG = 19  # digits: orjson makes a float of an integer beyond 64 bits
DEEPEST = 500
"""Levels of a server's JSON that are read: Python's writer gives up at its recursion limit, 1000 by default."""

_STRING, _BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"'), re.compile(rb"[][{}]")
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_DIGIT = re.compile(rb"[0-9]")
_MODERN_VERSIONS = frozenset(version.encode() for version in MODERN_PROTOCOL_VERSIONS)


class WireError(BrokerError):
    """The message breaks JSON-RPC or MCP.

    Args:
        rpc_code: the JSON-RPC error code; the HTTP status follows from it (2026-07-28, Transports).
        request_id: whose request it is, when that is known.
        data: what the error object carries besides.
    """

    code: ClassVar[str] = "wire_invalid"

    def __init__(self, rpc_code: int, message: str, request_id: RequestId | None = None, data: Any = None) -> None:
        super().__init__(message)
        self.rpc_code = rpc_code
        self.request_id = request_id
        self.data = data

    @property
    def status(self) -> int:
        """The HTTP status that goes with the error."""
        return http_status(self.body, 400)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON-RPC error response."""
        return error_message(self.request_id, self.rpc_code, str(self), self.data)


@dataclass(frozen=True, slots=True)
class Message:
    """One JSON-RPC object of a client.

    Args:
        body: the whole parsed object; what is judged, and what is serialised again for the upstream.
        method: None for a response.
        id: None for a notification.
        params: empty when the message has none.
    """

    body: dict[str, Any]
    kind: Kind
    method: str | None
    id: RequestId | None
    params: Mapping[str, Any]

    @property
    def progress_token(self) -> RequestId | None:
        """The token under which the client wants to hear of progress, if it does."""
        token = self._meta.get("progressToken")
        return token if _is_id(token) else None

    @property
    def _meta(self) -> Mapping[str, Any]:
        meta = self.params.get("_meta")
        return cast("Mapping[str, Any]", meta) if isinstance(meta, dict) else {}

    @property
    def enveloped(self) -> bool:
        """Whether `params._meta` names a protocol version, as every modern request does."""
        return PROTOCOL_VERSION_META_KEY in self._meta


# -- JSON -------------------------------------------------------------------------------------------------------------


def dumps(value: Any) -> bytes:
    """The JSON bytes of `value`, on one line.

    Raises:
        ValueError: `value` holds NaN or an infinity that Python's parser let in; nothing that `loads` returns does.
    """
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits, a lone surrogate, deep nesting
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def loads(text: bytes) -> Any:
    """A JSON value from a server: UTF-8, integers exact at any size, lone surrogates let through.

    Raises:
        ValueError: it is not JSON, nests deeper than `dumps` can write again, or holds NaN, an infinity or a number
            that becomes one.
    """
    try:
        value = _strictly(text)
    except ValueError:
        value = _exactly(text)
    if text.count(b"{") + text.count(b"[") > DEEPEST and depth_exceeds(value, DEEPEST):
        raise ValueError("nested too deep")
    return value


def _strictly(text: bytes) -> Any:
    """Like `loads`, but a lone surrogate is an error too."""
    if not _has_long_number(text):
        return orjson.loads(text)
    value = _exactly(text)
    json.dumps(value, ensure_ascii=False).encode()
    return value


def _has_long_number(text: bytes) -> bool:
    # A run of 19 digits has one at every 19th place, and looking there alone is much cheaper.
    return bool(_DIGIT.search(text[_LONG - 1 :: _LONG]) and _LONG_NUMBER.search(text))


def _exactly(text: bytes) -> Any:
    try:
        return json.loads(text.decode(), parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise ValueError(f"{literal} is not a finite number")
    return number


# -- messages in ------------------------------------------------------------------------------------------------------


def parse_message(body: bytes) -> Message:
    """Parse one JSON-RPC 2.0 object (JSON-RPC 2.0 section 4; no batches, as in MCP since 2025-06-18).

    Raises:
        WireError: -32700 when `body` is not JSON (a byte-order mark, NaN and lone surrogates are not), -32600 when it
            is not one request, notification or response, or nests deeper than what is recorded of it may.
    """
    try:
        value = _strictly(body)
    except ValueError:
        if _brackets_nest_too_deep(body):
            raise WireError(INVALID_REQUEST, f"Invalid Request: it nests more than {MAX_DEPTH} levels deep.") from None
        raise WireError(PARSE_ERROR, "Parse error: the body is not JSON in UTF-8 with finite numbers.") from None
    if not isinstance(value, dict):
        raise WireError(INVALID_REQUEST, "Invalid Request: send one JSON-RPC object; batches are not taken.")
    return _message(cast("dict[str, Any]", value), deep=_nests_too_deep(body, value))


def _nests_too_deep(body: bytes, value: Any) -> bool:
    return body.count(b"{") + body.count(b"[") > MAX_DEPTH and depth_exceeds(value)


def _brackets_nest_too_deep(body: bytes) -> bool:
    """The same of what no parser takes."""
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _message(body: dict[str, Any], *, deep: bool) -> Message:
    identified, identity = "id" in body, body.get("id")
    known = identity if _is_id(identity) else None
    if deep:
        raise WireError(INVALID_REQUEST, f"Invalid Request: it nests more than {MAX_DEPTH} levels deep.", known)
    if body.get("jsonrpc") != "2.0":
        raise WireError(INVALID_REQUEST, 'Invalid Request: "jsonrpc" is not "2.0".', known)
    if identified and known is None:
        raise WireError(INVALID_REQUEST, 'Invalid Request: "id" is neither a string nor an integer.')
    method, params = body.get("method"), body.get("params")
    if params is not None and not isinstance(params, dict):
        raise WireError(INVALID_REQUEST, 'Invalid Request: "params" is not an object.', known)
    return Message(body, _kind(body, known), method, known, cast("dict[str, Any]", params or {}))


def _kind(body: Mapping[str, Any], known: RequestId | None) -> Kind:
    answers = ("result" in body) + ("error" in body)
    if isinstance(body.get("method"), str) and not answers:
        return "notification" if known is None else "request"
    if "method" not in body and answers == 1 and known is not None:
        return "response"
    raise WireError(INVALID_REQUEST, "Invalid Request: it is no request, notification or response.", known)


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


# -- eras and the headers that speak of the body ----------------------------------------------------------------------


def is_modern(headers: Headers, message: Message | None = None) -> bool:
    """Whether a request is of the stateless era: its version header says so, or its envelope names a version."""
    wanted = MCP_PROTOCOL_VERSION_HEADER.encode()
    return (message is not None and message.enveloped) or any(
        name == wanted and value in _MODERN_VERSIONS for name, value in headers
    )


def check_envelope(message: Message, headers: Headers) -> None:
    """Check that a message is whole for its era and that no header says something else than the body.

    A modern request needs its envelope and matching `MCP-Protocol-Version`, `Mcp-Method` and `Mcp-Name` (2026-07-28,
    Transports). A legacy one needs none of them, but what it has must not contradict the body: an upstream could
    believe the header.

    Raises:
        WireError: with the code that the specification has for the first thing found.
    """
    view = HeaderView(raw=list(headers))
    if duplicate := find_duplicated_routing_header(view.items()):
        raise WireError(HEADER_MISMATCH, f"{duplicate} header appears more than once", message.id)
    _refuse(_era_rejection(message, view) if is_modern(headers, message) else None, message.id)
    _check_routing(message, view)


def _era_rejection(message: Message, view: HeaderView) -> InboundLadderRejection | None:
    if message.kind == "request":
        outcome = classify_inbound_request(message.body, headers=view)
        return outcome if isinstance(outcome, InboundLadderRejection) else None
    return unsupported_protocol_version_rejection(view.get(MCP_PROTOCOL_VERSION_HEADER, ""))


def _check_routing(message: Message, view: HeaderView) -> None:
    if view.get(MCP_METHOD_HEADER, message.method) != message.method:
        raise WireError(HEADER_MISMATCH, f"{MCP_METHOD_HEADER} header does not match the body's method", message.id)
    key = NAME_BEARING_METHODS.get(message.method or "")
    named = view.get(MCP_NAME_HEADER)
    if key is not None and named is not None and decode_header_value(named) != message.params.get(key):
        raise WireError(HEADER_MISMATCH, f"{MCP_NAME_HEADER} header does not match the body's {key!r}", message.id)


def check_param_headers(
    input_schema: Any, arguments: Mapping[str, Any], headers: Headers, request_id: RequestId | None = None
) -> None:
    """Check the `Mcp-Param-*` headers of a modern `tools/call` against its arguments (2026-07-28, Custom Headers).

    Args:
        input_schema: the tool's, which says which arguments are mirrored.
        headers: as they came: a header that is there twice is refused.

    Raises:
        WireError: -32020 for the first header that disagrees.
    """
    _refuse(validate_mcp_param_headers(input_schema, arguments, HeaderView(raw=list(headers))), request_id)


def _refuse(rejection: InboundLadderRejection | None, request_id: RequestId | None) -> None:
    if rejection is not None:
        raise WireError(rejection.code, rejection.message, request_id, rejection.data)


# -- messages out -----------------------------------------------------------------------------------------------------


def result_message(request_id: RequestId, result: Mapping[str, Any]) -> dict[str, Any]:
    """A successful response."""
    return {"jsonrpc": "2.0", "id": request_id, "result": result}


def error_message(request_id: RequestId | None, code: int, message: str, data: Any = None) -> dict[str, Any]:
    """An error response; its id is null when the request's is unknown (JSON-RPC 2.0 section 5)."""
    error = {"code": code, "message": message} | ({} if data is None else {"data": data})
    return {"jsonrpc": "2.0", "id": request_id, "error": error}


def is_response(message: Mapping[str, Any]) -> bool:
    """Whether a server's message ends a request."""
    return "method" not in message and ("result" in message or "error" in message)


def http_status(response: Mapping[str, Any], default: int = 200) -> int:
    """The HTTP status of a modern JSON answer: errors have one by their code (2026-07-28, Transports)."""
    error = response.get("error")
    code = cast("Mapping[str, Any]", error).get("code") if isinstance(error, dict) else None
    return ERROR_CODE_HTTP_STATUS.get(code, default) if isinstance(code, int) else default
