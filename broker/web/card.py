"""The card of one approval: its page, its forms, and the files that it leads to.

What belongs here: gathering what the card shows, in a bounded number of bytes, and taking what its forms send. What
does not: what may still be done (`voting`), what surrounds the call (`surroundings`), the tree of a value (`tree`),
markup (`templates/`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form
from pydantic import ValidationError
from sqlmodel import Session
from starlette.responses import RedirectResponse, Response

from broker.domain.approvals import Approval, Decision, State
from broker.domain.audit import Row
from broker.domain.calls import Risk
from broker.domain.people import Person
from broker.domain.values import answer_values
from broker.errors import Invalid, NotFound, ReviewRefused, TransitionRefused
from broker.store import audit, people
from broker.web.api import seen_by
from broker.web.decisions import DecisionBody
from broker.web.identity import Asker, AskerOf, GuardedRoute
from broker.web.parts import Parts, PartsOf
from broker.web.pictures import pictures, unpacked
from broker.web.problems import sentence_of, status_of
from broker.web.surroundings import Decisions, Hour, decisions, hour
from broker.web.templates import render
from broker.web.text import sizes
from broker.web.told import risk_reasons, told_of
from broker.web.tree import tree
from broker.web.voting import possible, voters

CALL_ROOM, ANSWER_ROOM, HINTS_ROOM = 28_000, 12_000, 1_500
"""Bytes of HTML for what is called, what came back, and the server's annotations: a page has 100 kB in all."""

MOST_HISTORY = 20
"""Rows of the call's own history on the card, the latest."""

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)


@router.get("/approvals/{approval_id}")
async def card(parts: PartsOf, asker: AskerOf, approval_id: str) -> Response:
    """One approval: what will run, why it is held, who decides, and what became of it."""
    return await _card(parts, asker, await seen_by(parts, asker.person, approval_id))


@router.get("/approvals/{approval_id}/confirm")
async def confirm(parts: PartsOf, asker: AskerOf, approval_id: str) -> Response:
    """The same with the second step of a critical call's approval."""
    return await _card(parts, asker, await seen_by(parts, asker.person, approval_id), confirming=True)


@router.post("/approvals/{approval_id}/decision")
async def decide(
    parts: PartsOf,
    asker: AskerOf,
    approval_id: str,
    decision: Annotated[str, Form()] = "",
    revision: Annotated[str | None, Form()] = None,
    reason: Annotated[str | None, Form()] = None,
    confirmed: Annotated[str | None, Form()] = None,
) -> Response:
    """Approve or reject from the card's form. To approve a critical call takes a second step, which sends the revision
    as `confirmed`: without it nothing is decided, and that step is asked for."""
    try:
        word = DecisionBody.model_validate({"decision": decision, "revision": revision, "reason": reason})
    except ValidationError as error:
        raise Invalid(sentence_of(error.errors()[0])) from error
    if word.decision is Decision.APPROVE:
        approval = await seen_by(parts, asker.person, approval_id)
        if needs_confirmation(approval) and confirmed != approval.revision:
            return RedirectResponse(f"/approvals/{approval_id}/confirm", 303)
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


@router.get("/approvals/{approval_id}/{part}.json")
async def whole(parts: PartsOf, asker: AskerOf, approval_id: str, part: Literal["call", "answer"]) -> Response:
    """All of the call, or of what the server answered, in ASCII: what would not be seen is an escape."""
    approval = await seen_by(parts, asker.person, approval_id)
    value = dict(approval.call.params) if part == "call" else await _answer(parts, approval)
    if value is None:
        raise NotFound("No answer of the server is kept.")
    return Response(json.dumps(value, indent=2, allow_nan=False), media_type="application/json")


@router.get("/approvals/{approval_id}/pictures/{digest}")
async def picture(parts: PartsOf, asker: AskerOf, approval_id: str, digest: str) -> Response:
    """A picture of the call or of its answer, as what its own bytes say that it is."""
    approval = await seen_by(parts, asker.person, approval_id)
    for value in (dict(approval.call.params), await _answer(parts, approval)):
        for found in pictures(value):
            if found.digest == digest:
                return Response(found.content, media_type=found.media_type)
    raise NotFound("There is no such picture in this call.")


async def _answer(parts: Parts, approval: Approval) -> Any:
    return (await parts.store.read(lambda session: audit.contents(session, approval.call.id))).get("result")


def needs_confirmation(approval: Approval) -> bool:
    """Whether approving takes a second, deliberate step."""
    return approval.risk is Risk.CRITICAL and approval.state is State.PENDING


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


@dataclass(frozen=True, slots=True)
class _Found:
    """What the store has for a card."""

    history: list[Row]
    kept: dict[str, Any]
    everyone: list[Person]
    decisions: Decisions
    hour: Hour


async def _card(
    parts: Parts,
    asker: Asker,
    approval: Approval,
    *,
    confirming: bool = False,
    note: str | None = None,
    status: int = 200,
) -> Response:
    def look(session: Session) -> _Found:
        history = audit.history(session, approval.call.id, approval.id)
        return _Found(
            history,
            audit.contents(session, approval.call.id),
            people.everyone(session),
            decisions(session, asker.person, approval),
            hour(session, asker.person, approval, history),
        )

    found = await parts.store.read(look)
    return await asyncio.to_thread(_page, parts, asker, approval, found, confirming, note, status)


def _page(
    parts: Parts, asker: Asker, approval: Approval, found: _Found, confirming: bool, note: str | None, status: int
) -> Response:
    now, said, answer = parts.clock.now(), told_of(approval.definition), found.kept.get("result")
    arguments = approval.call.params.get("arguments", {})
    shown = tree({"arguments": arguments, **approval.call.beside}, CALL_ROOM + (ANSWER_ROOM if answer is None else 0))
    (_, called), *beside = shown.members
    return render(
        "approval.html",
        status=status,
        asker=asker,
        now=now,
        approval=approval,
        critical=needs_confirmation(approval),
        confirming=confirming and needs_confirmation(approval),
        shown=shown,
        arguments=called,
        beside=beside,
        long=sizes(approval.call.arguments),
        told=said,
        hints=tree(said.others, HINTS_ROOM),
        risk_reasons=list(risk_reasons(approval, said)),
        history=found.history,
        latest=found.history[-MOST_HISTORY:],
        answer=tree([unpacked(value) for value in answer_values(answer)], ANSWER_ROOM) if answer is not None else None,
        steps=found.kept.get("explanation", []),
        decisions=found.decisions,
        hour=found.hour,
        voters=voters(approval, found.everyone),
        possible=possible(approval, asker, now, parts.approvals.rules.reject_memory),
        own=next((given for given in approval.reviews if given.by == asker.person.email), None),
        note=note,
    )
