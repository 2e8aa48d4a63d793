"""Deciding several approvals at once, with one reason.

What belongs here: a batch as its form sends it, and what became of each. What does not: one decision (`decisions`, and
`broker.approvals.reviews` that takes each word by itself: a batch is no transaction).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form
from pydantic import ValidationError
from starlette.responses import Response

from broker.domain.approvals import Approval, Decision, State
from broker.domain.standing import standing
from broker.errors import BrokerError, Invalid
from broker.store import listed as lists
from broker.store.listed import Listed
from broker.web.card import needs_confirmation
from broker.web.decisions import DecisionBody
from broker.web.identity import Asker, AskerOf, GuardedRoute
from broker.web.parts import Parts, PartsOf
from broker.web.problems import sentence_of
from broker.web.sign_in import local
from broker.web.templates import render_large
from broker.web.visibility import sees

MOST = 100
"""How many may be decided at once; a page shows fewer."""

_NOT_TAKEN = ("not taken", "doubt")
_CRITICAL = "A critical call is approved by itself, on its own page: nothing was decided."

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one approval of a batch.

    Args:
        listed: None when it is not theirs to see.
        tag: in a word, and `tone` its colour.
        sentence: what else there is to say.
    """

    listed: Listed | None
    tag: str
    tone: str
    sentence: str


@router.post("/decisions")
async def decide(
    parts: PartsOf,
    asker: AskerOf,
    item: Annotated[list[str], Form(max_length=MOST)] = [],  # noqa: B006 - FastAPI copies it
    decision: Annotated[str, Form()] = "",
    reason: Annotated[str | None, Form()] = None,
    back: Annotated[str, Form(max_length=4000)] = "/",
) -> Response:
    """Approve or reject what was selected; each `item` is an id and the revision that was shown."""
    if not item:
        raise Invalid("Nothing was selected: nothing was decided.")
    if not decision:
        raise Invalid("It was said neither to approve nor to reject: nothing was decided.")
    shown = (each.partition(" ") for each in item)
    words = {approval: _word(decision, revision, reason) for approval, _, revision in shown}
    listed = await parts.store.read(lambda session: lists.by_ids(session, words))
    known = {each.approval.id: each for each in listed if sees(asker.person, each.approval)}
    deciding = (_outcome(parts, asker, approval, word, known.get(approval)) for approval, word in words.items())
    outcomes = await asyncio.gather(*deciding)
    approves = decision == Decision.APPROVE
    return await render_large("batch.html", asker=asker, approves=approves, outcomes=outcomes, back=local(back))


def _word(decision: str, revision: str, reason: str | None) -> DecisionBody:
    if not revision:
        raise Invalid("What was selected does not say what was shown: nothing was decided. Reload, and select again.")
    try:
        return DecisionBody.model_validate({"decision": decision, "revision": revision, "reason": reason})
    except ValidationError as error:
        raise Invalid(sentence_of(error.errors()[0])) from error


async def _outcome(parts: Parts, asker: Asker, approval_id: str, word: DecisionBody, listed: Listed | None) -> Outcome:
    if listed is None:
        return Outcome(None, *_NOT_TAKEN, "There is no such approval, or it is not yours to see.")
    if word.decision is Decision.APPROVE and needs_confirmation(listed.approval):
        return Outcome(listed, *_NOT_TAKEN, _CRITICAL)
    try:
        approval = await parts.approvals.reviews.review(
            approval_id, asker.person, word.decision, channel=asker.channel, revision=word.revision, reason=word.reason
        )
    except BrokerError as error:
        return Outcome(listed, *_NOT_TAKEN, str(error))
    return Outcome(listed, *_taken(approval, word))


def _taken(approval: Approval, word: DecisionBody) -> tuple[str, str, str]:
    if word.decision is Decision.REJECT:
        return "rejected", "refused", "Nothing runs. The agent is told."
    if approval.state is State.PENDING:
        return "approved", "waits", f"{standing(approval).votes} approved: it still waits for others."
    return "approved", "ran", ""
