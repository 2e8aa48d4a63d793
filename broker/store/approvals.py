"""Approvals and their reviews in the store: saving them, and the queries on them.

What belongs here: reading and saving whole approvals. What does not: their form as rows (`approval_rows`), which change
is allowed (`broker.domain.approvals`); callers change the value and save it, inside one transaction of the writer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, bindparam, func, or_, update
from sqlalchemy import select as sql_select
from sqlmodel import Session, col, select

from broker.domain.approvals import Approval, Caller, State
from broker.domain.calls import Risk
from broker.store.approval_rows import from_rows, review_to_columns, to_columns
from broker.store.columns import micros
from broker.store.rows import Rows
from broker.store.selected import Selected, listed, one_of
from broker.store.tables import ApprovalRow, GrantRow, ProcessRow, ReviewRow, table_of

_APPROVALS, _REVIEWS = Rows(table_of(ApprovalRow)), Rows(table_of(ReviewRow))
_ALL = sql_select(table_of(ApprovalRow))  # rows as they are stored: no session keeps another state of them
_BY_IDS = Selected(_ALL.where(one_of(col(ApprovalRow.id), "ids")))
_OF_FINGERPRINTS = _ALL.where(one_of(col(ApprovalRow.fingerprint), "fingerprints"))
# So that they are not looked for by their state: few have a fingerprint, and many may have a state.
_unindexed_state: Any = col(ApprovalRow.state).concat("")
_UNATTENDED = Selected(
    _OF_FINGERPRINTS.where(
        col(ApprovalRow.caller) == Caller.GONE.value,
        or_(
            and_(_unindexed_state == State.PENDING.value, col(ApprovalRow.deadline) > bindparam("now")),
            and_(_unindexed_state == State.APPROVED.value, col(ApprovalRow.execute_by) > bindparam("now")),
        ),
        or_(col(ApprovalRow.withdraw_at).is_(None), col(ApprovalRow.withdraw_at) > bindparam("now")),
    )
    .order_by(_unindexed_state == State.PENDING.value, col(ApprovalRow.created_at).desc())
    .limit(1)
)
_REMEMBERED = Selected(
    _OF_FINGERPRINTS.where(
        _unindexed_state == State.REJECTED.value,
        col(ApprovalRow.resolved_at) > bindparam("since"),
        col(ApprovalRow.forgotten_at).is_(None),
    )
    .order_by(col(ApprovalRow.resolved_at).desc())
    .limit(1)
)
_NEWEST = Selected(
    _OF_FINGERPRINTS.where(one_of(_unindexed_state, "states")).order_by(col(ApprovalRow.created_at).desc()).limit(1)
)
_PENDING_OF = Selected(
    sql_select(func.count().label("many"))
    .select_from(table_of(ApprovalRow))
    .where(
        col(ApprovalRow.state) == State.PENDING.value,
        col(ApprovalRow.grant_id) == bindparam("grant"),
        col(ApprovalRow.deadline) > bindparam("now"),
    )
)
_NTH_NEWEST = Selected(
    sql_select(col(ApprovalRow.created_at))
    .where(col(ApprovalRow.grant_id) == bindparam("grant"), col(ApprovalRow.created_at) > bindparam("since"))
    .order_by(col(ApprovalRow.created_at).desc())
    .offset(bindparam("before"))
    .limit(1)
)


def get(session: Session, approval_id: str) -> Approval | None:
    """One approval with its reviews in the order they came, or None."""
    return next(iter(by_ids(session, [approval_id])), None)


def by_ids(session: Session, ids: Collection[str]) -> list[Approval]:
    """Those of `ids` that there are."""
    return _selected(session, _BY_IDS, ids=listed(ids))


def save(session: Session, approval: Approval) -> None:
    """Insert or update an approval and add the reviews that are not stored yet."""
    connection = session.connection()
    _APPROVALS.put(connection, [to_columns(approval)])
    _REVIEWS.put(connection, [review_to_columns(approval.id, *given) for given in enumerate(approval.reviews)])


@dataclass(frozen=True, slots=True)
class ApprovalFilter:
    """What to list; every field that is given must match."""

    states: tuple[State, ...] = ()
    upstream: str | None = None
    grant: str | None = None
    owner: str | None = None
    tool: str | None = None
    risk: Risk | None = None
    text: str | None = None

    def conditions(self) -> list[Any]:
        """The same as SQL conditions."""
        found: list[Any] = []
        if self.states:
            found.append(col(ApprovalRow.state).in_([state.value for state in self.states]))
        equal = {
            col(ApprovalRow.upstream): self.upstream,
            col(ApprovalRow.grant_id): self.grant,
            col(ApprovalRow.grant_owner): self.owner,
            col(ApprovalRow.tool): self.tool,
            col(ApprovalRow.risk): self.risk,
        }
        found.extend(column == value for column, value in equal.items() if value is not None)
        if self.text:
            columns = (ApprovalRow.upstream, ApprovalRow.tool, ApprovalRow.grant_label, ApprovalRow.grant_owner)
            found.append(or_(*(col(column).icontains(self.text, autoescape=True) for column in columns)))
        return found

    def matches(self, approval: Approval) -> bool:
        """Whether an approval is one of them, without asking the database; letters beyond ASCII may compare freer."""
        call, text = approval.call, (self.text or "").casefold()
        equal = (
            (self.upstream, call.upstream),
            (self.grant, call.grant.id),
            (self.owner, call.grant.owner),
            (self.tool, call.tool),
            (self.risk, approval.risk),
        )
        return (
            (not self.states or approval.state in self.states)
            and all(wanted is None or wanted == given for wanted, given in equal)
            and any(text in each.casefold() for each in (call.upstream, call.tool, call.grant.label, call.grant.owner))
        )


def page(
    session: Session, wanted: ApprovalFilter, *, before: tuple[datetime, str] | None = None, limit: int = 50
) -> list[Approval]:
    """The newest approvals that match, newest first; `before` is (created_at, id) of the last one seen."""
    return _found(session, newest_first(_ALL, wanted, before, limit))


def newest_first(
    statement: Select[Any], wanted: ApprovalFilter, before: tuple[datetime, str] | None, limit: int
) -> Select[Any]:
    """`statement` for those that match, newest first, from `before` on."""
    statement = statement.where(*wanted.conditions())
    if before is not None:
        at, last = before
        older = col(ApprovalRow.created_at) < at
        same = and_(col(ApprovalRow.created_at) == at, col(ApprovalRow.id) < last)
        statement = statement.where(or_(older, same))
    order = (col(ApprovalRow.created_at).desc(), col(ApprovalRow.id).desc())
    return statement.order_by(*order).limit(limit)


def count(session: Session, wanted: ApprovalFilter) -> int:
    """How many match."""
    return session.exec(select(func.count()).select_from(ApprovalRow).where(*wanted.conditions())).one()


def due(session: Session, now: datetime) -> list[Approval]:
    """Those to which time has done something by `now` (see `broker.domain.schedule`)."""
    statement = _ALL.where(col(ApprovalRow.due) <= now).order_by(col(ApprovalRow.due))
    return _found(session, statement)


def of_ended_grants(session: Session, now: datetime) -> list[Approval]:
    """Those that could still run, of grants that are revoked or expired."""
    ended = or_(col(GrantRow.revoked_at).is_not(None), col(GrantRow.expires_at) <= now)
    statement = _ALL.join(GrantRow, col(GrantRow.id) == col(ApprovalRow.grant_id)).where(_may_be_withdrawn(), ended)
    return _found(session, statement)


def left_behind(session: Session) -> list[Approval]:
    """Those whose caller waits at, or that are executed by, a process that is not there any more.

    What waits for input is executed by nobody.
    """
    there = select(ProcessRow.id)
    waits = and_(_may_be_withdrawn(), col(ApprovalRow.caller) == Caller.WAITING)
    runs = and_(col(ApprovalRow.state) == State.EXECUTING, col(ApprovalRow.awaiting).is_(None))
    nowhere = or_(col(ApprovalRow.waits_at).is_(None), col(ApprovalRow.waits_at).not_in(there))
    return _found(session, _ALL.where(or_(and_(waits, nowhere), and_(runs, col(ApprovalRow.holder).not_in(there)))))


def unattended(session: Session, fingerprints: Sequence[str], now: datetime) -> Approval | None:
    """The open approval of one of these fingerprints whose caller went away, and whose time is not over.

    Of several one that was approved comes first, and then the newest.
    """
    return _first(session, _UNATTENDED, fingerprints=listed(fingerprints), now=micros(now))


def remembered(session: Session, fingerprints: Sequence[str], since: datetime) -> Approval | None:
    """The latest rejection of one of these fingerprints after `since` that nobody has let be forgotten."""
    return _first(session, _REMEMBERED, fingerprints=listed(fingerprints), since=micros(since))


def newest(session: Session, fingerprints: Sequence[str], states: Sequence[State]) -> Approval | None:
    """The newest approval of one of these fingerprints in one of `states`."""
    return _first(session, _NEWEST, fingerprints=listed(fingerprints), states=listed(states))


def awaiting(session: Session, marks: Sequence[str], now: datetime, task_id: str | None) -> Approval | None:
    """The executing approval whose tool has waited longest for the input of one of these marks, and still does: the
    task of this id, else none that is a task."""
    until = col(ApprovalRow.lease_until)
    its = col(ApprovalRow.id) == task_id if task_id is not None else col(ApprovalRow.caller) != Caller.TASK
    statement = _ALL.where(col(ApprovalRow.awaiting).in_(marks), col(ApprovalRow.state) == State.EXECUTING)
    found = _found(session, statement.where(its, until > now).order_by(until).limit(1))
    return found[0] if found else None


def of_session(session: Session, key: str) -> list[Approval]:
    """Those that a legacy session asked for and that may still run."""
    statement = _ALL.where(col(ApprovalRow.session) == key, _may_be_withdrawn())
    return _found(session, statement)


def of_upstream(session: Session, upstream: str) -> list[Approval]:
    """Those that wait for a person or for their caller, of calls of one upstream, oldest first."""
    statement = _ALL.where(col(ApprovalRow.upstream) == upstream, _may_be_withdrawn())
    return _found(session, statement.order_by(col(ApprovalRow.created_at)))


def _may_be_withdrawn() -> Any:
    return col(ApprovalRow.state).in_([State.PENDING.value, State.APPROVED.value])


def pending_of(session: Session, grant_id: str, now: datetime) -> int:
    """How many calls of a grant wait for people."""
    [found] = _PENDING_OF.all(session.connection(), {"grant": grant_id, "now": micros(now)})
    return found.many


def nth_newest(session: Session, grant_id: str, since: datetime, n: int) -> datetime | None:
    """When the `n`th newest approval of a grant was made, however it ended; None when there are fewer since then."""
    found = _NTH_NEWEST.first(session.connection(), {"grant": grant_id, "since": micros(since), "before": n - 1})
    return found.created_at if found is not None else None


def renew_leases(session: Session, holder: str, ids: Collection[str], until: datetime) -> None:
    """Say that those of `ids` that `holder` executes are still being executed."""
    if ids:
        mine = (
            col(ApprovalRow.id).in_(ids),
            col(ApprovalRow.state) == State.EXECUTING,
            col(ApprovalRow.holder) == holder,
        )
        session.exec(update(ApprovalRow).where(*mine).values(lease_until=until, due=until))


def last_held(session: Session) -> datetime | None:
    """When the newest approval was made."""
    return session.exec(select(func.max(ApprovalRow.created_at))).one()


def _first(session: Session, query: Selected, **values: Any) -> Approval | None:
    return next(iter(_selected(session, query, **values)), None)


def _selected(session: Session, query: Selected, **values: Any) -> list[Approval]:
    return from_rows(query.all(session.connection(), values), session)


def _found(session: Session, statement: Select[Any]) -> list[Approval]:
    return from_rows(session.connection().execute(statement).all(), session)
