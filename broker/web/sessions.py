"""The page of sessions: where somebody is signed in, and ending that; for administrators, everybody's.

What belongs here: listing and ending. What does not: how sessions begin (`broker.web.sign_in`, `broker.web.sign_on`).
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Form
from starlette.responses import RedirectResponse, Response

from broker.domain.people import Permission
from broker.errors import Forbidden
from broker.store import sessions
from broker.web.identity import AskerOf, GuardedRoute, cookie_name, drop
from broker.web.parts import PartsOf
from broker.web.templates import render

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)

_BROWSERS = (("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (
    *(("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows")),
    *(("Mac OS X", "macOS"), ("Linux", "Linux")),
)
"""What a User-Agent has in it, the more telling first: most browsers name others, too."""


def browser_name(user_agent: str | None) -> str | None:
    """What people call a browser, such as `Firefox on Linux`; it is the browser's own word, and only a reminder."""
    given = user_agent or ""
    browser = next((name for mark, name in _BROWSERS if mark in given), None)
    system = next((name for mark, name in _SYSTEMS if mark in given), None)
    if browser and system:
        return f"{browser} on {system}"
    return browser or system or (re.sub(r"[^ -~]", "?", given)[:80] or None)


@router.get("/sessions")
async def list_sessions(parts: PartsOf, asker: AskerOf) -> Response:
    """Where the asker is signed in, and where everybody is for who may end that."""
    now, me = parts.clock.now(), asker.person.email
    everybody = asker.may(Permission.ADMINISTER)
    mine, all_of_them = await parts.store.read(
        lambda session: (
            sessions.live(session, now, me),
            sessions.live(session, now) if everybody else [],
        )
    )
    others = [each for each in all_of_them if each.person != me]
    full = len(all_of_them) == sessions.MOST_LISTED
    return render("sessions.html", asker=asker, now=now, mine=mine, others=others, full=full)


@router.post("/sessions/end")
async def end(
    parts: PartsOf,
    asker: AskerOf,
    session: Annotated[str, Form(max_length=200)] = "",
    others: Annotated[bool, Form()] = False,
) -> Response:
    """End one of the asker's sessions, or anybody's for an administrator; or all `others` of the asker's."""
    if asker.channel != "web":
        raise Forbidden("Sessions are ended in a browser, not with an API token: nothing was done.")
    me, this = asker.person.email, asker.credential.id
    owner = None if asker.may(Permission.ADMINISTER) else me
    await parts.store.write(
        lambda tx: sessions.end_others(tx, me, this) if others else sessions.end(tx, me, session, owner), durable=True
    )
    answer = RedirectResponse("/sessions", 303)
    if session == this:
        drop(answer, parts, cookie_name(parts))
    return answer
