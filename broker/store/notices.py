"""What people outside still have to be told, by place: rows that the outbox works off.

What belongs here: who may tell what when, and how far it is told. What does not: telling it
(`broker.approvals.outbox`), and where something is told (`broker.approvals.notices`).

A row of an approval stands for its message: `wanted` counts what happened to the approval, `shown` is what the message
tells of that. Nobody queues remarks: they are audit rows, and `told` is the last one that was remarked on. So each is
told in order, and none is lost, whoever wrote it. The row of a channel without an approval follows the rows about no
call in the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, exists, func, not_, or_, text, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from broker.domain.audit import Kind
from broker.store import audit
from broker.store.columns import micros
from broker.store.prepared import Prepared
from broker.store.tables import AuditRow, NoticeRow, ProcessRow

_OUTDATE = Prepared(text("UPDATE notices SET wanted = wanted + 1, due = :now WHERE approval_id = :approval_id"))

_OUTDATED = and_(col(NoticeRow.reference).is_not(None), col(NoticeRow.shown) < col(NoticeRow.wanted))
"""As `Owed.outdated`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """What is told in one place, and how far: see `NoticeRow`."""

    id: int
    place: str
    approval_id: str | None
    wanted: int
    shown: int
    reference: Mapping[str, Any] | None
    told: int
    attempts: int

    @property
    def outdated(self) -> bool:
        """Whether people see a message that is not true any more."""
        return self.reference is not None and self.shown < self.wanted


def add(session: Session, approval_id: str, places: Iterable[tuple[str, str]], now: datetime) -> None:
    """A new approval is to be told in these places, each with its channel's name before it."""
    rows = (NoticeRow(channel=name, place=at, approval_id=approval_id, wanted=1, due=now) for name, at in places)
    session.add_all(rows)


def outdate(session: Session, approval_id: str, now: datetime) -> None:
    """Something happened to an approval: wherever it is told, that is to be told."""
    _OUTDATE.on(session.connection(), {"approval_id": approval_id, "now": micros(now)})


def begin(session: Session, channel: str, place: str) -> None:
    """From the first time on, what is announced in `channel` is told in `place`."""
    mine = select(NoticeRow).where(NoticeRow.channel == channel, col(NoticeRow.approval_id).is_(None))
    row = session.exec(mine).first() or NoticeRow(channel=channel, place=place, told=audit.head(session).seq)
    row.place = place
    session.add(row)


def messages(session: Session, channel: str, approval_id: str) -> list[tuple[str, Mapping[str, Any] | None]]:
    """The places in which an approval is told, each with what its message is found by, once it is posted and kept."""
    mine = select(NoticeRow).where(NoticeRow.approval_id == approval_id, NoticeRow.channel == channel)
    return [(row.place, row.reference) for row in session.exec(mine)]


def first_of_each_place(
    session: Session, channel: str, announced: Collection[Kind], *, untrue: bool, now: datetime
) -> list[Owed]:
    """What waits longest in each place of those in which something is due now.

    Args:
        announced: the kinds of audit rows that are told where nothing is told of an approval.
        untrue: of the messages that are not true any more; else of everything else.
    """
    ready = or_(col(NoticeRow.due).is_(None), col(NoticeRow.due) <= now)
    free = or_(col(NoticeRow.lease_until).is_(None), col(NoticeRow.lease_until) <= now)
    kind = _OUTDATED if untrue else not_(_OUTDATED)
    order = (col(NoticeRow.due).asc().nulls_first(), col(NoticeRow.id))
    turn = func.row_number().over(partition_by=col(NoticeRow.place), order_by=order).label("turn")
    ranked = select(NoticeRow, turn).where(_something_left(channel, announced), ready, free, kind).subquery()
    first = aliased(NoticeRow, ranked)
    return [_from_row(row) for row in session.exec(select(first).where(ranked.c.turn == 1))]


def waiting(session: Session, channel: str, announced: Collection[Kind]) -> set[tuple[str, bool]]:
    """The places where something is left to tell, due or not, each with whether that is a message not true any more."""
    left = select(NoticeRow.place, _OUTDATED).where(_something_left(channel, announced)).distinct()
    return {(place, bool(outdated)) for place, outdated in session.exec(left)}


def let_go(session: Session) -> None:
    """Nothing is being told any more by processes that are not there."""
    nowhere = col(NoticeRow.holder).not_in(select(ProcessRow.id))
    session.exec(update(NoticeRow).where(nowhere).values(holder=None, lease_until=None))


def take(session: Session, owed_id: int, holder: str, lease: timedelta, now: datetime) -> Owed | None:
    """Take the sole right to tell what is owed, until the lease is over or it is settled; None: another has it.

    Args:
        holder: the process that tells it.
    """
    row = session.get(NoticeRow, owed_id)
    if row is None or (row.lease_until is not None and row.lease_until > now):
        return None
    row.holder, row.lease_until = holder, now + lease
    session.add(row)
    return _from_row(row)


def settle(session: Session, owed: Owed, due: datetime | None, now: datetime) -> None:
    """Say how far it is told now, and let go of it.

    Args:
        owed: as it was taken, with what has changed by telling.
        due: from when on it is to be looked at again; None: all was told. What happened meanwhile is due at once.
    """
    row = session.get(NoticeRow, owed.id)
    if row is None:
        return
    row.reference = dict(owed.reference) if owed.reference is not None else None
    row.shown, row.told, row.attempts = owed.shown, owed.told, owed.attempts
    row.due = due if row.wanted == owed.wanted else now
    row.holder = row.lease_until = None
    session.add(row)


def _something_left(channel: str, announced: Collection[Kind]) -> Any:
    news = exists().where(
        col(AuditRow.call_id).is_(None),
        col(AuditRow.seq) > col(NoticeRow.told),
        col(AuditRow.kind).in_([kind.value for kind in announced]),
    )
    of_approval = and_(col(NoticeRow.approval_id).is_not(None), col(NoticeRow.due).is_not(None))
    return and_(col(NoticeRow.channel) == channel, or_(of_approval, and_(col(NoticeRow.approval_id).is_(None), news)))


def _from_row(row: NoticeRow) -> Owed:
    return Owed(
        id=row.id,
        place=row.place,
        approval_id=row.approval_id,
        wanted=row.wanted,
        shown=row.shown,
        reference=row.reference,
        told=row.told,
        attempts=row.attempts,
    )
