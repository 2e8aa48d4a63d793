"""Canonical JSON and the keyed digests over it.

What belongs here: the one byte form of a JSON value that digests are taken of, and the keys. What does not: JSON as it
travels on a wire (`broker.gateway.wire`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

MAX_DEPTH = 100
_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"

quoted = json.encoder.encode_basestring
"""A string as canonical JSON has it."""


def encoder(*, ascii_only: bool, sorted_keys: bool) -> Callable[[Any], str]:
    """A function from parsed JSON to its text without white space; NaN and infinities are a ValueError.

    It is `json`'s own encoder, which `json.dumps` would make anew for each value.
    """
    text = json.encoder.encode_basestring_ascii if ascii_only else quoted
    make: Any = getattr(json.encoder, "c_make_encoder")  # noqa: B009 - CPython's, which type checkers do not know
    encode: Callable[[Any, int], Iterable[str]] = make(None, _no_json, text, None, ":", ",", sorted_keys, False, False)
    return lambda value: "".join(encode(value, 0))


def _no_json(value: Any) -> Any:
    raise TypeError(f"a value of type {type(value).__name__} is no JSON")


_encode = encoder(ascii_only=False, sorted_keys=True)


def depth_exceeds(value: Any, limit: int = MAX_DEPTH) -> bool:
    """Whether `value`, parsed JSON, nests more than `limit` arrays and objects. Never recurses."""
    level: list[Any] = [value]
    for _ in range(limit):
        following: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                following.extend(cast("dict[str, Any]", item).values())
            elif isinstance(item, list):
                following.extend(cast("list[Any]", item))
        level = [item for item in following if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def canonical_json(value: Any) -> bytes:
    """The canonical bytes of a JSON value: sorted keys, no white space, integers exact at any size, UTF-8.

    Raises:
        ValueError: `value` nests over 100 levels, or holds NaN, an infinity or a lone surrogate.
    """
    return canonical_text(value).encode()


def canonical_text(value: Any) -> str:
    """The same as text: a lone surrogate in it shows when it is encoded.

    Raises:
        ValueError: `value` nests over 100 levels, or holds NaN or an infinity.
    """
    try:
        text = _encode(value)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if text.count("{") + text.count("[") > MAX_DEPTH and depth_exceeds(value):
        raise ValueError(_TOO_DEEP)
    return text


def token_hash(token: str) -> str:
    """What is stored of a random token (256 bits, so an unkeyed SHA-256 cannot be searched), in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_id(prefix: str) -> str:
    """An unguessable identifier of 80 random bits, such as ``apr_019…``.

    Those before them are milliseconds since 1970, so that a database appends to an index of them (as RFC 9562 section
    5.7 has it for UUIDs).
    """
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def new_token(prefix: str) -> str:
    """A bearer secret of 256 random bits with a prefix that secret scanners can look for."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


class Keyring:
    """Keys derived from the server's secrets, one for each purpose.

    Args:
        secrets: newest first. The first one signs; all of them verify, so a list rotates.
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        if not secrets or any(len(secret) < 16 for secret in secrets):
            raise ValueError("a server secret has at least 16 bytes")
        self._secrets = tuple(secrets)
        self._derived: dict[str, tuple[bytes, ...]] = {}

    def keys(self, purpose: str) -> tuple[bytes, ...]:
        """The 32-byte keys for `purpose`, newest first."""
        keys = self._derived.get(purpose)
        if keys is None:
            label = b"approval-broker/" + purpose.encode()
            keys = self._derived[purpose] = tuple(hmac.digest(secret, label, "sha256") for secret in self._secrets)
        return keys

    def signatures(self, purpose: str, message: bytes) -> list[str]:
        """HMAC-SHA-256 (RFC 2104) of `message` in hex by every present key for `purpose`, the newest first."""
        return [hmac.digest(key, message, "sha256").hex() for key in self.keys(purpose)]

    def sign(self, purpose: str, message: bytes) -> str:
        """The signature by the newest key."""
        return hmac.digest(self.keys(purpose)[0], message, "sha256").hex()

    def verify(self, purpose: str, message: bytes, signature: str) -> bool:
        """Whether any present key made `signature`, in constant time."""
        given = signature.encode()
        return any(hmac.compare_digest(made.encode(), given) for made in self.signatures(purpose, message))
