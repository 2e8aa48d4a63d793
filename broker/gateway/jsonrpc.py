"""JSON-RPC 2.0 as it travels: JSON, parsing one message, building replies.

What belongs here: one message, and the errors that are JSON-RPC errors. What does not: HTTP and the fields that speak
of a message (`broker.gateway.wire`), server-sent events (`broker.gateway.sse`). Pure: no I/O. Imports no SDK, which
takes most of a second: a command that speaks JSON-RPC starts at once.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import orjson

from broker.domain.canonical import MAX_DEPTH, depth_exceeds
from broker.errors import BrokerError
from broker.gateway.weight import A_CONTAINER, MOST_OF_AN_AGENT, brackets_nest_deeper, outweighs

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
"""JSON-RPC 2.0 section 5.1."""

PROTOCOL_VERSION_META_KEY = "io.modelcontextprotocol/protocolVersion"
"""What names its revision in the `_meta` of every modern request (2026-07-28)."""

CLIENT_INFO_META_KEY = "io.modelcontextprotocol/clientInfo"
"""What names its client there."""

LONGEST_NAME = 64
"""Characters of a client's name that are read."""

RequestId = str | int
Kind = Literal["request", "notification", "response"]

_MEMBERS = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
"""What a message consists of."""

_LONG = 19  # digits: orjson makes a float of an integer beyond 64 bits
DEEPEST = 500
"""Levels of a server's JSON that are read: Python's writer gives up at its recursion limit, 1000 by default."""
TOO_MANY_VALUES = (
    f"Invalid Request: it holds more than {MOST_OF_AN_AGENT} values, where an array or object counts as "
    f"{A_CONTAINER}; nothing was done: send less at once, or as one string."
)

_DIGIT = re.compile(rb"[0-9]")
_DIGITS_ALIKE = bytes(ord("0") if byte in b"0123456789" else 0 for byte in range(256))


class WireError(BrokerError):
    """The message breaks JSON-RPC or MCP.

    Args:
        rpc_code: the JSON-RPC error code.
        request_id: whose request it is, when that is known.
        data: what the error object carries besides.
    """

    code: ClassVar[str] = "wire_invalid"
    status: ClassVar[int] = 400
    """The HTTP status that goes with any such code (2026-07-28, Transports)."""

    def __init__(self, rpc_code: int, message: str, request_id: RequestId | None = None, data: Any = None) -> None:
        super().__init__(message)
        self.rpc_code = rpc_code
        self.request_id = request_id
        self.data = data

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

    def outlined(self) -> Message:
        """The same without the arguments of a call."""
        params = {name: value for name, value in self.params.items() if name != "arguments"}
        return replace(self, body={**self.body, "params": params}, params=params)

    @property
    def progress_token(self) -> RequestId | None:
        """The token under which the client wants to hear of progress, if it does."""
        token = self._meta.get("progressToken")
        return token if _is_id(token) else None

    @property
    def client(self) -> str | None:
        """The name that its client gives itself: in `initialize` (before 2026-07-28), or in every request (since)."""
        info = self.params.get("clientInfo") if self.method == "initialize" else self._meta.get(CLIENT_INFO_META_KEY)
        name = _members(info).get("name")
        return name[:LONGEST_NAME] if isinstance(name, str) else None

    @property
    def _meta(self) -> Mapping[str, Any]:
        return _members(self.params.get("_meta"))

    @property
    def enveloped(self) -> bool:
        """Whether `params._meta` names a protocol version, as every modern request does."""
        return PROTOCOL_VERSION_META_KEY in self._meta


def _members(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


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
    return bool(_DIGIT.search(text[_LONG - 1 :: _LONG])) and b"0" * _LONG in text.translate(_DIGITS_ALIKE)


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
            is not one request, notification or response, nests deeper than what is recorded of it may, or holds so
            many values that others would have to wait for it.
    """
    if outweighs(body, MOST_OF_AN_AGENT):
        raise WireError(INVALID_REQUEST, TOO_MANY_VALUES)
    try:
        value = _strictly(body)
    except ValueError:
        if brackets_nest_deeper(body, MAX_DEPTH):
            raise WireError(INVALID_REQUEST, f"Invalid Request: it nests more than {MAX_DEPTH} levels deep.") from None
        raise WireError(PARSE_ERROR, "Parse error: the body is not JSON in UTF-8 with finite numbers.") from None
    if not isinstance(value, dict):
        raise WireError(INVALID_REQUEST, "Invalid Request: send one JSON-RPC object; batches are not taken.")
    return _message(cast("dict[str, Any]", value), deep=_nests_too_deep(body, value))


def _nests_too_deep(body: bytes, value: Any) -> bool:
    return body.count(b"{") + body.count(b"[") > MAX_DEPTH and depth_exceeds(value)


def look_alike(names: Iterable[str], known: frozenset[str]) -> str | None:
    """One of `names` that is another one than all of `known`, and the same as one of them where case does not count.

    Some servers (those on Go's encoding/json, for one) take `Method` for `method`, and the last one for the one that
    is meant. So what is judged would not be what runs.
    """
    if known.issuperset(names):
        return None
    # Upper case first: then the dotless i, the long s and the Kelvin sign are what they are to those servers.
    return next((name for name in names if name not in known and name.upper().casefold() in known), None)


def _message(body: dict[str, Any], *, deep: bool) -> Message:
    identified, identity = "id" in body, body.get("id")
    known = identity if _is_id(identity) else None
    if look_alike(body, _MEMBERS) is not None:
        raise WireError(INVALID_REQUEST, "Invalid Request: write the names of its members in lower case.", known)
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
