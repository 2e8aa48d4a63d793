"""The page of the queue.

What belongs here: gathering what it shows. What does not: one approval (`card`), the record (`audit_pages`), words
(`words`), markup (`templates/`).
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from sqlmodel import Session
from starlette.responses import Response

from broker.domain.approvals import State
from broker.domain.people import Permission, Person
from broker.store import approvals as stored
from broker.store.approvals import ApprovalFilter
from broker.web.identity import AskerOf, GuardedRoute
from broker.web.parts import PartsOf
from broker.web.templates import render_large
from broker.web.visibility import visible_page

MOST_WAITING = 100
LATELY = 10

_WAITING = ApprovalFilter(states=(State.PENDING,))
_DECIDED = ApprovalFilter(states=tuple(state for state in State if state is not State.PENDING))

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)


@router.get("/")
async def queue(parts: PartsOf, asker: AskerOf) -> Response:
    """What waits for a person, and what was decided lately."""
    found = await parts.store.read(lambda session: _queue(session, asker.person))
    return await render_large("queue.html", asker=asker, now=parts.clock.now(), **found)


def _queue(session: Session, person: Person) -> dict[str, Any]:
    waiting = visible_page(session, person, _WAITING, limit=MOST_WAITING)
    lately = visible_page(session, person, _DECIDED, limit=LATELY)
    if person.may(Permission.SEE_QUEUE):
        total, last = stored.count(session, _WAITING), stored.last_held(session)
    else:
        own = visible_page(session, person, ApprovalFilter(), limit=1).items
        total, last = len(waiting.items), own[0].created_at if own else None
    return {"waiting": waiting.items, "total": total, "lately": lately.items, "last_held": last}
