"""Tasks in the store: what is kept of an approval that is one, and which of them can go on.

What belongs here: the rows. What does not: what is in that which is sealed (`broker.approvals.tasks`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, delete, or_, update
from sqlalchemy import select as sql_select
from sqlmodel import Session, col, select

from broker.domain.approvals import Approval, Caller, State
from broker.domain.audit import Kind
from broker.store import approvals
from broker.store.selected import Selected
from broker.store.tables import ApprovalRow, AuditRow, TaskRow

_ENDED = [state.value for state in State if state.final]
_GOES_ON = and_(
    col(ApprovalRow.state) == State.EXECUTING.value, col(ApprovalRow.awaiting).is_not(None), ~col(TaskRow.asks)
)
_DUE = Selected(
    sql_select(col(TaskRow.approval_id))
    .join(ApprovalRow, col(ApprovalRow.id) == col(TaskRow.approval_id))
    .where(
        col(ApprovalRow.caller) == Caller.TASK.value,
        or_(col(ApprovalRow.state) == State.APPROVED.value, _GOES_ON),
    )
)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one task; see `TaskRow`."""

    expires_at: datetime
    called_off: bool
    request: str | None
    questions: str | None
    answer: str | None


def add(session: Session, approval_id: str, request: str, expires_at: datetime) -> None:
    """An approval is a task from now on, whatever it was before."""
    session.merge(TaskRow(approval_id=approval_id, request=request, expires_at=expires_at))


def remove(session: Session, approval_id: str) -> None:
    """It is no task any more."""
    session.exec(delete(TaskRow).where(col(TaskRow.approval_id) == approval_id))


def get(session: Session, approval_id: str) -> Kept | None:
    """What is kept of one task; None when it is none."""
    row = session.get(TaskRow, approval_id, populate_existing=True)
    if row is None:
        return None
    return Kept(row.expires_at, row.called_off, row.request, row.questions, row.answer)


def of_grant(session: Session, approval_id: str, grant_id: str, upstream: str, now: datetime) -> Approval | None:
    """The task of this id, if it is this grant's on this upstream and is not forgotten; in one query, whatever is
    not so."""
    live = or_(col(TaskRow.expires_at) > now, col(ApprovalRow.state).not_in(_ENDED))
    statement = select(TaskRow.approval_id).join(ApprovalRow, col(ApprovalRow.id) == col(TaskRow.approval_id))
    mine = (
        col(TaskRow.approval_id) == approval_id,
        col(ApprovalRow.caller) == Caller.TASK,
        col(ApprovalRow.grant_id) == grant_id,
        col(ApprovalRow.upstream) == upstream,
    )
    found = session.exec(statement.where(*mine, live)).first()
    return approvals.get(session, found) if found is not None else None


def updated_at(session: Session, approval: Approval) -> datetime:
    """When something last happened to it."""
    return _last(session, approval, ()) or approval.created_at


def began_at(session: Session, approval: Approval) -> datetime | None:
    """When it was started last, or went on with input."""
    return _last(session, approval, (Kind.APPROVAL_CLAIMED, Kind.APPROVAL_CONTINUED))


def due(session: Session) -> list[tuple[Approval, Kept]]:
    """Those that can go on: approved, or waiting for input that has come."""
    ids = [row.approval_id for row in _DUE.all(session.connection())]
    found = [(approval, get(session, approval.id)) for approval in approvals.by_ids(session, ids)] if ids else []
    return [(approval, kept) for approval, kept in found if kept is not None]


def called_off(session: Session, ids: Collection[str]) -> Sequence[str]:
    """Those of `ids` that their agents want to end."""
    return session.exec(select(TaskRow.approval_id).where(col(TaskRow.approval_id).in_(ids), TaskRow.called_off)).all()


def call_off(session: Session, approval_id: str) -> None:
    """Its agent wants it to end."""
    _set(session, approval_id, called_off=True)


def ask(session: Session, approval_id: str, questions: str, *, asks: bool) -> None:
    """Its tool asks for input, of which something is still to come (`asks`) or not."""
    _set(session, approval_id, questions=questions, asks=asks)


def answer(session: Session, approval_id: str, text: str) -> None:
    """Its server answered."""
    _set(session, approval_id, answer=text)


def settle(session: Session, approval_id: str, known_until: datetime) -> None:
    """It ended: nothing but its answer is of use any more, until then at least."""
    _set(session, approval_id, request=None, questions=None, asks=False)
    later = (col(TaskRow.approval_id) == approval_id, col(TaskRow.expires_at) < known_until)
    session.exec(update(TaskRow).where(*later).values(expires_at=known_until))


def forget(session: Session, now: datetime) -> None:
    """Erase those whose time is over."""
    ended = select(ApprovalRow.id).where(col(ApprovalRow.state).in_(_ENDED))
    old = (col(TaskRow.expires_at) <= now, col(TaskRow.approval_id).in_(ended))
    session.exec(delete(TaskRow).where(*old))


def _last(session: Session, approval: Approval, kinds: Collection[Kind]) -> datetime | None:
    """When the last thing of these kinds happened to it; of any, when there are none."""
    mine = select(AuditRow.at).where(col(AuditRow.approval_id) == approval.id)
    wanted = mine.where(col(AuditRow.kind).in_(kinds)) if kinds else mine
    return session.exec(wanted.order_by(col(AuditRow.seq).desc()).limit(1)).first()


def _set(session: Session, approval_id: str, **values: object) -> None:
    session.exec(update(TaskRow).where(col(TaskRow.approval_id) == approval_id).values(**values))
