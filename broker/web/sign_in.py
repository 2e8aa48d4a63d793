"""Signing in by a one-time link, and signing out.

Looking at a link does not use it up, since mail and chat scanners look at links too; only the button does. What does
not belong here: signing in with a provider (`broker.web.sign_on`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from broker.errors import Forbidden, NotFound
from broker.store import people
from broker.store.people import NewCredential
from broker.web.identity import AskerOf, GuardedRoute, address_of, cookie_name, drop, keep
from broker.web.parts import Parts, PartsOf
from broker.web.problems import status_of
from broker.web.sessions import browser_name
from broker.web.templates import render

SESSION_LIFETIME = timedelta(hours=12)
"""How long a session lasts, used or not: a working day."""

USED = "This sign-in link was used already or is too old. You are not signed in."

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)


def local(address: str) -> str:
    """`address` when it is a path of this server, else `/`."""
    safe = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if safe and address.isascii() else "/"


def page(parts: Parts, *, trouble: str | None = None, status: int = 200, after: str = "/") -> Response:
    """The ways to sign in.

    Args:
        trouble: why one that was tried does not work, as whole sentences.
        after: where to go then.
    """
    host = parts.provider.host if parts.provider is not None else None
    return render("sign_in.html", status=status, trouble=trouble, host=host, next=local(after), owner=None)


def signed_in(parts: Parts, new: NewCredential, after: str) -> Response:
    """The answer to whom the session `new` is."""
    answer = RedirectResponse(local(after), 303)
    keep(answer, parts, cookie_name(parts), new.secret, SESSION_LIFETIME)
    return answer


@router.get("/sign-in")
async def sign_in_page(
    request: Request,
    parts: PartsOf,
    token: Annotated[str, Query(max_length=200)] = "",
    after: Annotated[str, Query(alias="next", max_length=2000)] = "/",
) -> Response:
    """The page with the button, or the ways to sign in."""
    if not token:
        return page(parts, after=after)
    owner = await _owner(request, parts, token)
    if owner is None:
        return page(parts, trouble=USED, status=404, after=after)
    return render("sign_in.html", owner=owner, token=token, next=local(after))


@router.post("/sign-in")
async def sign_in(
    request: Request,
    parts: PartsOf,
    token: Annotated[str, Form(max_length=200)] = "",
    after: Annotated[str, Form(alias="next", max_length=2000)] = "/",
) -> Response:
    """Use the link up and open a session."""
    if await _owner(request, parts, token) is None:  # anybody may try, so only a good link costs a write
        return page(parts, trouble=USED, status=404, after=after)
    label = browser_name(request.headers.get("user-agent"))
    try:
        new = await parts.store.write(lambda tx: people.use_link(tx, token, SESSION_LIFETIME, label), durable=True)
    except NotFound as error:
        return page(parts, trouble=USED, status=status_of(error), after=after)
    return signed_in(parts, new, after)


@router.post("/sign-out")
async def sign_out(parts: PartsOf, asker: AskerOf) -> Response:
    """End the session."""
    if asker.channel != "web":
        raise Forbidden("This is an API token, not a session: `broker token revoke` ends it.")
    await parts.store.write(lambda tx: people.end(tx, asker.person.email, asker.credential.id), durable=True)
    answer = RedirectResponse("/sign-in", 303)
    drop(answer, parts, cookie_name(parts))
    return answer


async def _owner(request: Request, parts: Parts, token: str) -> str | None:
    """Whom the link signs in; one that signs nobody in counts as an attempt."""
    now = parts.clock.now()
    owner = await parts.store.read(lambda session: people.owner_of_link(session, token, now))
    if owner is None:
        parts.wrong_secrets.failed(address_of(request))
    return owner
