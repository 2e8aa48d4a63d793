"""Which fields of HTTP go further, in either direction. A gateway is bound by RFC 9110 section 7.6.

What belongs here: names, and what they could make somebody believe. What does not: sending.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from broker.gateway.upstreams import Headers

_HOP_BY_HOP = frozenset(b"connection keep-alive te trailer transfer-encoding upgrade http2-settings".split())

# What a client says to the broker alone, and what the broker says anew.
_NOT_UP = _HOP_BY_HOP | frozenset(
    b"host authorization cookie cookie2 origin referer forwarded via expect accept-encoding max-forwards digest "
    b"repr-digest signature signature-input mcp-session-id".split()
)
# `content-`: the body is serialised again. The others are set by proxies in front of a server, which believes them.
_NOT_UP_BEFORE = tuple(
    b"content- proxy- x-forwarded- x-remote- remote- x-original- x-rewrite- x-http-method x-method-override x-auth- "
    b"x-authenticated- x-webauth- x-real- x-client- client-ip x-cluster- true-client- cf- fastly- fly- x-envoy- "
    b"x-ssl- ssl- x-tls- x-amzn-oidc- x-goog-iap- x-goog-authenticated- x-ms-client-principal x-ms-token-".split()
)

# What a server says of its own origin or of the broker's credentials, what a proxy in front of the broker would obey,
# and what is told in another way.
_NOT_DOWN = _HOP_BY_HOP | frozenset(
    b"set-cookie set-cookie2 alt-svc clear-site-data strict-transport-security service-worker-allowed refresh "
    b"public-key-pins nel report-to reporting-endpoints www-authenticate authentication-info date via content-length "
    b"content-encoding mcp-session-id".split()
)
_NOT_DOWN_BEFORE = tuple(b"proxy- access-control- x-accel- x-sendfile x-lighttpd- x-reproxy- x-litespeed-".split())
_OF_ONE_ANSWER = frozenset(
    b"date content-length set-cookie set-cookie2".split()
)  # none goes down, or says anything here
_FEW = 32
_BUFFERING = b"x-accel-buffering"  # a stream is not to be kept back: as true for the broker's own answer

_FRAMING = _HOP_BY_HOP | frozenset(b"expect content-length content-type content-encoding mcp-session-id".split())

_NO_TOKEN = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")  # RFC 9110 section 5.6.2
_NO_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 section 5.5
_SESSION = re.compile(rb"[\x21-\x7e]{1,1024}")  # visible ASCII (2025-11-25, Session Management)


def own_fields(configured: Mapping[str, str]) -> dict[bytes, bytes]:
    """The fields that an upstream is configured with, by lower-case name; without compression, unless it wants some.

    Raises:
        ValueError: a field belongs to the message and not to the upstream, or HTTP does not allow it.
    """
    own = {b"accept-encoding": b"identity"}
    for name, value in configured.items():
        field = name.lower().encode()
        if field in _FRAMING:
            raise ValueError(f"{name} is said by the broker for each message")
        own[field] = value.encode()
    _check(own.items())
    return own


def upward(headers: Headers, own: Iterable[bytes], *, modern: bool) -> list[tuple[bytes, bytes]]:
    """What of a client's fields goes to a server that has its `own`.

    A field of MCP that is there twice does not: readers would disagree about it.

    Raises:
        ValueError: a field is one that HTTP does not allow.
    """
    named = _named_by_connection(headers)
    kept = [
        (name, value)
        for name, value in headers
        if _goes_up(name, modern=modern) and name not in own and name not in named
    ]
    if len(kept) != len({name for name, _ in kept}):
        times = Counter(name for name, _ in kept)
        kept = [(name, value) for name, value in kept if times[name] == 1 or not name.startswith(b"mcp-")]
    _check(kept)
    return kept


class Said(NamedTuple):
    """What the fields of an answer say.

    Args:
        kind: of its content.
        coding: of it, such as `gzip`.
        session: the one that the server opened.
        downward: those that go to the client.
    """

    kind: bytes
    coding: bytes
    session: str | None
    downward: Headers


def said(fields: Headers) -> Said:
    """Read the fields of an answer. Most servers say the same few each time, and these are read once.

    Raises:
        ValueError: they contradict each other, or name no session id.
    """
    rest = tuple([field for field in fields if field[0] not in _OF_ONE_ANSWER])
    return _said(rest) if len(rest) <= _FEW else _said.__wrapped__(rest)


@lru_cache(64)
def _said(fields: Headers) -> Said:
    kind = only(fields, b"content-type").partition(b";")[0].strip().lower()
    return Said(kind, only(fields, b"content-encoding").lower(), session_id(fields), (*downward(fields),))


def downward(fields: Headers) -> list[tuple[bytes, bytes]]:
    """What of a server's fields goes to the client."""
    named = _named_by_connection(fields)
    return [(name, value) for name, value in fields if _goes_down(name) and name not in named]


def only(fields: Headers, name: bytes) -> bytes:
    """The value of a field; empty when it is not there.

    Raises:
        ValueError: it is there twice, so that readers would disagree about it.
    """
    values = [value for key, value in fields if key == name]
    if len(values) > 1:
        raise ValueError(f"{name.decode()} is there {len(values)} times")
    return values[0] if values else b""


def session_id(fields: Headers) -> str | None:
    """The session that a server opened.

    Raises:
        ValueError: it is no session id.
    """
    value = only(fields, b"mcp-session-id")
    if value and not _SESSION.fullmatch(value):
        raise ValueError("its session id is not visible ASCII of at most 1024 characters")
    return value.decode() or None


def _named_by_connection(fields: Headers) -> set[bytes]:
    """What the sender's `Connection` names is for one hop (RFC 9110 section 7.6.1)."""
    return {token.strip().lower() for name, value in fields if name == b"connection" for token in value.split(b",")}


@lru_cache(1024)
def _goes_up(name: bytes, *, modern: bool) -> bool:
    # Gateways of CGI and WSGI read `_` as `-`: such a name could pass for a field that is set or checked here.
    if name in _NOT_UP or b"_" in name or name.startswith(_NOT_UP_BEFORE):
        return False
    return modern or not name.startswith(b"mcp-param-")  # nobody has checked it


@lru_cache(1024)
def _goes_down(name: bytes) -> bool:
    return name == _BUFFERING or not (name in _NOT_DOWN or name.startswith(_NOT_DOWN_BEFORE))


def _check(fields: Iterable[tuple[bytes, bytes]]) -> None:
    fields = list(fields)
    if _NO_TOKEN.search(b"".join(name for name, _ in fields)):
        raise ValueError("HTTP does not allow the name of one of its fields")
    if _NO_VALUE.search(b"".join(value for _, value in fields)):
        raise ValueError("HTTP does not allow the value of one of its fields")
