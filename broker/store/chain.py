"""The record's tables as a commit uses them: the head that it locks, the rows and contents that it appends.

What belongs here: these statements, which every call runs twice. What does not: transactions (`broker.store.writer`),
any other table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, Table, bindparam, insert, literal_column, select, update

from broker.domain.audit import Head, Row
from broker.store.audit import to_columns
from broker.store.prepared import Prepared
from broker.store.tables import AuditRow, ChainHead, ContentRow, table_of

_head = table_of(ChainHead)
_THE_HEAD = _head.c.id == literal_column("1")
_LOCK = Prepared(select(_head.c.seq, _head.c.digest).where(_THE_HEAD).with_for_update())
_MOVE = Prepared(update(_head).where(_THE_HEAD).values(seq=bindparam("seq"), digest=bindparam("digest")))


class Chain:
    """The record in one database. Its methods raise the driver's own errors."""

    def __init__(self, engine: Engine) -> None:
        self._rows = _Insert(table_of(AuditRow), engine.dialect)
        self._contents = _Insert(table_of(ContentRow), engine.dialect)

    def lock(self, connection: Connection) -> Head:
        """The end of the chain; nobody else appends until the transaction is over."""
        seq, digest = _LOCK.on(connection).fetchone()
        return Head(seq, digest)

    def append(self, connection: Connection, rows: Sequence[Row], contents: Sequence[dict[str, Any]]) -> None:
        """Append `rows`, which follow the head that was locked, and put `contents` beside them."""
        if rows:
            self._rows.of(connection, [to_columns(row) for row in rows])
            _MOVE.on(connection, {"seq": rows[-1].seq, "digest": rows[-1].digest})
        if contents:
            self._contents.of(connection, contents)


class _Insert:
    """Inserting many rows into one table."""

    def __init__(self, table: Table, dialect: Dialect) -> None:
        self._statement = Prepared(insert(table))
        forms = {column.name: column.type.bind_processor(dialect) for column in table.columns}
        self._forms = [(name, form) for name, form in forms.items() if form is not None]

    def of(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Insert `rows`, each a dict of all columns."""
        for row in rows:
            row.update({name: form(row[name]) for name, form in self._forms})
        self._statement.on_each(connection, rows)
