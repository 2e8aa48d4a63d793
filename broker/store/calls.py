"""Recorded calls, read again: each call once, with what was said of it and what is still kept of it.

What belongs here: one query over the record, the kept contents and the grants. What does not: writing any of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import and_, func
from sqlalchemy import select as sql_select
from sqlmodel import Session, col

from broker.domain.audit import Kind
from broker.domain.calls import Call
from broker.domain.paths import Path
from broker.domain.people import GrantRef
from broker.domain.recorded import Fate, RecordedCall, masked_paths
from broker.store.tables import ApprovalRow, AuditRow, ContentRow, GrantRow

PAGE = 500
"""Calls fetched at a time."""

JUDGED = (Kind.CALL_ALLOWED, Kind.CALL_DENIED, Kind.CALL_LIMITED, Kind.APPROVAL_SUBMITTED)
"""The rows of which each call has exactly one, written when it was judged."""

_NOTHING: tuple[Path, ...] = (Path(("args",)),)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the record: rows `first` to `last`, both included."""

    first: int
    last: int


def span(session: Session, since: datetime, until: datetime) -> Span:
    """The rows from `since` until before `until`; an empty span ends before it begins."""
    inside = (col(AuditRow.at) >= since, col(AuditRow.at) < until)
    first, last = (
        session.connection()
        .execute(sql_select(func.min(col(AuditRow.seq)), func.max(col(AuditRow.seq))).where(*inside))
        .one()
    )
    return Span(first or 1, last or 0)


def upstreams(session: Session, rows: Span) -> list[str]:
    """The upstreams whose calls are in `rows`."""
    asked = sql_select(col(AuditRow.upstream)).where(*_inside(rows)).distinct().order_by(col(AuditRow.upstream))
    return [name for name in session.connection().execute(asked).scalars() if name is not None]


def recorded(session: Session, rows: Span, upstream: str) -> Iterator[tuple[int, RecordedCall]]:
    """Every call of `upstream` in `rows`, oldest first, with the number of its row; a bounded number is in memory."""
    last = rows.first - 1
    while True:
        page = session.connection().execute(_page(Span(last + 1, rows.last), upstream)).mappings().all()
        for found in page:
            yield found["seq"], _from_columns(cast("Mapping[str, Any]", found))
        if len(page) < PAGE:
            return
        last = page[-1]["seq"]


def _inside(rows: Span) -> tuple[Any, ...]:
    kinds = col(AuditRow.kind).in_([kind.value for kind in JUDGED])
    return (col(AuditRow.seq) >= rows.first, col(AuditRow.seq) <= rows.last, kinds)


def _page(rows: Span, upstream: str) -> Any:
    kept = and_(col(ContentRow.call_id) == col(AuditRow.call_id), col(ContentRow.what).in_(("arguments", "redacted")))
    return (
        sql_select(
            *(col(column) for column in (AuditRow.seq, AuditRow.at, AuditRow.kind, AuditRow.call_id)),
            *(col(column) for column in (AuditRow.upstream, AuditRow.tool, AuditRow.verdict, AuditRow.rule)),
            *(col(column) for column in (AuditRow.grant_id, GrantRow.label, GrantRow.owner)),
            *(col(column) for column in (ApprovalRow.session, ContentRow.what, ContentRow.body)),
        )
        .join(ContentRow, kept, isouter=True)
        .join(GrantRow, col(GrantRow.id) == col(AuditRow.grant_id), isouter=True)
        .join(ApprovalRow, col(ApprovalRow.id) == col(AuditRow.approval_id), isouter=True)
        .where(*_inside(rows), col(AuditRow.upstream) == upstream)
        .order_by(col(AuditRow.seq))
        .limit(PAGE)
    )


def _from_columns(found: Mapping[str, Any]) -> RecordedCall:
    params: Mapping[str, Any] = found["body"] or {}
    grant = GrantRef(found["grant_id"], found["label"] or "", found["owner"] or "")
    call = Call(found["call_id"], found["upstream"], found["tool"], params, grant, found["session"])
    fate, rule = _fate(found)
    # Only a held call is kept with its session.
    session = () if found["kind"] == Kind.APPROVAL_SUBMITTED else (Path(("session",)),)
    arguments = _NOTHING if not params else masked_paths(call.arguments) if found["what"] == "redacted" else ()
    return RecordedCall(call, found["at"], fate, rule, (*arguments, *session))


def _fate(found: Mapping[str, Any]) -> tuple[Fate, str | None]:
    """What the policy said; that too many wait already, or that nobody may decide, was not its doing."""
    if found["kind"] != Kind.CALL_LIMITED:
        return Fate(found["verdict"]), found["rule"]
    if (found["rule"] or "").partition(".")[0] == "approvals":  # a setting, such as approvals.max_pending
        return Fate(found["verdict"]), None
    return Fate.LIMITED, found["rule"]
