"""Who asks, and whether they may: one table says what each route needs, and no route exists without a line in it.

What belongs here: session cookies, API tokens, form tokens, permissions of routes. What does not: which approvals
somebody sees (`broker.web.visibility`), who may decide one (`broker.domain.reviewers`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from broker.domain.people import Permission, Person
from broker.errors import Forbidden, ForgedForm, NotSignedIn
from broker.store import people
from broker.store.people import Credential, CredentialKind
from broker.web.parts import Parts, parts_of

PERMISSIONS: dict[tuple[str, str], Permission] = {
    ("GET", "/healthz"): Permission.ANYONE,
    ("GET", "/readyz"): Permission.ANYONE,
    ("GET", "/api/openapi.json"): Permission.ANYONE,
    ("GET", "/api/v1/policies/schema"): Permission.ANYONE,
    ("GET", "/api/v1/approvals"): Permission.SIGNED_IN,
    ("GET", "/api/v1/approvals/{approval_id}"): Permission.SIGNED_IN,
    ("POST", "/api/v1/approvals/{approval_id}/decision"): Permission.DECIDE,
    ("POST", "/api/v1/approvals/{approval_id}/withdraw"): Permission.ADMINISTER,
    ("POST", "/api/v1/approvals/{approval_id}/forget"): Permission.DECIDE,
    ("GET", "/api/v1/audit"): Permission.SEE_AUDIT,
    ("GET", "/api/v1/audit/export"): Permission.SEE_AUDIT,
    ("GET", "/api/v1/audit/head"): Permission.SEE_AUDIT,
    ("GET", "/api/v1/events"): Permission.SEE_QUEUE,
    ("GET", "/api/v1/policies"): Permission.SEE_POLICIES,
    ("GET", "/"): Permission.SIGNED_IN,
    ("GET", "/queue/events"): Permission.SEE_QUEUE,
    ("POST", "/decisions"): Permission.DECIDE,
    ("GET", "/approvals/{approval_id}"): Permission.SIGNED_IN,
    ("GET", "/approvals/{approval_id}/confirm"): Permission.SIGNED_IN,
    ("GET", "/approvals/{approval_id}/{part}.json"): Permission.SIGNED_IN,
    ("GET", "/approvals/{approval_id}/pictures/{digest}"): Permission.SIGNED_IN,
    ("POST", "/approvals/{approval_id}/decision"): Permission.DECIDE,
    ("POST", "/approvals/{approval_id}/withdraw"): Permission.ADMINISTER,
    ("POST", "/approvals/{approval_id}/forget"): Permission.DECIDE,
    ("GET", "/audit"): Permission.SEE_AUDIT,
    ("GET", "/audit/{seq}"): Permission.SEE_AUDIT,
    ("GET", "/policies"): Permission.SEE_POLICIES,
    ("GET", "/sessions"): Permission.SIGNED_IN,
    ("POST", "/sessions/end"): Permission.SIGNED_IN,
    ("GET", "/sign-in"): Permission.ANYONE,
    ("POST", "/sign-in"): Permission.ANYONE,
    ("GET", "/sign-in/provider"): Permission.ANYONE,
    ("GET", "/sign-in/callback"): Permission.ANYONE,
    ("POST", "/sign-out"): Permission.SIGNED_IN,
}
"""What each route asks for. `SIGNED_IN` on approvals: everybody sees those of their own grants."""

_UNKNOWN = "This API token is unknown or revoked: `broker token create EMAIL --label L` makes another."

CSRF_FIELD = "csrf"
CSRF_HEADER = "X-CSRF-Token"


@dataclass(frozen=True, slots=True)
class Asker:
    """Somebody who proved who they are. `channel` is `web` for a browser session, `api` for a token."""

    person: Person
    credential: Credential
    secret: str
    csrf: str

    @property
    def channel(self) -> str:
        """Where their reviews come from."""
        return "web" if self.credential.kind is CredentialKind.SESSION else "api"

    def may(self, permission: str) -> bool:
        """Whether they may do what is named, for templates."""
        return self.person.may(Permission(permission))


class GuardedRoute(APIRoute):
    """A route that asks who is there before it reads anything else of the request.

    Raises:
        KeyError: at start, when `PERMISSIONS` has no line for it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind the check."""
        needed = {method: PERMISSIONS[method, self.path] for method in self.methods or ()}
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            await _admit(request, needed[request.method])
            return await handle(request)

        return guarded


async def _admit(request: Request, permission: Permission) -> None:
    if permission is Permission.ANYONE:
        return
    parts = parts_of(request)
    asker = await identify(request, parts)
    if asker is None and "authorization" in request.headers:
        parts.wrong_secrets.failed(address_of(request))
        raise NotSignedIn(_UNKNOWN)
    if asker is None:
        raise NotSignedIn
    request.state.asker = asker
    if not asker.person.may(permission):
        raise Forbidden
    if request.method != "GET" and asker.channel == "web":
        await _check_form(request, parts, asker)


async def identify(request: Request, parts: Parts) -> Asker | None:
    """Who sent `request`: by its API token, else by its session cookie. A wrong token is not mended by a cookie."""
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        return await _known(parts, CredentialKind.TOKEN, token.strip()) if scheme.lower() == "bearer" else None
    cookie = request.cookies.get(cookie_name(parts))
    return await _known(parts, CredentialKind.SESSION, cookie) if cookie else None


def address_of(request: Request) -> str:
    """Where `request` came from; behind a proxy, from the proxy: what it says of others would be anybody's word."""
    return request.client.host if request.client is not None else ""


def cookie_name(parts: Parts, what: str = "session") -> str:
    """The cookie of `what`; over TLS with the prefix that keeps other hosts and plain HTTP from setting it."""
    return f"__Host-broker_{what}" if parts.https else f"broker_{what}"


def keep(answer: Response, parts: Parts, name: str, value: str, lifetime: timedelta) -> None:
    """Let a browser keep a cookie: for this host, unseen by scripts, and not sent with what other sites' pages do."""
    answer.set_cookie(
        name,
        value,
        max_age=int(lifetime.total_seconds()),
        path="/",
        secure=parts.https,
        httponly=True,
        samesite="lax",  # not strict: a link in a message leads to a card, and a provider leads back here
    )


def drop(answer: Response, parts: Parts, name: str) -> None:
    """Let a browser forget it."""
    answer.delete_cookie(name, path="/", secure=parts.https, httponly=True, samesite="lax")


def form_token(parts: Parts, credential: Credential) -> str:
    """What proves that a form came from a page of this session."""
    return parts.keyring.sign("csrf", credential.id.encode())


async def _known(parts: Parts, kind: CredentialKind, secret: str) -> Asker | None:
    now = parts.clock.now()
    found = await parts.store.read(lambda session: people.authenticate(session, kind, secret, now))
    if found is None:
        return None
    person, credential = found
    return Asker(person, credential, secret, form_token(parts, credential))


async def _check_form(request: Request, parts: Parts, asker: Asker) -> None:
    given = request.headers.get(CSRF_HEADER)
    if given is None and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        field = (await request.form()).get(CSRF_FIELD)
        given = field if isinstance(field, str) else None
    if given is None or not parts.keyring.verify("csrf", asker.credential.id.encode(), given):
        raise ForgedForm


def asker_of(request: Request) -> Asker:
    """Who sent `request`, on a route that needs somebody."""
    return request.state.asker


AskerOf = Annotated[Asker, Depends(asker_of)]
