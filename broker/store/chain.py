"""The record's tables as a commit uses them: the head that it locks, the rows and contents that it appends.

What belongs here: these statements, which every call runs twice; they raise the driver's own errors. What does not:
transactions (`broker.store.writer`), any other table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, literal_column, select, update

from broker.domain.audit import Head
from broker.store.prepared import Prepared
from broker.store.rows import Rows
from broker.store.tables import AuditRow, ChainHead, ContentRow, table_of

_head = table_of(ChainHead)
_THE_HEAD = _head.c.id == literal_column("1")
_LOCK = Prepared(select(_head.c.seq, _head.c.digest).where(_THE_HEAD).with_for_update())
_MOVE = Prepared(update(_head).where(_THE_HEAD).values(seq=bindparam("seq"), digest=bindparam("digest")))


_APPEND, _CONTENTS = Prepared(insert(table_of(AuditRow))), Rows(table_of(ContentRow))


def lock(connection: Connection) -> Head:
    """The end of the chain; nobody else appends until the transaction is over."""
    seq, digest = _LOCK.on(connection).fetchone()
    return Head(seq, digest)


def append(connection: Connection, rows: Sequence[dict[str, Any]], contents: Sequence[dict[str, Any]]) -> None:
    """Append `rows`, as their columns, which follow the head that was locked, and put `contents` beside them."""
    if rows:
        _APPEND.on_each(connection, rows)
        _MOVE.on(connection, rows[-1])
    _CONTENTS.add(connection, contents)
