"""The HTML pages of one approval and of the audit log.

What belongs here: gathering what a page shows. What does not: the queue (`queue`), words (`words`), markup
(`templates/`).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from pydantic import ValidationError
from sqlmodel import Session
from starlette.responses import RedirectResponse, Response

from broker.domain.approvals import Approval, Decision
from broker.domain.audit import Kind, Row
from broker.domain.people import Person
from broker.errors import Invalid, NotFound, ReviewRefused, TransitionRefused
from broker.store import audit, people
from broker.web.api import PAGE, seen_by
from broker.web.cards import possible, voters
from broker.web.decisions import DecisionBody
from broker.web.identity import Asker, AskerOf, GuardedRoute
from broker.web.parts import Parts, PartsOf
from broker.web.presentation import other_params
from broker.web.problems import sentence_of, status_of
from broker.web.queries import RowsAsked, RowsBefore, row_number
from broker.web.templates import render_large

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)


@router.get("/approvals/{approval_id}")
async def card(parts: PartsOf, asker: AskerOf, approval_id: str) -> Response:
    """One approval: what will run, why it is held, who decides, and what became of it."""
    return await _card(parts, asker, await seen_by(parts, asker.person, approval_id))


@router.post("/approvals/{approval_id}/decision")
async def decide(
    parts: PartsOf,
    asker: AskerOf,
    approval_id: str,
    decision: Annotated[str, Form()] = "",
    revision: Annotated[str | None, Form()] = None,
    reason: Annotated[str | None, Form()] = None,
) -> Response:
    """Approve or reject from the card's form."""
    try:
        word = DecisionBody.model_validate({"decision": decision, "revision": revision, "reason": reason})
    except ValidationError as error:
        raise Invalid(sentence_of(error.errors()[0])) from error
    deciding = parts.approvals.reviews.review(
        approval_id, asker.person, word.decision, channel=asker.channel, revision=word.revision, reason=word.reason
    )
    given = "approval" if word.decision is Decision.APPROVE else "rejection"
    return await _done(parts, asker, approval_id, deciding, f"Your {given} was not taken")


@router.post("/approvals/{approval_id}/withdraw")
async def withdraw(parts: PartsOf, asker: AskerOf, approval_id: str) -> Response:
    """End what must not run, from the card's form."""
    withdrawing = parts.approvals.reviews.withdraw(approval_id, asker.person)
    return await _done(parts, asker, approval_id, withdrawing, "It was not withdrawn")


@router.post("/approvals/{approval_id}/forget")
async def forget(parts: PartsOf, asker: AskerOf, approval_id: str) -> Response:
    """Forget a rejection, from the card's form."""
    forgetting = parts.approvals.reviews.forget(approval_id, asker.person)
    return await _done(parts, asker, approval_id, forgetting, "The rejection was not forgotten")


async def _done(parts: Parts, asker: Asker, approval_id: str, doing: Awaitable[Approval], failed: str) -> Response:
    """Back to the card; when it was refused, the card with what `failed` and why."""
    try:
        await doing
    except (ReviewRefused, TransitionRefused) as error:
        approval = await seen_by(parts, asker.person, approval_id)
        why = str(error)
        note = f"{failed}: {why[0].lower()}{why[1:]}"
        return await _card(parts, asker, approval, note=note, status=status_of(error))
    return RedirectResponse(f"/approvals/{approval_id}", 303)


async def _card(
    parts: Parts, asker: Asker, approval: Approval, *, note: str | None = None, status: int = 200
) -> Response:
    def look(session: Session) -> tuple[list[Row], dict[str, Any], list[Person]]:
        call_id = approval.call.id
        rows = audit.history(session, call_id, approval.id)
        return rows, audit.contents(session, call_id), people.everyone(session)

    history, kept, everyone = await parts.store.read(look)
    now, arguments = parts.clock.now(), approval.call.params.get("arguments", {})
    return await render_large(
        "approval.html",
        status=status,
        asker=asker,
        now=now,
        approval=approval,
        arguments=arguments if isinstance(arguments, dict) else {"arguments": arguments},
        beside=other_params(approval),
        told=(approval.definition or {}).get("description"),
        history=history,
        answer=kept.get("result"),
        steps=kept.get("explanation", []),
        voters=voters(approval, everyone),
        possible=possible(approval, asker, now, parts.approvals.rules.reject_memory),
        own=next((given for given in approval.reviews if given.by == asker.person.email), None),
        note=note,
    )


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
