"""What is looked up around one approval: earlier ones like it, what its agent did, reasons given lately.

What belongs here: bounded queries, each answered from an index. What does not: who may see what they find
(`broker.web`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import bindparam, literal_column, null, type_coerce
from sqlalchemy import select as sql_select
from sqlmodel import Session, col

from broker.domain.approvals import Approval, Decision
from broker.domain.calls import Call
from broker.domain.searching import AuditFilter
from broker.store import audit, searching
from broker.store.approval_rows import from_rows
from broker.store.columns import Json
from broker.store.searching import Found
from broker.store.tables import ApprovalRow, ReviewRow, table_of

MOST_LOOKED_AT = 40
"""Approvals, or reviews, that one of these queries reads at most."""

MOST_ROWS = 60
"""Rows of the record that are read on each side of a call."""

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
    rows = session.connection().execute(_OF_TOOL, values).all()
    return from_rows(rows, session), frozenset(row.id for row in rows if row.same)


def outlines(session: Session, ids: Collection[str]) -> dict[str, Approval]:
    """Approvals without their calls, by their ids."""
    rows = session.connection().execute(_BY_IDS, {"ids": list(ids)}).all() if ids else ()
    return {approval.id: approval for approval in from_rows(rows, session)}


def own_reasons(session: Session, person: str, upstream: str) -> list[str]:
    """Why `person` rejected calls of an upstream lately, the latest first."""
    return list(session.connection().execute(_OWN_REASONS, {"person": person, "upstream": upstream}).scalars())


def rows_near(session: Session, call: Call, seq: int, within: timedelta, at: datetime) -> tuple[Found, Found]:
    """What the agent of `call` did before and after the row `seq`, no further than `within` from the instant `at`: the
    nearest rows, and the nearest first."""
    wanted = AuditFilter(actor=f"agent:{call.grant.id}", since=at - within, until=at + within)
    before = searching.page(session, wanted, before=seq, limit=MOST_ROWS)
    return before, searching.batch(session, wanted, seq, audit.head(session).seq, limit=MOST_ROWS)
