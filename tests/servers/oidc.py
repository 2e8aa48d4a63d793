"""A strict local OpenID provider: discovery, one client, the authorization code flow with PKCE, and bad days.

What belongs here: what a provider checks of a client, and what it can be made to do wrong. What does not: any statement
about the broker.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlencode

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from broker.domain.clock import Clock

CLIENT_ID = "broker client"
CLIENT_SECRET = "pass:word/+ä"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Code:
    """One that was given out, and what it was given for."""

    redirect_uri: str
    challenge: str
    nonce: str
    used: bool = False


class Oidc:
    """The provider. Whoever comes is signed in as `account` at once.

    Attributes:
        account: claims of the account: `sub`, `email`, …
        redirect_uri: the one that is registered.
        claims: what an ID token says instead of what it should; None leaves a claim out.
        metadata: the same for the metadata.
        answer: the same for the answer that the browser brings back.
        sign: makes the token of header and claims; `self.signed` unless a test wants another.
        instead: handlers instead of the provider's own, by path.
        asked: the paths that were asked for, in their order.
        refused: why, of every request that was wrong.
    """

    def __init__(self, clock: Clock, redirect_uri: str) -> None:
        self.clock = clock
        self.redirect_uri = redirect_uri
        self.account: dict[str, Any] = {"sub": "u-1", "email": "approver@example.com", "email_verified": True}
        self.claims: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.answer: dict[str, str | None] = {}
        self.sign: Callable[[dict[str, Any]], str] = self.signed
        self.instead: dict[str, Handler] = {}
        self.asked: list[str] = []
        self.refused: list[str] = []
        self.codes: dict[str, Code] = {}
        self.auth_method = "client_secret_basic"
        self.keys: list[ECKey] = []
        self.url = ""
        self.rotate()
        self._runner = web.AppRunner(self._routes(), handle_signals=False, access_log=None, shutdown_timeout=0.1)

    async def come_up(self) -> None:
        """Listen, at the same port as before."""
        await self._runner.setup()
        port = int(self.url.rpartition(":")[2]) if self.url else 0
        await web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def go_down(self) -> None:
        """Refuse connections."""
        await self._runner.cleanup()

    # -- keys ----------------------------------------------------------------------------------------------------------

    def rotate(self) -> None:
        """Sign with a new key from now on, and publish only that."""
        self.keys = [ECKey.generate_key("P-256", {"kid": f"k{len(self.codes)}-{id(object())}", "use": "sig"})]

    def signed(self, claims: dict[str, Any], key: ECKey | None = None) -> str:
        """A token by the provider's key, or by another that says it is that."""
        return jwt.encode({"alg": "ES256", "kid": self.keys[0].kid}, claims, key or self.keys[0])

    def signed_by_stranger(self, claims: dict[str, Any]) -> str:
        """A token whose header names the provider's key and whose signature is another's."""
        return self.signed(claims, ECKey.generate_key("P-256"))

    def unsigned(self, claims: dict[str, Any]) -> str:
        """A token with `alg: none`."""
        return f"{_part({'alg': 'none', 'kid': self.keys[0].kid})}.{_part(claims)}."

    def signed_with_public_key(self, claims: dict[str, Any]) -> str:
        """A token with HS256, whose key is what everybody knows: the public key."""
        text = f"{_part({'alg': 'HS256', 'kid': self.keys[0].kid})}.{_part(claims)}"
        public = self.keys[0].as_pem(private=False)
        return f"{text}.{_base64(hmac.digest(public, text.encode(), 'sha256'))}"

    # -- endpoints -----------------------------------------------------------------------------------------------------

    def _routes(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._as_told(self._discover))
        app.router.add_get("/authorize", self._as_told(self._authorize))
        app.router.add_post("/token", self._as_told(self._redeem))
        app.router.add_get("/keys", self._as_told(self._keys))
        return app

    def _as_told(self, own: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.asked.append(request.path)
            return await self.instead.get(request.path, own)(request)

        return handle

    async def _discover(self, request: web.Request) -> web.StreamResponse:
        told: dict[str, Any] = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "token_endpoint_auth_methods_supported": [self.auth_method],
            "authorization_response_iss_parameter_supported": True,
            "id_token_signing_alg_values_supported": ["ES256"],
        }
        return web.json_response(_changed(told, self.metadata))

    async def _authorize(self, request: web.Request) -> web.StreamResponse:
        given = request.query
        wrong = [
            name
            for name, good in {
                "response_type": given.get("response_type") == "code",
                "client_id": given.get("client_id") == CLIENT_ID,
                "redirect_uri": given.get("redirect_uri") == self.redirect_uri,
                "scope": {"openid", "email"} <= set(given.get("scope", "").split()),
                "state": len(given.get("state", "")) >= 32,
                "nonce": len(given.get("nonce", "")) >= 32,
                "code_challenge": len(given.get("code_challenge", "")) == 43,
                "code_challenge_method": given.get("code_challenge_method") == "S256",
                "twice": len(given) == len(set(given)),
            }.items()
            if not good
        ]
        if wrong:
            self.refused.extend(wrong)
            return web.Response(status=400, text=f"wrong: {wrong}")
        code = f"code-{len(self.codes)}"
        self.codes[code] = Code(given["redirect_uri"], given["code_challenge"], given["nonce"])
        answer = _changed({"code": code, "state": given["state"], "iss": self.url}, self.answer)
        raise web.HTTPFound(f"{given['redirect_uri']}?{urlencode(answer)}")

    async def _redeem(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        code = self.codes.get(form.get("code", ""))
        challenge = _base64(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if not self._is_client(request, form):
            return self._refuse("invalid_client", 401)
        if form.get("grant_type") != "authorization_code":
            return self._refuse("unsupported_grant_type")
        if code is None or code.used:
            return self._refuse("invalid_grant")
        if form.get("redirect_uri") != code.redirect_uri or challenge != code.challenge:
            return self._refuse("invalid_grant")
        code.used = True
        token = self.sign(self._claims(code.nonce))
        return web.json_response({"access_token": "at", "token_type": "Bearer", "expires_in": 60, "id_token": token})

    def _claims(self, nonce: str) -> dict[str, Any]:
        now = int(self.clock.now().timestamp())
        own = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": nonce}
        return _changed({**own, "at_hash": _base64(hashlib.sha256(b"at").digest()[:16]), **self.account}, self.claims)

    def _is_client(self, request: web.Request, form: Mapping[str, str]) -> bool:
        if self.auth_method == "client_secret_post":
            return (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)
        kind, _, proof = request.headers.get("Authorization", "").partition(" ")
        name, _, secret = base64.b64decode(proof).decode().partition(":")
        return (kind, unquote(name), unquote(secret)) == (
            "Basic",
            CLIENT_ID,
            CLIENT_SECRET,
        ) and "client_secret" not in form

    def _refuse(self, error: str, status: int = 400) -> web.Response:
        self.refused.append(error)
        return web.json_response({"error": error}, status=status)

    async def _keys(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(KeySet(list(self.keys)).as_dict(private=False))


@contextlib.asynccontextmanager
async def running_provider(clock: Clock, redirect_uri: str) -> AsyncGenerator[Oidc]:
    """A provider on a free port of this machine."""
    provider = Oidc(clock, redirect_uri)
    await provider.come_up()
    try:
        yield provider
    finally:
        await provider.go_down()


def _changed(own: Mapping[str, Any], instead: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**own, **instead}.items() if value is not None}


def _part(value: Mapping[str, Any]) -> str:
    return _base64(json.dumps(value).encode())


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
