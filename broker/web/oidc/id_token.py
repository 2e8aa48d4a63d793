"""ID tokens: whether the provider's word is the provider's, and meant for us, now.

What belongs here: OpenID Connect Core 1.0, section 3.1.3.7. What does not: where the token and the keys come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey

from broker.domain.text import whole
from broker.errors import ProviderFailed

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
"""Signatures that only the provider can make: no `none`, and none that whoever verifies could make too (HS256)."""

LEEWAY = 60
"""Seconds that the provider's clock may be off."""

LONGEST = 255
"""The most characters of a subject (Core, section 2), and of a name of a group; longer names are passed over."""

MOST_GROUPS = 1000


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token has to say."""

    issuer: str
    client_id: str
    nonce: str
    access_token: str | None
    now: datetime


def claims_of(token: str, keys: Mapping[str, Any], expected: Expected) -> Mapping[str, Any]:
    """What a token says.

    Args:
        keys: the provider's JWKS as it is now, so that keys rotate.

    Raises:
        ProviderFailed: not to be believed; says why.
    """
    try:
        read = jwt.decode(token, _signing(keys), algorithms=ALGORITHMS)
        claims = CodeIDToken(
            read.claims,
            read.header,
            {
                "iss": {"essential": True, "value": expected.issuer},
                "aud": {"essential": True, "value": expected.client_id},
            },
            {"nonce": expected.nonce, "client_id": expected.client_id, "access_token": expected.access_token},
        )
        claims.validate(now=int(expected.now.timestamp()), leeway=LEEWAY)  # pyright: ignore[reportUnknownMemberType]
    except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:  # keys may be odd
        raise ProviderFailed(f"its ID token is not to be believed: {_why(error)}") from error
    return cast("Mapping[str, Any]", claims)


def subject_of(claims: Mapping[str, Any]) -> str:
    """Its name for the account.

    Raises:
        ProviderFailed: it is none.
    """
    subject = claims["sub"]
    if (
        not isinstance(subject, str)
        or not 0 < len(subject) <= LONGEST
        or not (subject.isascii() and "\0" not in subject)
    ):
        raise ProviderFailed("its ID token names nobody")
    return subject


def confirmed_email(claims: Mapping[str, Any]) -> str | None:
    """The address that is the account's, if the provider says that it has confirmed that.

    Microsoft Entra says `xms_edov` instead of `email_verified`
    (https://learn.microsoft.com/en-us/entra/identity-platform/optional-claims-reference); it never overrules that.
    """
    email = claims.get("email")
    entra = "email_verified" not in claims and claims.get("xms_edov") in (True, "1", "true")
    confirmed = claims.get("email_verified") is True or entra
    return whole(email) if confirmed and isinstance(email, str) and "@" in email and len(email) <= LONGEST else None


def groups_of(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    """The names in a claim, a list of them or one."""
    found = claims.get(name)
    listed = cast("list[Any]", found) if isinstance(found, list) else [found]
    names = [whole(each) for each in listed[:MOST_GROUPS] if isinstance(each, str) and 0 < len(each) <= LONGEST]
    return frozenset(names)


def _signing(keys: Mapping[str, Any]) -> KeySet:
    found = KeySet.import_key_set(cast("Any", keys))
    return KeySet([key for key in found.keys if not isinstance(key, OctKey)])


def _why(error: Exception) -> str:
    return (str(error) if isinstance(error, JoseError) else type(error).__name__).rstrip(".")
