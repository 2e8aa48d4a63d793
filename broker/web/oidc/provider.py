"""The flow with one provider: where a browser is sent, and who came back.

What belongs here: OpenID Connect Discovery 1.0, RFC 6749 section 4.1, RFC 7636 (PKCE), RFC 9207 (mix-up). What does
not: whose browser it is (`broker.web.sign_on`).

The provider is asked when somebody signs in, and not before: the broker starts without it. Its keys are not kept, so
that one that it withdraws counts no more; its metadata are, shortly: who begins to sign in again and again troubles
nobody else by it.
"""

# Authlib has no annotations:
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlsplit

from authlib.oauth2.auth import encode_client_secret_basic, encode_client_secret_post
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.discovery import get_well_known_url

from broker.domain.clock import Clock
from broker.domain.people import Account, Role
from broker.errors import ProviderFailed
from broker.web.oidc.fetching import WITHIN, Fetching, checked
from broker.web.oidc.flow import Flow
from broker.web.oidc.id_token import Expected, claims_of, confirmed_email, groups_of, subject_of

SCOPE = "openid email"

KEPT = timedelta(seconds=30)
"""How long the provider's metadata are as they were."""

_FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}


@dataclass(frozen=True, slots=True)
class Terms:
    """What is agreed with the provider.

    Args:
        roles: which role a group of the provider stands for.
    """

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    groups_claim: str
    roles: Mapping[str, Role]


class Provider:
    """The provider, for as long as the context lasts."""

    def __init__(self, terms: Terms, clock: Clock, *, within: float = WITHIN) -> None:
        self.terms = terms
        self._clock = clock
        self._fetching = Fetching(within)
        self._known: tuple[datetime, Mapping[str, Any]] | None = None

    async def __aenter__(self) -> Provider:
        await self._fetching.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._fetching.__aexit__()

    @property
    def host(self) -> str:
        """What people know the provider by."""
        return urlsplit(self.terms.issuer).netloc

    async def authorization_url(self, flow: Flow, redirect_uri: str) -> str:
        """Where a browser signs in.

        Raises:
            ProviderFailed: the provider cannot be asked, or has no such place.
        """
        metadata = await self._metadata()
        return prepare_grant_uri(
            checked(metadata.get("authorization_endpoint")),
            self.terms.client_id,
            "code",
            redirect_uri,
            SCOPE,
            flow.state,
            nonce=flow.nonce,
            code_challenge=create_s256_code_challenge(flow.verifier),
            code_challenge_method="S256",
        )

    async def account(self, flow: Flow, redirect_uri: str, code: str, named: str | None) -> Account:
        """Who came back with `code`.

        Args:
            named: the issuer that the answer names, if it names one.

        Raises:
            ProviderFailed: the provider cannot be asked, or not be believed.
        """
        metadata = await self._metadata()
        always_named = metadata.get("authorization_response_iss_parameter_supported") is True
        if named != self.terms.issuer and (named is not None or always_named):
            raise ProviderFailed("the answer is another provider's")
        told = await self._redeem(metadata, flow, redirect_uri, code)
        token, access_token = told.get("id_token"), told.get("access_token")
        if not isinstance(token, str):
            raise ProviderFailed("it sent no ID token: has the client the scope openid?")
        keys = await self._fetching.get(checked(metadata.get("jwks_uri")))
        terms, held = self.terms, access_token if isinstance(access_token, str) else None
        expected = Expected(terms.issuer, terms.client_id, flow.nonce, held, self._clock.now())
        return self._account(claims_of(token, keys, expected))

    def _account(self, claims: Mapping[str, Any]) -> Account:
        groups = groups_of(claims, self.terms.groups_claim)
        roles = frozenset(role for group, role in self.terms.roles.items() if group in groups)
        return Account(self.terms.issuer, subject_of(claims), confirmed_email(claims), groups, roles)

    async def _metadata(self) -> Mapping[str, Any]:
        now = self._clock.now()
        if self._known is not None and timedelta(0) <= now - self._known[0] < KEPT:
            return self._known[1]
        found = await self._fetching.get(get_well_known_url(self.terms.issuer, external=True))
        if found.get("issuer") != self.terms.issuer:  # Discovery, section 4.3: exactly
            raise ProviderFailed(
                "its metadata names another issuer than oidc.issuer: are they the same, to the letter?"
            )
        self._known = now, found
        return found

    async def _redeem(self, metadata: Mapping[str, Any], flow: Flow, redirect_uri: str, code: str) -> Mapping[str, Any]:
        url = checked(metadata.get("token_endpoint"))
        body = prepare_token_request(
            "authorization_code", redirect_uri=redirect_uri, code=code, code_verifier=flow.verifier
        )
        methods = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        basic = "client_secret_basic" in methods
        client_id, secret = self.terms.client_id, self.terms.client_secret
        if basic:  # RFC 6749, section 2.3.1: encoded as in a form, before base64
            client_id, secret = quote(client_id, safe=""), quote(secret, safe="")
        client = SimpleNamespace(client_id=client_id, client_secret=secret)
        prove = encode_client_secret_basic if basic else encode_client_secret_post
        _, headers, body = prove(client, "POST", url, dict(_FORM), body)
        return await self._fetching.post(url, body, headers)
