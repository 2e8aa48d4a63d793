"""The JSON API under /api/v1, and the probes.

What belongs here: from a request to a call of the broker's parts, and back to JSON. What does not: shapes
(`presentation`), permissions (`identity`), errors (`problems`).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from broker.domain.approvals import Approval
from broker.domain.audit import as_json
from broker.domain.people import Person
from broker.errors import AlreadyResolved, BrokerError, NotFound, TransitionRefused
from broker.policy.language.schema import policy_schema
from broker.store import audit, people, searching
from broker.web import presentation, shapes
from broker.web.decisions import DecisionBody
from broker.web.description import describe
from broker.web.identity import AskerOf, GuardedRoute
from broker.web.parts import Parts, PartsOf
from broker.web.problems import json_response, problem_of
from broker.web.queries import ApprovalsBefore, ApprovalsWanted, RowsBefore, RowsWanted, cursor_of
from broker.web.shapes import answers
from broker.web.visibility import sees, visible_page

PAGE = 50
_NOT_READY: dict[str, Any] = {"description": "It cannot work", "content": {"application/json": {}}}

router = APIRouter(route_class=GuardedRoute)


@router.get("/healthz", tags=["probes"], responses=answers(shapes.Health))
async def health() -> Response:
    """The process is up."""
    return json_response({"status": "ok"})


@router.get("/readyz", tags=["probes"], responses=answers(shapes.Readiness) | {503: _NOT_READY})
async def readiness(parts: PartsOf) -> Response:
    """Whether the broker can work: 200 when `status` is `ok`, or `degraded`: it works, not all as configured."""
    try:
        found = await parts.ready()
    except BrokerError as error:
        found = {"status": "unavailable", "detail": str(error)}
    return json_response(found, 200 if found.get("status") in ("ok", "degraded") else 503)


@router.get("/api/openapi.json", include_in_schema=False)
async def description(request: Request) -> Response:
    """This API in the words of OpenAPI."""
    return json_response(describe(request.app))


@router.get(
    "/api/v1/policies/schema",
    tags=["policies"],
    response_class=Response,
    responses={200: {"content": {"application/schema+json": {}}}},
)
async def get_policy_schema() -> Response:
    """The JSON Schema (draft 2020-12) of policy documents, for editors."""
    return json_response(policy_schema(), media_type="application/schema+json")


@router.get("/api/v1/approvals", tags=["approvals"], responses=answers(shapes.Page[shapes.Approval]))
async def list_approvals(
    parts: PartsOf, asker: AskerOf, wanted: ApprovalsWanted, before: ApprovalsBefore = None
) -> Response:
    """Approvals that the asker sees, newest first."""
    found, everyone = await parts.store.read(
        lambda session: (
            visible_page(session, asker.person, wanted, before=before, limit=PAGE),
            people.everyone(session),
        )
    )
    items = [presentation.approval(approval, everyone) for approval in found.items]
    return json_response({"items": items, "next": cursor_of(found.next)})


@router.get("/api/v1/approvals/{approval_id}", tags=["approvals"], responses=answers(shapes.WholeApproval))
async def get_approval(parts: PartsOf, asker: AskerOf, approval_id: str) -> Response:
    """One approval with its history, and why it was held."""
    return await _one(parts, await seen_by(parts, asker.person, approval_id))


@router.post("/api/v1/approvals/{approval_id}/decision", tags=["approvals"], responses=answers(shapes.WholeApproval))
async def decide(parts: PartsOf, asker: AskerOf, approval_id: str, body: DecisionBody) -> Response:
    """Approve or reject. Below the quorum the approval stays pending."""
    deciding = parts.approvals.reviews.review(
        approval_id, asker.person, body.decision, channel=asker.channel, revision=body.revision, reason=body.reason
    )
    return await _done(parts, approval_id, deciding)


@router.post("/api/v1/approvals/{approval_id}/withdraw", tags=["approvals"], responses=answers(shapes.WholeApproval))
async def withdraw(parts: PartsOf, asker: AskerOf, approval_id: str) -> Response:
    """End what is pending or approved, so that it does not run: for administrators."""
    return await _done(parts, approval_id, parts.approvals.reviews.withdraw(approval_id, asker.person))


@router.post("/api/v1/approvals/{approval_id}/forget", tags=["approvals"], responses=answers(shapes.WholeApproval))
async def forget(parts: PartsOf, asker: AskerOf, approval_id: str) -> Response:
    """Forget a rejection: the identical call asks again. For those who may decide it, and for administrators."""
    return await _done(parts, approval_id, parts.approvals.reviews.forget(approval_id, asker.person))


@router.get("/api/v1/audit", tags=["audit"], responses=answers(shapes.Page[shapes.AuditRow]))
async def list_rows(parts: PartsOf, wanted: RowsWanted, before: RowsBefore = None) -> Response:
    """Audit rows, newest first. A page looks at a bounded amount: it may be short, even empty, and have a next one."""
    found = await parts.store.read(lambda session: searching.page(session, wanted, before=before, limit=PAGE))
    following = str(found.next) if found.next is not None else None
    return json_response({"items": [as_json(row) for row in found.rows], "next": following})


@router.get("/api/v1/audit/head", tags=["audit"], responses=answers(shapes.Head))
async def get_head(parts: PartsOf) -> Response:
    """The end of the chain: how many rows there are, and the digest of the last."""
    head = await parts.store.read(audit.head)
    return json_response({"seq": head.seq, "digest": head.digest})


async def seen_by(parts: Parts, person: Person, approval_id: str) -> Approval:
    """The approval, for somebody who may look at it.

    Raises:
        NotFound: there is none, or they may not.
    """
    missing = NotFound("There is no such approval, or it is not yours to see.")
    try:
        approval = await parts.approvals.get(approval_id)
    except NotFound as error:
        raise missing from error
    if not sees(person, approval):
        raise missing
    return approval


async def _done(parts: Parts, approval_id: str, doing: Awaitable[Approval]) -> Response:
    """What came of it; to whom is late, with how it ended."""
    try:
        return await _one(parts, await doing)
    except (AlreadyResolved, TransitionRefused) as error:
        late = await parts.approvals.get(approval_id)
        return problem_of(error, resolution=presentation.resolution(late.resolution))


async def _one(parts: Parts, approval: Approval) -> Response:
    history, kept, everyone = await parts.store.read(
        lambda session: (
            audit.history(session, approval.call.id, approval.id),
            audit.contents(session, approval.call.id),
            people.everyone(session),
        )
    )
    explanation = kept.get("explanation", ())
    return json_response(presentation.whole_approval(approval, everyone, history, explanation))
