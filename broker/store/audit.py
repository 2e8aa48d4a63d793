"""Reading the audit log, and rows to and from their columns. Appending is the writer's (`broker.store.writer`)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, cast

from sqlalchemy import Select, Text, and_, bindparam, or_, type_coerce
from sqlalchemy import select as sql_select
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col, select

from broker.domain.audit import Event, Head, Kind, Row
from broker.domain.canonical import Keyring, canonical_json
from broker.errors import ChainBroken, ContentsAltered, StoreError
from broker.store.columns import as_text
from broker.store.selected import Selected, listed, one_of
from broker.store.tables import ApprovalRow, AuditRow, ChainHead, ContentRow, GrantRow, table_of

STREAM = 1000
"""Rows fetched at a time when the whole log is read."""

MOST_HISTORY = 500
"""The most rows of one call that are told together: an agent may go away and come back without an end."""

_ALL = sql_select(table_of(AuditRow))
_ONE = _ALL.where(col(AuditRow.seq) == bindparam("seq"))
_AFTER = Selected(_ALL.where(col(AuditRow.seq) > bindparam("seq")).order_by("seq").limit(bindparam("limit")))
_SINCE = Selected(
    _ALL.where(col(AuditRow.approval_id).is_not(None), col(AuditRow.seq) > bindparam("seq")).order_by("seq")
)
_LATEST = (
    sql_select(col(AuditRow.seq))
    .where(or_(col(AuditRow.call_id) == bindparam("call_id"), col(AuditRow.approval_id) == bindparam("approval_id")))
    .order_by(col(AuditRow.seq).desc())
    .limit(MOST_HISTORY)
)
_HISTORY = Selected(_ALL.where(col(AuditRow.seq).in_(_LATEST)).order_by("seq"))
_CONTENTS = Selected(sql_select(table_of(ContentRow)).where(one_of(col(ContentRow.call_id), "call_ids")))
_HEAD = Selected(sql_select(table_of(ChainHead)).where(col(ChainHead.id) == 1))

# The last two are what SQLite says of text that is no UTF-8.
_UNREADABLE = (ValueError, OverflowError, OperationalError, sqlite3.OperationalError)


def columns(event: Event, at: int) -> dict[str, Any]:
    """The columns of a row as they are kept, for the driver, but for its place: `seq`, `prev` and `digest`.

    Args:
        at: microseconds since 1970.
    """
    return {
        "at": at,
        "kind": event.kind.value,
        "actor": event.actor,
        "call_id": event.call_id,
        "approval_id": event.approval_id,
        "upstream": event.upstream,
        "tool": event.tool,
        "grant_id": event.grant,
        "verdict": event.verdict,
        "rule": event.rule,
        "arguments_digest": event.arguments_digest,
        "detail": as_text(dict(event.detail)) if event.detail else "{}",
    }


def _found(session: Session, statement: Select[Any], **values: Any) -> list[Row]:
    return [_from_columns(found) for found in session.connection().execute(statement, values)]


def _selected(session: Session, query: Selected, **values: Any) -> list[Row]:
    return [_from_columns(found) for found in query.all(session.connection(), values)]


def _from_columns(found: Any) -> Row:
    detail: object = found.detail
    if not isinstance(detail, dict) or any(isinstance(value, bytes) for value in found):
        raise ValueError("of another type than was written")  # SQLite keeps bytes in a column of text
    return Row(
        seq=found.seq,
        at=found.at,
        kind=Kind(found.kind),
        actor=found.actor,
        call_id=found.call_id,
        approval_id=found.approval_id,
        upstream=found.upstream,
        tool=found.tool,
        grant=found.grant_id,
        verdict=found.verdict,
        rule=found.rule,
        arguments_digest=found.arguments_digest,
        detail=cast("dict[str, Any]", detail),
        prev=found.prev,
        digest=found.digest,
    )


def head(session: Session) -> Head:
    """The end of the chain as the store believes it.

    Raises:
        StoreError: it is not there any more.
    """
    found = _HEAD.first(session.connection())
    if found is None or not isinstance(found.seq, int):
        raise StoreError(
            "The store does not say where its audit chain ends (table chain_head): somebody took that out. "
            "Restore the store from a backup; nothing is recorded until then."
        )
    return Head(found.seq, found.digest)


def rows(session: Session, seqs: Sequence[int], *, newest_first: bool = False) -> list[Row]:
    """The rows of these numbers, by their numbers.

    Raises:
        ChainBroken: one of them was altered to something that cannot even be read.
    """
    order = col(AuditRow.seq).desc() if newest_first else col(AuditRow.seq)
    try:
        return _found(session, _ALL.where(col(AuditRow.seq).in_(seqs)).order_by(order)) if seqs else []
    except _UNREADABLE:
        return [row for seq in seqs if (row := _readable(session, seq)) is not None]


def stream(session: Session) -> Iterator[Row]:
    """All rows, oldest first, in constant memory.

    Raises:
        ChainBroken: names the first row that was altered to something that cannot even be read.
    """
    last = 0
    while found := after(session, last):
        yield from found
        last = found[-1].seq


def after(session: Session, seq: int, limit: int = STREAM) -> list[Row]:
    """The next rows after `seq`, oldest first, at most `limit`; none at the end.

    Raises:
        ChainBroken: the first of them was altered to something that cannot even be read.
    """
    try:
        return _selected(session, _AFTER, seq=seq, limit=limit)
    except _UNREADABLE:
        seqs = select(AuditRow.seq).where(col(AuditRow.seq) > seq).order_by(col(AuditRow.seq)).limit(limit)
        return _up_to_unreadable(session, session.exec(seqs).all())


def _up_to_unreadable(session: Session, seqs: Sequence[int]) -> list[Row]:
    rows: list[Row] = []
    for seq in seqs:
        try:
            found = _readable(session, seq)
        except ChainBroken:
            if rows:
                return rows
            raise
        rows.extend([found] if found is not None else [])
    return rows


def _readable(session: Session, seq: int) -> Row | None:
    try:
        return get(session, seq)
    except _UNREADABLE as error:
        raise ChainBroken(seq, "its content was altered") from error


def get(session: Session, seq: int) -> Row | None:
    """One row, or None."""
    return next(iter(_found(session, _ONE, seq=seq)), None)


def history(session: Session, call_id: str | None, approval_id: str | None) -> list[Row]:
    """What happened to one call and its approval, oldest first; of more than `MOST_HISTORY` rows the latest.

    Raises:
        ChainBroken: a row was altered to something that cannot even be read.
    """
    ids = {"call_id": call_id, "approval_id": approval_id}
    try:
        return _selected(session, _HISTORY, **ids)
    except _UNREADABLE:
        seqs = sorted(session.connection().execute(_LATEST, ids).scalars())
        return [row for seq in seqs if (row := _readable(session, seq)) is not None]


def approvals_since(session: Session, seq: int) -> list[Row]:
    """Rows about approvals after `seq`, oldest first. Commits come in the order of `seq`, so none appears late."""
    return _selected(session, _SINCE, seq=seq)


def next_about_no_call(session: Session, kinds: Collection[Kind], seq: int) -> Row | None:
    """The first row of one of `kinds` after `seq` that is about no call."""
    mine = (col(AuditRow.call_id).is_(None), col(AuditRow.kind).in_([kind.value for kind in kinds]))
    statement = _ALL.where(*mine, col(AuditRow.seq) > seq).order_by(col(AuditRow.seq)).limit(1)
    return next(iter(_found(session, statement)), None)


def last_about_no_call(session: Session, kind: Kind) -> Row | None:
    """The last row of `kind`, of those that are about no call."""
    mine = (col(AuditRow.call_id).is_(None), col(AuditRow.kind) == kind.value)
    statement = _ALL.where(*mine).order_by(col(AuditRow.seq).desc()).limit(1)
    return next(iter(_found(session, statement)), None)


def contents(session: Session, call_id: str) -> dict[str, Any]:
    """What is still kept of a call, by what it is: see `ContentRow`."""
    return contents_of(session, [call_id])[call_id]


def contents_of(session: Session, call_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The same for several calls, by their ids."""
    found: dict[str, dict[str, Any]] = {call_id: {} for call_id in call_ids}
    for row in _CONTENTS.all(session.connection(), {"call_ids": listed(found)}) if found else ():
        found[row.call_id][row.what] = row.body
    return found


