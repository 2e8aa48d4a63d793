"""What is believed of a provider: its own word, about us, now; bounded whatever it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import web

from broker.domain.people import Account, Role
from broker.errors import ProviderFailed
from broker.web.oidc.flow import Flow
from broker.web.oidc.provider import KEPT, Provider, Terms
from tests.clock import MovableClock
from tests.servers import BOUND
from tests.servers.oidc import CLIENT_ID, CLIENT_SECRET, Oidc, running_provider
from tests.web.desk import URL

CALLBACK = f"{URL}/sign-in/callback"
DISCOVERY = "/.well-known/openid-configuration"


@pytest.fixture
async def oidc(clock: MovableClock) -> AsyncIterator[Oidc]:
    async with running_provider(clock, CALLBACK) as provider:
        yield provider


@pytest.fixture
async def provider(clock: MovableClock, oidc: Oidc) -> AsyncIterator[Provider]:
    terms = Terms(oidc.url, CLIENT_ID, CLIENT_SECRET, "groups", {"staff": Role.APPROVER})
    async with Provider(terms, clock, within=BOUND) as provider:
        yield provider


async def code_for(provider: Provider, flow: Flow) -> str:
    """What the provider sends a browser back with."""
    location = await provider.authorization_url(flow, CALLBACK)
    async with aiohttp.ClientSession() as http, http.get(location, allow_redirects=False) as answer:
        return parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]


async def account(provider: Provider, oidc_url: str) -> Account:
    """Who comes back."""
    flow = Flow.new()
    return await provider.account(flow, CALLBACK, await code_for(provider, flow), oidc_url)


async def is_not_believed(provider: Provider, why: str) -> None:
    with pytest.raises(ProviderFailed, match=why):
        await account(provider, provider.terms.issuer)


async def test_what_a_provider_says_of_an_account_is_taken_as_it_is(provider: Provider, oidc: Oidc) -> None:
    oidc.account |= {"groups": ["staff", "x" * 256, 7, ""], "aud": [CLIENT_ID], "azp": CLIENT_ID}
    roles = frozenset({Role.APPROVER})
    email = "approver@example.com"
    assert await account(provider, oidc.url) == Account(oidc.url, "u-1", email, frozenset({"staff"}), roles)


async def test_beginning_again_and_again_asks_the_provider_once_in_a_while(
    provider: Provider, oidc: Oidc, clock: MovableClock
) -> None:
    for _ in range(3):
        await provider.authorization_url(Flow.new(), CALLBACK)
    assert oidc.asked == [DISCOVERY]
    clock.advance(KEPT)
    await provider.authorization_url(Flow.new(), CALLBACK)
    assert oidc.asked == [DISCOVERY] * 2


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another client"},
        {"aud": [CLIENT_ID, "another client"]},
        {"aud": [CLIENT_ID, "another client"], "azp": "another client"},
        {"azp": "another client"},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": 0},
        {"exp": "tomorrow"},
        {"exp": None},
        {"iat": 99_999_999_999},
        {"nbf": 99_999_999_999},
        {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 256},
        {"sub": "nul\0"},
    ],
    ids=str,
)
async def test_a_token_that_says_something_else_signs_nobody_in(
    provider: Provider, oidc: Oidc, claims: dict[str, Any]
) -> None:
    oidc.claims |= claims
    await is_not_believed(provider, "ID token")


@pytest.mark.parametrize("how", ["unsigned", "signed_with_public_key", "signed_by_stranger", "nonsense", "encrypted"])
async def test_a_token_by_somebody_else_signs_nobody_in(provider: Provider, oidc: Oidc, how: str) -> None:
    nonsense = {"nonsense": "a.b", "encrypted": "a.b.c.d.e"}.get(how)
    oidc.sign = getattr(oidc, how) if nonsense is None else lambda _: nonsense
    await is_not_believed(provider, "not to be believed")


async def test_a_secret_that_stands_among_the_public_keys_signs_nothing(provider: Provider, oidc: Oidc) -> None:
    async def keys(_: web.Request) -> web.Response:
        return web.json_response({"keys": [{"kty": "oct", "k": "c2VjcmV0" * 8, "kid": oidc.keys[0].kid}]})

    oidc.instead["/keys"] = keys
    await is_not_believed(provider, "not to be believed")


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"authorization_endpoint": "http://evil.example/authorize"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "https://user@evil.example/"},
        {"authorization_endpoint": "//evil.example"},
        {"authorization_endpoint": 7},
        {"authorization_endpoint": None},
    ],
    ids=str,
)
async def test_metadata_of_somebody_else_leads_nowhere(
    provider: Provider, oidc: Oidc, metadata: dict[str, Any]
) -> None:
    oidc.metadata |= metadata
    with pytest.raises(ProviderFailed):
        await provider.authorization_url(Flow.new(), CALLBACK)


@pytest.mark.parametrize("where", ["token_endpoint", "jwks_uri"])
async def test_neither_secret_nor_keys_travel_without_tls(provider: Provider, oidc: Oidc, where: str) -> None:
    oidc.metadata[where] = "http://evil.example/x"
    await is_not_believed(provider, "not https")


async def slow(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


async def huge(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(32):
        await answer.write(b" " * 65536)
    return answer


async def elsewhere(_: web.Request) -> web.StreamResponse:
    raise web.HTTPTemporaryRedirect("http://127.0.0.1:9/")


async def markup(_: web.Request) -> web.StreamResponse:
    return web.Response(text="<script>alert(1)</script>", content_type="text/html")


async def deep(_: web.Request) -> web.StreamResponse:
    return web.Response(text="[" * 100_000, content_type="application/json")


async def broken(_: web.Request) -> web.StreamResponse:
    return web.json_response({"error": "trouble"}, status=500)


@pytest.mark.parametrize("path", [DISCOVERY, "/token", "/keys"])
@pytest.mark.parametrize("handler", [slow, huge, elsewhere, markup, deep, broken])
async def test_a_provider_that_misbehaves_costs_little_and_signs_nobody_in(
    provider: Provider, oidc: Oidc, clock: MovableClock, path: str, handler: Any
) -> None:
    flow = Flow.new()
    code = await code_for(provider, flow)
    oidc.instead[path] = handler
    within = 0.2 if handler is slow else BOUND
    async with Provider(provider.terms, clock, within=within) as patient_so_long:
        with pytest.raises(ProviderFailed, match=r"in time|reached|bytes|no object|\(trouble\)"):
            await patient_so_long.account(flow, CALLBACK, code, oidc.url)
