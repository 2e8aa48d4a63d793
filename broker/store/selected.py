"""Queries that every held call runs: by the driver itself, which is given values as columns keep them.

What belongs here: that one way of reading. What does not: the queries, which lie with their tables.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Dialect, Select, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from broker.store.prepared import Prepared


class Selected:
    """A query with named values, and constants that are its own. The driver's own errors are raised."""

    def __init__(self, statement: Select[Any]) -> None:
        columns = statement.selected_columns
        self._prepared = Prepared(statement)
        self._constants = {name: value for name, value in statement.compile().params.items() if value is not None}
        self._types = [column.type for column in columns]
        self._row: Any = namedtuple("_row", [column.name for column in columns], rename=True)  # noqa: PYI024
        self._forms: dict[str, list[tuple[int, Callable[[Any], Any]]]] = {}

    def all(self, connection: Connection, values: Mapping[str, Any] | None = None) -> list[Any]:
        """The rows that are found, with their columns by name.

        Args:
            values: as columns keep them: an instant as microseconds, several values as `listed` says.
        """
        found = self._prepared.on(connection, {**self._constants, **(values or {})}).fetchall()
        forms = self._forms.get(connection.dialect.name) or self._add_forms(connection.dialect)
        rows = list[Any]()
        for row in map(list, found):
            for place, form in forms:
                row[place] = form(row[place])
            rows.append(self._row._make(row))
        return rows

    def first(self, connection: Connection, values: Mapping[str, Any] | None = None) -> Any | None:
        """The first of them; None when there are none."""
        return next(iter(self.all(connection, values)), None)

    def _add_forms(self, dialect: Dialect) -> list[tuple[int, Callable[[Any], Any]]]:
        forms = [kind.dialect_impl(dialect).result_processor(dialect, None) for kind in self._types]
        found = self._forms[dialect.name] = [(place, form) for place, form in enumerate(forms) if form is not None]
        return found


def one_of(column: Any, name: str) -> ColumnElement[bool]:
    """The condition that a column of texts has one of the values that are given as `name`."""
    return column.op("IN", is_comparison=True)(_Each(bindparam(name)))


def listed(values: Iterable[str]) -> str:
    """Several values as one, so that their number makes no other statement."""
    return json.dumps(list(values))


class _Each(FunctionElement[str]):
    """The texts in a JSON array."""

    inherit_cache = True


@compiles(_Each, "sqlite")
def _of_sqlite(each: _Each, compiler: Any, **given: Any) -> str:
    return f"(SELECT value FROM json_each({compiler.process(each.clauses, **given)}))"


@compiles(_Each)
def _of_postgresql(each: _Each, compiler: Any, **given: Any) -> str:
    return f"(SELECT json_array_elements_text(CAST({compiler.process(each.clauses, **given)} AS json)))"
