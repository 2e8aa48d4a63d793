"""Grants: saving, finding by token, listing. Each change is recorded in the transaction that makes it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam
from sqlalchemy import select as sql_select
from sqlmodel import Session, col, select

from broker.domain.audit import Event, Kind
from broker.domain.canonical import new_id, new_token, token_hash
from broker.domain.durations import written_duration
from broker.domain.people import Grant, normal_email
from broker.errors import NotFound
from broker.store.selected import Selected, listed, one_of
from broker.store.tables import GrantRow, table_of
from broker.store.writer import Transaction

_ALL = sql_select(table_of(GrantRow))
_BY_IDS = Selected(_ALL.where(one_of(col(GrantRow.id), "ids")))
_BY_TOKEN = Selected(_ALL.where(col(GrantRow.token_hash) == bindparam("token_hash")))


@dataclass(frozen=True, slots=True)
class NewGrant:
    """A grant together with its token, which is shown once and not kept."""

    grant: Grant
    token: str


def create(
    tx: Transaction,
    actor: str,
    *,
    label: str,
    owner: str,
    upstreams: frozenset[str],
    expires_at: datetime | None,
    patience: timedelta | None = None,
) -> NewGrant:
    """Make a grant and record it; `patience` is in whole seconds."""
    token = new_token("bg")
    grant = Grant(
        id=new_id("grant"),
        label=label,
        owner=normal_email(owner),
        upstreams=upstreams,
        created_at=tx.now,
        expires_at=expires_at,
        patience=patience,
    )
    tx.session.add(
        GrantRow(
            id=grant.id,
            token_hash=token_hash(token),
            label=grant.label,
            owner=grant.owner,
            upstreams=sorted(upstreams),
            created_at=grant.created_at,
            expires_at=expires_at,
            patience=int(patience.total_seconds()) if patience is not None else None,
        )
    )
    tx.record(Event(kind=Kind.GRANT_CREATED, actor=actor, grant=grant.id, detail=_detail(grant)))
    return NewGrant(grant, token)


def rotate(tx: Transaction, actor: str, grant_id: str) -> NewGrant:
    """Give a grant a new token; the old one stops working.

    Raises:
        NotFound: there is no such grant, or it is revoked.
    """
    row = _live_row(tx.session, grant_id)
    token = new_token("bg")
    row.token_hash = token_hash(token)
    tx.session.add(row)
    tx.record(Event(kind=Kind.GRANT_ROTATED, actor=actor, grant=grant_id))
    return NewGrant(_from_row(row), token)


def revoke(tx: Transaction, actor: str, grant_id: str) -> Grant:
    """End a grant.

    Raises:
        NotFound: there is no such grant, or it is revoked already.
    """
    row = _live_row(tx.session, grant_id)
    row.revoked_at = tx.now
    tx.session.add(row)
    tx.record(Event(kind=Kind.GRANT_REVOKED, actor=actor, grant=grant_id))
    return _from_row(row)


def by_token(session: Session, token: str) -> Grant | None:
    """The grant that `token` belongs to, live or not, or None."""
    row = _BY_TOKEN.first(session.connection(), {"token_hash": token_hash(token)})
    return _from_row(row) if row is not None else None


def get(session: Session, grant_id: str) -> Grant | None:
    """One grant, live or not, or None."""
    return next(iter(by_ids(session, [grant_id])), None)


def by_ids(session: Session, ids: Collection[str]) -> list[Grant]:
    """Those of `ids` that exist, live or not."""
    return [_from_row(row) for row in _BY_IDS.all(session.connection(), {"ids": listed(ids)})]


def all_grants(session: Session, owner: str | None = None) -> list[Grant]:
    """Every grant, newest first; with `owner`, only theirs."""
    statement = select(GrantRow).order_by(col(GrantRow.created_at).desc())
    if owner is not None:
        statement = statement.where(GrantRow.owner == normal_email(owner))
    return [_from_row(row) for row in session.exec(statement)]


def _live_row(session: Session, grant_id: str) -> GrantRow:
    row = session.get(GrantRow, grant_id)
    if row is None or row.revoked_at is not None:
        raise NotFound(f"There is no live grant {grant_id}: `broker grant list` shows them.")
    return row


def _from_row(row: Any) -> Grant:
    return Grant(
        id=row.id,
        label=row.label,
        owner=row.owner,
        upstreams=frozenset(row.upstreams),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        patience=timedelta(seconds=row.patience) if row.patience is not None else None,
    )


def _detail(grant: Grant) -> dict[str, Any]:
    said = {"label": grant.label, "owner": grant.owner, "upstreams": sorted(grant.upstreams)}
    return said | ({"patience": written_duration(grant.patience)} if grant.patience is not None else {})
