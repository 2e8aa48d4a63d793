"""The local provider refuses what a strict one refuses, so that who gets by it does it right."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
import pytest

from tests.clock import MovableClock
from tests.servers.oidc import CLIENT_ID, CLIENT_SECRET, Oidc, running_provider

BACK = "https://broker.example.com/sign-in/callback"
VERIFIER = "v" * 43
RIGHT = {
    "response_type": "code",
    "client_id": CLIENT_ID,
    "redirect_uri": BACK,
    "scope": "openid email",
    "state": "s" * 32,
    "nonce": "n" * 32,
    "code_challenge": urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode(),
    "code_challenge_method": "S256",
}


@pytest.fixture
async def oidc(clock: MovableClock) -> AsyncIterator[Oidc]:
    async with running_provider(clock, BACK) as provider:
        yield provider


async def code(oidc: Oidc, **instead: str) -> str | None:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{oidc.url}/authorize", params={**RIGHT, **instead}, allow_redirects=False) as answer,
    ):
        return parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0] if answer.status == 302 else None


async def redeem(oidc: Oidc, given: str | None, secret: str = CLIENT_SECRET, **instead: str) -> dict[str, Any]:
    form = {"grant_type": "authorization_code", "code": given, "redirect_uri": BACK, "code_verifier": VERIFIER}
    proof = aiohttp.encode_basic_auth(quote(CLIENT_ID, safe=""), quote(secret, safe=""))
    async with (
        aiohttp.ClientSession(headers={"Authorization": proof}) as http,
        http.post(f"{oidc.url}/token", data={**form, **instead}) as answer,
    ):
        return await answer.json()


async def test_what_is_right_gets_a_token_once(oidc: Oidc) -> None:
    given = await code(oidc)
    assert "id_token" in await redeem(oidc, given)
    assert await redeem(oidc, given) == {"error": "invalid_grant"}


@pytest.mark.parametrize("name", RIGHT)
async def test_a_request_that_is_wrong_in_one_thing_gets_no_code(oidc: Oidc, name: str) -> None:
    assert await code(oidc, **{name: "x" if name != "redirect_uri" else f"{BACK}/"}) is None
    assert oidc.refused == [name]


async def test_a_code_is_for_its_verifier_its_address_and_its_client(oidc: Oidc) -> None:
    given = await code(oidc)
    assert await redeem(oidc, given, code_verifier="w" * 43) == {"error": "invalid_grant"}
    assert await redeem(oidc, given, redirect_uri=f"{BACK}/") == {"error": "invalid_grant"}
    assert await redeem(oidc, given, secret="another") == {"error": "invalid_client"}
    assert await redeem(oidc, given, grant_type="password") == {"error": "unsupported_grant_type"}
    assert "id_token" in await redeem(oidc, given)
