"""What is looked up around one approval: earlier ones like it, what its agent did, reasons given lately.

What belongs here: bounded queries, each answered from an index. What does not: who may see what they find
(`broker.web`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, literal_column, null, type_coerce
from sqlalchemy import select as sql_select
from sqlmodel import Session, col

from broker.domain.approvals import Approval, Decision
from broker.domain.audit import Kind
from broker.domain.calls import Call
from broker.store.approval_rows import from_rows
from broker.store.tables import ApprovalRow, AuditRow, Json, ReviewRow, table_of

MOST_LOOKED_AT = 60
"""Rows that one of these queries reads at most."""

_BULKY = {"params": type_coerce(literal_column("'{}'"), Json), "definition": null(), "sealed": null()}
_OUTLINE = [_BULKY[c.name].label(c.name) if c.name in _BULKY else c for c in table_of(ApprovalRow).columns]
_NEWEST_FIRST = col(ApprovalRow.created_at).desc()
_OTHERS = col(ApprovalRow.id) != bindparam("id")
_IDENTICAL = (
    sql_select(*_OUTLINE)
    .where(col(ApprovalRow.fingerprint) == bindparam("fingerprint"), _OTHERS)
    .order_by(_NEWEST_FIRST)
    .limit(MOST_LOOKED_AT)
)
_OF_TOOL = (
    sql_select(*_OUTLINE, (col(ApprovalRow.params) == bindparam("params", type_=Json())).label("same"))
    .where(col(ApprovalRow.upstream) == bindparam("upstream"), col(ApprovalRow.tool) == bindparam("tool"), _OTHERS)
    .order_by(_NEWEST_FIRST)
    .limit(MOST_LOOKED_AT)
)
_BY_IDS = sql_select(*_OUTLINE).where(col(ApprovalRow.id).in_(bindparam("ids", expanding=True)))

_DEEDS = sql_select(
    *(col(column) for column in (AuditRow.seq, AuditRow.at, AuditRow.kind, AuditRow.call_id, AuditRow.approval_id)),
    *(col(column) for column in (AuditRow.upstream, AuditRow.tool, AuditRow.detail)),
).where(col(AuditRow.grant_id) == bindparam("grant"))
_BEFORE = _DEEDS.where(col(AuditRow.seq) < bindparam("seq")).order_by(col(AuditRow.seq).desc()).limit(MOST_LOOKED_AT)
_AFTER = _DEEDS.where(col(AuditRow.seq) > bindparam("seq")).order_by(col(AuditRow.seq)).limit(MOST_LOOKED_AT)

_WORDS = (
    sql_select(*(col(column) for column in (ReviewRow.approval_id, ReviewRow.decision, ReviewRow.reason, ReviewRow.at)))
    .where(col(ReviewRow.person) == bindparam("person"))
    .order_by(col(ReviewRow.at).desc())
    .limit(MOST_LOOKED_AT)
    .subquery()
)
_OWN_REASONS = (
    sql_select(_WORDS.c.reason)
    .join(ApprovalRow, col(ApprovalRow.id) == _WORDS.c.approval_id)
    .where(_WORDS.c.decision == Decision.REJECT, _WORDS.c.reason.is_not(None))
    .where(col(ApprovalRow.upstream) == bindparam("upstream"))
    .order_by(_WORDS.c.at.desc())
)


def identical(session: Session, approval: Approval) -> list[Approval]:
    """The newest other approvals of the identical call, without their calls."""
    values = {"id": approval.id, "fingerprint": approval.fingerprint}
    return from_rows(session.connection().execute(_IDENTICAL, values).all(), session)


def of_tool(session: Session, approval: Approval) -> tuple[list[Approval], frozenset[str]]:
    """The newest other approvals of the same tool, without their calls; and the ids of those whose call says the same,
    as far as people see it."""
    call = approval.call
    values = {"id": approval.id, "upstream": call.upstream, "tool": call.tool, "params": dict(call.params)}
    rows = session.connection().execute(_OF_TOOL, {**values}).all()
    return from_rows(rows, session), frozenset(row.id for row in rows if row.same)


def outlines(session: Session, ids: Collection[str]) -> dict[str, Approval]:
    """Approvals without their calls, by their ids."""
    rows = session.connection().execute(_BY_IDS, {"ids": list(ids)}).all() if ids else ()
    return {approval.id: approval for approval in from_rows(rows, session)}


def own_reasons(session: Session, person: str, upstream: str) -> list[str]:
    """Why `person` rejected calls of an upstream lately, the latest first."""
    return list(session.connection().execute(_OWN_REASONS, {"person": person, "upstream": upstream}).scalars())


@dataclass(frozen=True, slots=True)
class Deed:
    """One row of what an agent's calls led to. `outcome` is that of a `call.answered`."""

    seq: int
    at: datetime
    kind: Kind
    call_id: str | None
    approval_id: str | None
    upstream: str | None
    tool: str | None
    outcome: str | None


def deeds(session: Session, call: Call, seq: int) -> tuple[list[Deed], list[Deed]]:
    """What the agent of `call` did next to the row `seq`: before it, the nearest first, and after it, the nearest
    first."""
    connection, values = session.connection(), {"grant": call.grant.id, "seq": seq}
    before, after = (list(map(_deed, connection.execute(nearest, values))) for nearest in (_BEFORE, _AFTER))
    return before, after


def _deed(row: Any) -> Deed:
    return Deed(
        seq=row.seq,
        at=row.at,
        kind=Kind(row.kind),
        call_id=row.call_id,
        approval_id=row.approval_id,
        upstream=row.upstream,
        tool=row.tool,
        outcome=row.detail.get("outcome"),
    )
