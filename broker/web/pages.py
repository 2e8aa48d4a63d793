"""The HTML pages: the queue, the audit log.

What belongs here: gathering what a page shows. What does not: one approval (`card`), words (`words`), markup
(`templates/`).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from sqlmodel import Session
from starlette.responses import Response

from broker.domain.approvals import State
from broker.domain.audit import Kind
from broker.domain.people import Permission, Person
from broker.errors import Invalid, NotFound
from broker.store import approvals as stored
from broker.store import audit
from broker.store.approvals import ApprovalFilter
from broker.web.api import PAGE
from broker.web.identity import AskerOf, GuardedRoute
from broker.web.parts import PartsOf
from broker.web.queries import RowsAsked, RowsBefore, row_number
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


@router.get("/audit")
async def audit_log(
    request: Request, parts: PartsOf, asker: AskerOf, asked: RowsAsked, before: RowsBefore = None
) -> Response:
    """What happened, newest first. A filter that makes no sense finds nothing and is marked in the form."""
    field, mistake = None, None
    try:
        wanted = asked()
    except Invalid as error:
        wanted = None
        field, _, mistake = str(error).partition(": ")

    def look(session: Session) -> dict[str, Any]:
        rows = audit.page(session, wanted, before=before, limit=PAGE + 1) if wanted is not None else []
        calls = {row.call_id for row in rows[:PAGE] if row.call_id is not None}
        labels = audit.labels_of(session, {row.grant for row in rows[:PAGE] if row.grant is not None})
        kept = audit.contents_of(session, calls)
        return {"rows": rows, "kept": kept, "labels": labels, "head": audit.head(session)}

    found = await parts.store.read(look)
    rows = found.pop("rows")
    query = {name: value for name, value in request.query_params.items() if value and name != "cursor"}
    following = urlencode(query | {"cursor": str(rows[PAGE - 1].seq)}) if len(rows) > PAGE else None
    return await render_large(
        "audit.html",
        status=200 if mistake is None else 422,
        asker=asker,
        field=field,
        mistake=mistake,
        rows=rows[:PAGE],
        following=following,
        query=query,
        filters=urlencode(query),
        kinds=list(Kind),
        older=before is not None,
        **found,
    )


@router.get("/audit/{seq}")
async def audit_row(parts: PartsOf, asker: AskerOf, seq: str) -> Response:
    """One row with all that happened to its call, and all that is kept of it."""
    number = row_number(seq)
    row = await parts.store.read(lambda session: audit.get(session, number))
    if row is None:
        raise NotFound(f"There is no row {number}.")

    def look(session: Session) -> dict[str, Any]:
        history = audit.history(session, row.call_id, row.approval_id)
        labels = audit.labels_of(session, {each.grant for each in history if each.grant is not None})
        return {"kept": audit.contents(session, row.call_id or ""), "history": history, "labels": labels}

    return await render_large("audit_row.html", asker=asker, row=row, **await parts.store.read(look))
