"""Approvals and their reviews: from and to rows, and the queries on them.

What belongs here: reading and saving whole approvals. What does not: which change is allowed
(`broker.domain.approvals`); callers change the value and save it, inside one transaction of the writer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, or_, update
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from broker.domain import schedule
from broker.domain.approvals import Approval, Caller, Cause, Decision, Resolution, Review, State
from broker.domain.audit import timestamp
from broker.domain.calls import Call, Escalation, Memory, Requirement, Risk
from broker.domain.people import GrantRef
from broker.store.tables import ApprovalRow, GrantRow, ReviewRow


def get(session: Session, approval_id: str) -> Approval | None:
    """One approval with its reviews in the order they came, or None."""
    found = session.get(ApprovalRow, approval_id)
    return _from_rows([found], session)[0] if found is not None else None


def save(session: Session, approval: Approval) -> None:
    """Insert or update an approval and add the reviews that are not stored yet."""
    session.merge(_to_row(approval))
    for place, given in enumerate(approval.reviews):
        session.merge(_review_to_row(approval.id, place, given))
    session.flush()


@dataclass(frozen=True, slots=True)
class ApprovalFilter:
    """What to list; every field that is given must match."""

    states: tuple[State, ...] = ()
    upstream: str | None = None
    grant: str | None = None
    owner: str | None = None
    tool: str | None = None
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
        }
        found.extend(column == value for column, value in equal.items() if value is not None)
        if self.text:
            columns = (ApprovalRow.upstream, ApprovalRow.tool, ApprovalRow.grant_label, ApprovalRow.grant_owner)
            found.append(or_(*(col(column).icontains(self.text, autoescape=True) for column in columns)))
        return found


def page(
    session: Session, wanted: ApprovalFilter, *, before: tuple[datetime, str] | None = None, limit: int = 50
) -> list[Approval]:
    """The newest approvals that match, newest first; `before` is (created_at, id) of the last one seen."""
    statement = select(ApprovalRow).where(*wanted.conditions())
    if before is not None:
        at, last = before
        older = col(ApprovalRow.created_at) < at
        same = and_(col(ApprovalRow.created_at) == at, col(ApprovalRow.id) < last)
        statement = statement.where(or_(older, same))
    order = (col(ApprovalRow.created_at).desc(), col(ApprovalRow.id).desc())
    return _from_rows(session.exec(statement.order_by(*order).limit(limit)).all(), session)


def count(session: Session, wanted: ApprovalFilter) -> int:
    """How many match."""
    return session.exec(select(func.count()).select_from(ApprovalRow).where(*wanted.conditions())).one()


def due(session: Session, now: datetime) -> list[Approval]:
    """Those to which time has done something by `now` (see `broker.domain.schedule`)."""
    statement = select(ApprovalRow).where(col(ApprovalRow.due) <= now).order_by(col(ApprovalRow.due))
    return _from_rows(session.exec(statement).all(), session)


def of_ended_grants(session: Session, now: datetime) -> list[Approval]:
    """Those that could still run, of grants that are revoked or expired."""
    ended = or_(col(GrantRow.revoked_at).is_not(None), col(GrantRow.expires_at) <= now)
    statement = (
        select(ApprovalRow)
        .join(GrantRow, col(GrantRow.id) == col(ApprovalRow.grant_id))
        .where(_may_be_withdrawn(), ended)
    )
    return _from_rows(session.exec(statement).all(), session)


def in_states(session: Session, states: Sequence[State]) -> list[Approval]:
    """Every approval in one of `states`."""
    wanted = ApprovalFilter(states=tuple(states))
    return _from_rows(session.exec(select(ApprovalRow).where(*wanted.conditions())).all(), session)


def unattended(session: Session, fingerprints: Sequence[str], now: datetime) -> Approval | None:
    """The open approval of one of these fingerprints whose caller went away, and whose time is not over.

    Of several one that was approved comes first, and then the newest.
    """
    statement = (
        select(ApprovalRow)
        .where(col(ApprovalRow.fingerprint).in_(fingerprints), ApprovalRow.caller == Caller.GONE)
        .where(
            or_(
                and_(col(ApprovalRow.state) == State.PENDING, col(ApprovalRow.deadline) > now),
                and_(col(ApprovalRow.state) == State.APPROVED, col(ApprovalRow.execute_by) > now),
            ),
            or_(col(ApprovalRow.withdraw_at).is_(None), col(ApprovalRow.withdraw_at) > now),
        )
        .order_by(col(ApprovalRow.state) == State.PENDING, col(ApprovalRow.created_at).desc())
    )
    return _first(session, statement)


def remembered(session: Session, fingerprints: Sequence[str], since: datetime) -> Approval | None:
    """The latest rejection of one of these fingerprints after `since` that nobody has let be forgotten."""
    statement = (
        select(ApprovalRow)
        .where(col(ApprovalRow.fingerprint).in_(fingerprints), ApprovalRow.state == State.REJECTED)
        .where(col(ApprovalRow.resolved_at) > since, col(ApprovalRow.forgotten_at).is_(None))
        .order_by(col(ApprovalRow.resolved_at).desc())
    )
    return _first(session, statement)


def awaiting(session: Session, marks: Sequence[str], now: datetime) -> Approval | None:
    """The executing approval whose tool has waited longest for the input of one of these marks, and still does."""
    until = col(ApprovalRow.lease_until)
    statement = select(ApprovalRow).where(col(ApprovalRow.awaiting).in_(marks), ApprovalRow.state == State.EXECUTING)
    return _first(session, statement.where(until > now).order_by(until))


def of_session(session: Session, key: str) -> list[Approval]:
    """Those that a legacy session asked for and that may still run."""
    statement = select(ApprovalRow).where(ApprovalRow.session == key, _may_be_withdrawn())
    return _from_rows(session.exec(statement).all(), session)


def of_upstream(session: Session, upstream: str) -> list[Approval]:
    """Those that wait for a person or for their caller, of calls of one upstream, oldest first."""
    statement = select(ApprovalRow).where(ApprovalRow.upstream == upstream, _may_be_withdrawn())
    return _from_rows(session.exec(statement.order_by(col(ApprovalRow.created_at))).all(), session)


def _may_be_withdrawn() -> Any:
    return col(ApprovalRow.state).in_([State.PENDING.value, State.APPROVED.value])


def pending_of(session: Session, grant_id: str, now: datetime) -> int:
    """How many calls of a grant wait for people."""
    pending = ApprovalFilter(states=(State.PENDING,), grant=grant_id).conditions()
    statement = select(func.count()).select_from(ApprovalRow).where(*pending, col(ApprovalRow.deadline) > now)
    return session.exec(statement).one()


def nth_newest(session: Session, grant_id: str, since: datetime, n: int) -> datetime | None:
    """When the `n`th newest approval of a grant was made, however it ended; None when there are fewer since then."""
    made_at = col(ApprovalRow.created_at)
    made = select(made_at).where(ApprovalRow.grant_id == grant_id, made_at > since)
    return session.exec(made.order_by(made_at.desc()).offset(n - 1).limit(1)).first()


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


# -- rows and values --------------------------------------------------------------------------------------------------


def _first(session: Session, statement: SelectOfScalar[ApprovalRow]) -> Approval | None:
    found = session.exec(statement).first()
    return _from_rows([found], session)[0] if found is not None else None


def _from_rows(rows: Sequence[ApprovalRow], session: Session) -> list[Approval]:
    given: dict[str, list[Review]] = {row.id: [] for row in rows}
    statement = select(ReviewRow).where(col(ReviewRow.approval_id).in_(given)).order_by(col(ReviewRow.place))
    for review in session.exec(statement) if given else ():
        given[review.approval_id].append(_review_from_row(review))
    return [_from_row(row, tuple(given[row.id])) for row in rows]


def _from_row(row: ApprovalRow, reviews: tuple[Review, ...]) -> Approval:
    call = Call(
        id=row.call_id,
        upstream=row.upstream,
        tool=row.tool,
        params=row.params,
        grant=GrantRef(row.grant_id, row.grant_label, row.grant_owner),
        session=row.session,
    )
    return Approval(
        id=row.id,
        state=State(row.state),
        call=call,
        fingerprint=row.fingerprint,
        revision=row.revision,
        rule=row.rule,
        requirement=_requirement_from_json(row.requirement),
        created_at=row.created_at,
        deadline=row.deadline,
        reason=row.reason,
        risk=Risk(row.risk) if row.risk else None,
        definition=row.definition,
        execute_by=row.execute_by,
        caller=Caller(row.caller),
        reviews=reviews,
        resolution=_resolution_from_json(row.resolution),
        holder=row.holder,
        lease_until=row.lease_until,
        withdraw_at=row.withdraw_at,
        reminded=row.reminded,
        escalated_at=row.escalated_at,
        rounds=row.rounds,
        awaiting=row.awaiting,
        forgotten_at=row.forgotten_at,
        sealed=row.sealed,
    )


def _to_row(approval: Approval) -> ApprovalRow:
    call = approval.call
    return ApprovalRow(
        id=approval.id,
        state=approval.state.value,
        call_id=call.id,
        upstream=call.upstream,
        tool=call.tool,
        params=dict(call.params),
        grant_id=call.grant.id,
        grant_label=call.grant.label,
        grant_owner=call.grant.owner,
        session=call.session,
        fingerprint=approval.fingerprint,
        revision=approval.revision,
        rule=approval.rule,
        reason=approval.reason,
        risk=approval.risk.value if approval.risk else None,
        requirement=_requirement_to_json(approval.requirement),
        definition=approval.definition,
        created_at=approval.created_at,
        deadline=approval.deadline,
        execute_by=approval.execute_by,
        caller=approval.caller.value,
        resolution=_resolution_to_json(approval.resolution),
        holder=approval.holder,
        lease_until=approval.lease_until,
        withdraw_at=approval.withdraw_at,
        reminded=approval.reminded,
        escalated_at=approval.escalated_at,
        rounds=approval.rounds,
        awaiting=approval.awaiting,
        forgotten_at=approval.forgotten_at,
        resolved_at=approval.resolution.at if approval.resolution is not None else None,
        due=schedule.due(approval),
        sealed=approval.sealed,
    )


def _review_from_row(row: ReviewRow) -> Review:
    return Review(
        by=row.person,
        decision=Decision(row.decision),
        channel=row.channel,
        revision=row.revision,
        at=row.at,
        reason=row.reason,
    )


def _review_to_row(approval_id: str, place: int, given: Review) -> ReviewRow:
    return ReviewRow(
        approval_id=approval_id,
        person=given.by,
        place=place,
        decision=given.decision.value,
        reason=given.reason,
        channel=given.channel,
        revision=given.revision,
        at=given.at,
    )


def _requirement_to_json(requirement: Requirement) -> dict[str, Any]:
    late, kept = requirement.escalate, requirement.remember
    return {
        "approvers": list(requirement.approvers),
        "quorum": requirement.quorum,
        "timeout": requirement.timeout.total_seconds() if requirement.timeout is not None else None,
        "channels": list(requirement.channels),
        "allow_self": requirement.allow_self,
        "allow_edit": requirement.allow_edit,
        "escalate": {"after": late.after.total_seconds(), "to": list(late.to)} if late is not None else None,
        "remember": {"scopes": list(kept.scopes), "max": kept.max.total_seconds()} if kept is not None else None,
    }


def _requirement_from_json(stored: dict[str, Any]) -> Requirement:
    timeout = stored["timeout"]
    late, kept = stored.get("escalate"), stored.get("remember")  # rows of earlier versions do not have these
    return Requirement(
        approvers=tuple(stored["approvers"]),
        quorum=stored["quorum"],
        timeout=timedelta(seconds=timeout) if timeout is not None else None,
        channels=tuple(stored["channels"]),
        allow_self=stored["allow_self"],
        allow_edit=stored.get("allow_edit", False),
        escalate=Escalation(timedelta(seconds=late["after"]), tuple(late["to"])) if late else None,
        remember=Memory(tuple(kept["scopes"]), timedelta(seconds=kept["max"])) if kept else None,
    )


def _resolution_to_json(end: Resolution | None) -> dict[str, Any] | None:
    if end is None:
        return None
    return {
        "state": end.state.value,
        "at": timestamp(end.at),
        "by": end.by,
        "channel": end.channel,
        "reason": end.reason,
        "cause": end.cause.value if end.cause else None,
    }


def _resolution_from_json(stored: dict[str, Any] | None) -> Resolution | None:
    if stored is None:
        return None
    return Resolution(
        state=State(stored["state"]),
        at=datetime.fromisoformat(stored["at"]),
        by=stored["by"],
        channel=stored["channel"],
        reason=stored["reason"],
        cause=Cause(stored["cause"]) if stored["cause"] else None,
    )
