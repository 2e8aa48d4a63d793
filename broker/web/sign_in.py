"""Signing in by a one-time link, and signing out.

Looking at a link does not use it up, since mail and chat scanners look at links too; only the button does.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Query
from starlette.responses import RedirectResponse, Response

from broker.errors import Forbidden, NotFound
from broker.store import people
from broker.web.identity import AskerOf, GuardedRoute, cookie_name
from broker.web.parts import Parts, PartsOf
from broker.web.problems import status_of
from broker.web.templates import render

SESSION_LIFETIME = timedelta(hours=12)

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)


def local(address: str) -> str:
    """`address` when it is a path of this server, else `/`."""
    safe = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if safe and address.isascii() else "/"


@router.get("/sign-in")
async def sign_in_page(
    parts: PartsOf,
    token: Annotated[str, Query(max_length=200)] = "",
    after: Annotated[str, Query(alias="next", max_length=2000)] = "/",
) -> Response:
    """The page with the button, or how to get a link."""
    good = bool(token) and await _is_good(parts, token)
    state = "good" if good else "bad" if token else "none"
    return render("sign_in.html", status=404 if state == "bad" else 200, state=state, token=token, next=local(after))


@router.post("/sign-in")
async def sign_in(
    parts: PartsOf,
    token: Annotated[str, Form(max_length=200)] = "",
    after: Annotated[str, Form(alias="next", max_length=2000)] = "/",
) -> Response:
    """Use the link up and open a session."""
    if not await _is_good(parts, token):  # anybody may try, so only a good link costs a write
        return render("sign_in.html", status=404, state="bad", token="", next="/")
    try:
        new = await parts.store.write(lambda tx: people.use_link(tx, token, SESSION_LIFETIME), durable=True)
    except NotFound as error:
        return render("sign_in.html", status=status_of(error), state="bad", token="", next="/")
    answer = RedirectResponse(local(after), 303)
    answer.set_cookie(
        cookie_name(parts),
        new.secret,
        max_age=int(SESSION_LIFETIME.total_seconds()),
        path="/",
        secure=parts.https,
        httponly=True,
        samesite="lax",
    )
    return answer


@router.post("/sign-out")
async def sign_out(parts: PartsOf, asker: AskerOf) -> Response:
    """End the session."""
    if asker.channel != "web":
        raise Forbidden("This is an API token, not a session: `broker token revoke` ends it.")
    await parts.store.write(lambda tx: people.end(tx, asker.person.email, asker.credential.id), durable=True)
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(cookie_name(parts), path="/", secure=parts.https, httponly=True, samesite="lax")
    return answer


async def _is_good(parts: Parts, token: str) -> bool:
    now = parts.clock.now()
    return await parts.store.read(lambda session: people.link_is_good(session, token, now))
