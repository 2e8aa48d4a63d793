"""The HTML pages: the queue and one approval.

What belongs here: gathering what a page shows. What does not: words (`words`), markup (`templates/`), the
record (`audit_pages`).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Any

from fastapi import APIRouter, Form
from pydantic import ValidationError
from sqlmodel import Session
from starlette.responses import RedirectResponse, Response

from broker.domain.approvals import Approval, Decision, State
from broker.domain.audit import Row
from broker.domain.people import Permission, Person
from broker.errors import Invalid, ReviewRefused, TransitionRefused
from broker.store import approvals as stored
from broker.store import audit, people
from broker.store.approvals import ApprovalFilter
from broker.web.api import seen_by
from broker.web.cards import possible, voters
from broker.web.decisions import DecisionBody
from broker.web.identity import Asker, AskerOf, GuardedRoute
from broker.web.parts import Parts, PartsOf
from broker.web.problems import sentence_of, status_of
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
    told = (await parts.channels()).values() if asker.may(Permission.SEE_QUEUE) else ()
    troubles = [channel["error"] for channel in told if not channel["ok"]]
    return await render_large("queue.html", asker=asker, now=parts.clock.now(), troubles=troubles, **found)


def _queue(session: Session, person: Person) -> dict[str, Any]:
    waiting = visible_page(session, person, _WAITING, limit=MOST_WAITING)
    lately = visible_page(session, person, _DECIDED, limit=LATELY)
    if person.may(Permission.SEE_QUEUE):
        total, last = stored.count(session, _WAITING), stored.last_held(session)
    else:
        own = visible_page(session, person, ApprovalFilter(), limit=1).items
        total, last = len(waiting.items), own[0].created_at if own else None
    return {"waiting": waiting.items, "total": total, "lately": lately.items, "last_held": last}


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
    now = parts.clock.now()
    return await render_large(
        "approval.html",
        status=status,
        asker=asker,
        now=now,
        approval=approval,
        arguments=approval.call.named_arguments,
        beside=approval.call.beside,
        told=(approval.definition or {}).get("description"),
        history=history,
        answer=kept.get("result"),
        steps=kept.get("explanation", []),
        voters=voters(approval, everyone),
        possible=possible(approval, asker, now, parts.approvals.rules.reject_memory),
        own=next((given for given in approval.reviews if given.by == asker.person.email), None),
        note=note,
    )