def labels_of(session: Session, grant_ids: Collection[str]) -> dict[str, str]:
    """What people call the agents of several grants, by their ids."""
    statement = select(GrantRow.id, GrantRow.label).where(col(GrantRow.id).in_(grant_ids))
    return dict(session.exec(statement).all()) if grant_ids else {}


def check_contents(session: Session, keyring: Keyring, end: int) -> int:
    """Compare the calls that are kept with what the rows up to `end` were written for. Emptied ones are fine.

    Returns:
        How many rows have a call that is kept and is the recorded one.

    Raises:
        ContentsAltered: names the first row whose call is another one now, in the contents or in its approval.
    """
    checked = last = 0
    rows: Sequence[Any]
    while rows := session.connection().execute(_recorded_calls(last, end)).all():
        for seq, digest, kept, held, same_tool in rows:
            found = [text for text in (kept, held) if text is not None]
            if not all(_recorded(keyring, digest, text) for text in found) or (held is not None and not same_tool):
                raise ContentsAltered(seq)
            checked += bool(found)
        last = rows[-1].seq
    return checked


def _recorded_calls(last: int, end: int) -> Any:
    """Rows with a digest of their call, the call as the contents and as the approval have it, and whose tool it is."""
    seen = col(ContentRow.what).in_(("arguments", "redacted"))
    contents = and_(col(ContentRow.call_id) == col(AuditRow.call_id), seen)
    same_tool = and_(
        col(ApprovalRow.upstream) == col(AuditRow.upstream),
        col(ApprovalRow.tool) == col(AuditRow.tool),
        col(ApprovalRow.grant_id) == col(AuditRow.grant_id),
    )
    return (
        sql_select(
            col(AuditRow.seq),
            col(AuditRow.arguments_digest),
            type_coerce(col(ContentRow.body), Text),
            type_coerce(col(ApprovalRow.params), Text),
            same_tool,
        )
        .join(ContentRow, contents, isouter=True)
        .join(ApprovalRow, col(ApprovalRow.id) == col(AuditRow.approval_id), isouter=True)
        .where(col(AuditRow.arguments_digest).is_not(None), col(AuditRow.seq) > last, col(AuditRow.seq) <= end)
        .order_by(col(AuditRow.seq))
        .limit(STREAM)
    )


def _recorded(keyring: Keyring, digest: str, text: str) -> bool:
    """Whether `digest` was made of the params in `text`, JSON. What was emptied is no other call."""
    try:
        params = json.loads(text)
        return not params or keyring.verify("arguments", canonical_json(params), digest)
    except ValueError:
        return False
