"""Writing whole rows of one table by the driver itself.

What belongs here: that, and the form in which a value is kept. What does not: which columns there are (`tables`), what
is in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, Table, bindparam, insert, update

from broker.store.prepared import Prepared


class Rows:
    """The rows of one table, each a dict of all its columns. The driver's own errors are raised."""

    def __init__(self, table: Table) -> None:
        self._table = table
        keys = [key == bindparam(key.name) for key in table.primary_key]
        changed: dict[str, Any] = {one.name: bindparam(one.name) for one in table.columns if not one.primary_key}
        self._insert = Prepared(insert(table))
        self._update = Prepared(update(table).where(*keys).values(changed))
        self._forms: dict[str, list[tuple[str, Any]]] = {}

    def add(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Insert `rows`; their values take the form in which they are kept."""
        self._insert.on_each(connection, self._kept(connection, rows))

    def put(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Insert each of `rows`, or update the one with its key."""
        for row in self._kept(connection, rows):
            if not self._update.on(connection, row).rowcount:
                self._insert.on(connection, row)

    def _kept(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        forms = self._forms.get(connection.dialect.name) or self._add_forms(connection.dialect)
        for row in rows:
            row.update({name: form(row[name]) for name, form in forms})
        return rows

    def _add_forms(self, dialect: Dialect) -> list[tuple[str, Any]]:
        forms = {column.name: column.type.bind_processor(dialect) for column in self._table.columns}
        found = self._forms[dialect.name] = [(name, form) for name, form in forms.items() if form is not None]
        return found
