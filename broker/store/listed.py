"""Approvals as lists show them: read without what only a card, a run or a program needs.

What belongs here: the queries behind the queue, whose cost does not grow with what agents sent or with what is over.
What does not: whole approvals (`approvals`), who sees which (`broker.web.visibility`).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Dialect, Select, Text, and_, bindparam, func, null, or_
from sqlalchemy import select as sql_select
from sqlalchemy.types import TypeDecorator
from sqlmodel import Session, col

from broker.domain.approvals import Approval, State
from broker.domain.people import GrantRef
from broker.store.approval_rows import from_rows
from broker.store.approvals import ApprovalFilter, newest_first
from broker.store.tables import ApprovalRow, AuditRow, table_of

LONGEST = 8192
"""The most characters of a call's params that are read for a list."""

LOOKED_AT = 300
"""Of how many waiting calls it is said what a queue can be narrowed to."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An approval for a line in a list; it is never to be saved.

    Args:
        approval: without its tool's definition and without what is sealed.
        cut: whether its params are longer than `LONGEST`, and only the beginning of them is there.
    """

    approval: Approval
    cut: bool


@dataclass(frozen=True, slots=True)
class Agent:
    """Calls of one tool that wait, of one agent: what a queue can be narrowed to."""

    upstream: str
    tool: str
    grant: GrantRef


class _Beginning(TypeDecorator[Any]):
    """A JSON object of which the end may be missing: as much of it as is there."""

    impl = Text
    cache_ok = True

    def process_result_value(self, value: Any | None, dialect: Dialect) -> dict[str, Any]:
        """From the database."""
        text = str(value)
        try:
            return json.loads(text) if len(text) < LONGEST else from_json(text, allow_partial="trailing-strings")
        except ValueError:  # half a surrogate, say
            return {}


_table = table_of(ApprovalRow)
_LEFT_OUT = ("params", "definition", "sealed")
_LIST = sql_select(
    *(column for column in _table.c if column.name not in _LEFT_OUT),
    func.substr(_table.c.params, 1, LONGEST, type_=_Beginning()).label("params"),
    (func.length(_table.c.params) > LONGEST).label("cut"),
    null().label("definition"),
    null().label("sealed"),
)
_BY_IDS = _LIST.where(_table.c.id.in_(bindparam("ids", expanding=True)))
_LAST_ROW = sql_select(func.max(col(AuditRow.seq))).where(col(AuditRow.approval_id).is_not(None))
_CHOSEN = ("upstream", "tool", "grant_id", "grant_label", "grant_owner")
_CHOICES = sql_select(*(_table.c[name] for name in _CHOSEN))


def by_ids(session: Session, ids: Collection[str]) -> list[Listed]:
    """Those of `ids` that there are."""
    return _found(session, _BY_IDS, ids=list(ids)) if ids else []


def page(
    session: Session, wanted: ApprovalFilter, *, before: tuple[datetime, str] | None = None, limit: int = 50
) -> list[Listed]:
    """The newest approvals that match, newest first; `before` is (created_at, id) of the last one seen."""
    return _found(session, newest_first(_LIST, wanted, before, limit))


def decided(
    session: Session, *, owner: str | None = None, before: tuple[datetime, str] | None = None, limit: int = 50
) -> list[Listed]:
    """What was decided or ended last, the latest first; `before` is (when, id) of the last one seen.

    Args:
        owner: only calls of their agents.
    """
    at, of = _table.c.resolved_at, _table.c.id
    statement = _LIST.where(at.is_not(None))
    if owner is not None:
        statement = statement.where(_table.c.grant_owner == owner)
    if before is not None:
        statement = statement.where(or_(at < before[0], and_(at == before[0], of < before[1])))
    return _found(session, statement.order_by(at.desc(), of.desc()).limit(limit))


def choices(session: Session, owner: str | None = None) -> list[Agent]:
    """Which calls wait, of the newest `LOOKED_AT`: each upstream, tool and agent once.

    Args:
        owner: only calls of their agents.
    """
    wanted = ApprovalFilter(states=(State.PENDING,), owner=owner)
    newest = newest_first(_CHOICES, wanted, None, LOOKED_AT).subquery()
    statement = sql_select(newest).distinct().order_by(*newest.c)
    return [
        Agent(upstream, tool, GrantRef(grant, label, whose))
        for upstream, tool, grant, label, whose in session.connection().execute(statement)
    ]


def last_row(session: Session) -> int:
    """The number of the last audit row about an approval: while it is the same, no approval has changed."""
    return session.connection().execute(_LAST_ROW).scalar() or 0


def _found(session: Session, statement: Select[Any], **values: Any) -> list[Listed]:
    rows = session.connection().execute(statement, values).all()
    return [Listed(approval, bool(row.cut)) for row, approval in zip(rows, from_rows(rows, session), strict=True)]
