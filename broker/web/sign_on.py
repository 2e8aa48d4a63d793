"""Signing in with the provider: out of this browser, and back into it.

What belongs here: the two pages, and the cookie that binds the answer to the browser that asked. What does not: what is
asked and what is believed (`broker.web.oidc`).

The cookie holds what the answer has to fit, for ten minutes, sealed: who has a code, or made somebody follow a link
with one, has no cookie for it. It is dropped with the first answer, good or not.
"""

from __future__ import annotations

import hmac
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from broker.domain.people import Account
from broker.domain.sealing import opened, sealed
from broker.domain.text import visible
from broker.errors import AccountRefused, BrokerError, ForgedForm, NotFound, ProviderFailed
from broker.store import sessions
from broker.web.identity import GuardedRoute, address_of, cookie_name, drop, keep
from broker.web.oidc.flow import Flow
from broker.web.parts import Parts, PartsOf
from broker.web.problems import status_of
from broker.web.sessions import browser_name
from broker.web.sign_in import SESSION_LIFETIME, local, page, signed_in

if TYPE_CHECKING:
    from broker.web.oidc.provider import Provider

log = logging.getLogger(__name__)

CALLBACK = "/sign-in/callback"
FLOW_LIFETIME = timedelta(minutes=10)

_COOKIE = "sign_in"

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)

Text = Annotated[str | None, Query(max_length=4000)]


@router.get("/sign-in/provider")
async def leave(
    request: Request, parts: PartsOf, after: Annotated[str, Query(alias="next", max_length=2000)] = "/"
) -> Response:
    """Send the browser to the provider. A GET, since a form may not lead to another host (`form-action`)."""
    provider = _provider(parts)
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        return page(parts, after=after)  # another site's page may bring people here, but not sign them in
    flow = Flow.new()
    try:
        url = await provider.authorization_url(flow, _callback(parts))
    except ProviderFailed as error:
        return _failed(parts, error, after)
    begun = {
        "state": flow.state,
        "nonce": flow.nonce,
        "verifier": flow.verifier,
        "next": local(after),
        "until": (parts.clock.now() + FLOW_LIFETIME).timestamp(),
    }
    answer = RedirectResponse(url, 303)
    keep(answer, parts, cookie_name(parts, _COOKIE), sealed(parts.keyring, _COOKIE, begun), FLOW_LIFETIME)
    return answer


@router.get(CALLBACK)
async def come_back(
    request: Request, parts: PartsOf, state: Text = None, code: Text = None, error: Text = None, iss: Text = None
) -> Response:
    """Take the provider's answer, once, in the browser that asked for it."""
    begun = _begun(request, parts, state)
    if begun is None:
        return _refused(
            parts, ForgedForm("This sign-in was not begun in this browser, or too long ago: begin again."), "/"
        )
    answer = await _answered(request, parts, begun, code, error, iss)
    drop(answer, parts, cookie_name(parts, _COOKIE))
    return answer


async def _answered(
    request: Request, parts: Parts, begun: dict[str, Any], code: str | None, error: str | None, iss: str | None
) -> Response:
    after, label = begun["next"], browser_name(request.headers.get("user-agent"))
    if code is None:
        said = visible(error or "it did not say why")[:100]
        return _refused(parts, AccountRefused(f"{_provider(parts).host} did not sign you in ({said})."), after)
    parts.wrong_answers.check(address_of(request))
    try:
        account = await _account(parts, begun, code, iss)
    except ProviderFailed as failed:
        parts.wrong_answers.failed(address_of(request))
        return _failed(parts, failed, after)
    try:
        new = await parts.store.write(lambda tx: sessions.open_for(tx, account, SESSION_LIFETIME, label), durable=True)
    except AccountRefused as refused:
        return _refused(parts, refused, after)
    return signed_in(parts, new, after)


async def _account(parts: Parts, begun: dict[str, Any], code: str, iss: str | None) -> Account:
    flow = Flow(begun["state"], begun["nonce"], begun["verifier"])
    return await _provider(parts).account(flow, _callback(parts), code, iss)


def _begun(request: Request, parts: Parts, state: str | None) -> dict[str, Any] | None:
    """What this browser began and `state` answers, if it did and not too long ago."""
    found = opened(parts.keyring, _COOKIE, request.cookies.get(cookie_name(parts, _COOKIE), ""))
    if found is None or state is None or not hmac.compare_digest(found["state"].encode(), state.encode()):
        return None
    return found if parts.clock.now().timestamp() < found["until"] else None


def _provider(parts: Parts) -> Provider:
    if parts.provider is None:
        raise NotFound("This broker has no provider to sign in with: ask an administrator for a sign-in link.")
    return parts.provider


def _callback(parts: Parts) -> str:
    return f"{parts.public_url}{CALLBACK}"


def _failed(parts: Parts, error: ProviderFailed, after: str) -> Response:
    log.warning("Signing in with %s failed: %s.", _provider(parts).host, error)
    trouble = f"Signing in with {_provider(parts).host} does not work now: {error}. You are not signed in."
    return page(parts, trouble=trouble, status=status_of(error), after=after)


def _refused(parts: Parts, error: BrokerError, after: str) -> Response:
    return page(parts, trouble=f"{error} You are not signed in.", status=status_of(error), after=after)
