"""The pages of the record: the log with its filters, and one row with all that happened to its call.

What belongs here: gathering what they show. What does not: words (`broker.web.words`), markup (`templates/`), finding
rows (`broker.store.searching`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from sqlmodel import Session
from starlette.responses import Response

from broker.domain.audit import Kind
from broker.domain.searching import Outcome
from broker.errors import Invalid, NotFound
from broker.store import audit, searching
from broker.web.api import PAGE
from broker.web.identity import AskerOf, GuardedRoute
from broker.web.parts import PartsOf
from broker.web.queries import RowsAsked, RowsBefore, instant, row_number
from broker.web.templates import render_large

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)


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
        found = searching.page(session, wanted, before=before, limit=PAGE) if wanted else searching.Found([], None)
        stopped = found.next if found.next is not None and len(found.rows) < PAGE else None
        return {
            "rows": found.rows,
            "next": found.next,
            "stopped": audit.get(session, stopped) if stopped is not None else None,
            "labels": audit.labels_of(session, {row.grant for row in found.rows if row.grant is not None}),
            "head": audit.head(session),
        }

    found = await parts.store.read(look)
    query = {name: value for name, value in request.query_params.items() if value and name != "cursor"}
    following = urlencode(query | {"cursor": str(found["next"])}) if found["next"] is not None else None
    return await render_large(
        "audit.html",
        status=200 if mistake is None else 422,
        asker=asker,
        field=field,
        mistake=mistake,
        instants={name: _instant(name, query) for name in ("since", "until")},
        following=following,
        query=query,
        filters=urlencode(query),
        kinds=list(Kind),
        outcomes=list(Outcome),
        older=before is not None,
        walk=parts.chain.walk,
        **found,
    )


def _instant(name: str, query: Mapping[str, str]) -> datetime | None:
    """The instant that a field is set to, if it is one: another field may be the one that is wrong."""
    try:
        return instant(name, query.get(name))
    except Invalid:
        return None


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
        kept = audit.contents(session, row.call_id or "")
        return {"kept": kept, "history": history, "labels": labels, "head": audit.head(session)}

    found = await parts.store.read(look)
    return await render_large("audit_row.html", asker=asker, row=row, walk=parts.chain.walk, **found)
