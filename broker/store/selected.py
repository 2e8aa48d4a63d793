"""Queries that every held call runs: by the driver itself, which is given values as columns keep them.

What belongs here: that one way of reading. What does not: the queries, which lie with their tables.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Dialect, Select, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from broker.store.prepared import Prepared


class Selected:
    """A query with named values. The driver's own errors are raised."""

    def __init__(self, statement: Select[*tuple[Any, ...]]) -> None:
        self._statement = statement
        self._prepared = Prepared(statement)
        names: list[str] = [column.name for column in statement.selected_columns]
        self._row: Any = namedtuple("_row", names, rename=True)  # pyright: ignore[reportUntypedNamedTuple]
        self._of: dict[str, _OfDialect] = {}

    def all(self, connection: Connection, values: Mapping[str, Any] | None = None) -> list[Any]:
        """The rows that are found, with their columns by name.

        Args:
            values: as columns keep them: an instant as microseconds, several values as `listed` says.
        """
        its = self._of.get(connection.dialect.name) or self._add(connection.dialect)
        rows = list[Any]()
        for found in map(list, self._prepared.on(connection, {**its.constants, **(values or {})})):
            for place, form in its.forms:
                found[place] = form(found[place])
            rows.append(self._row._make(found))
        return rows

    def first(self, connection: Connection, values: Mapping[str, Any] | None = None) -> Any | None:
        """The first of them; None when there are none."""
        return next(iter(self.all(connection, values)), None)

    def _add(self, dialect: Dialect) -> _OfDialect:
        said = self._statement.compile(dialect=dialect).params.items()
        types = [column.type.dialect_impl(dialect) for column in self._statement.selected_columns]
        forms = [kind.result_processor(dialect, None) for kind in types]
        found = self._of[dialect.name] = _OfDialect(
            {name: value for name, value in said if value is not None},
            [(place, form) for place, form in enumerate(forms) if form is not None],
        )
        return found


@dataclass(frozen=True, slots=True)
class _OfDialect:
    """What a query is for one database: the values that it says itself, and what makes a value of a column's."""

    constants: Mapping[str, Any]
    forms: Sequence[tuple[int, Callable[[Any], Any]]]


def one_of(column: Any, name: str) -> ColumnElement[bool]:
    """The condition that a column of the broker's own words has one of those that are given as `name`."""
    return column.op("IN", is_comparison=True)(_Each(bindparam(name)))


def listed(words: Iterable[str]) -> str:
    """Several of the broker's own words, such as ids, as one value, so that their number makes no other statement.

    What can be none is left out: SQLite would cut it off at a NUL and find another, PostgreSQL would refuse all.
    """
    return json.dumps([word for word in words if word.isascii() and word.isprintable()])


class _Each(FunctionElement[str]):
    """The words in a JSON array."""

    inherit_cache = True


@compiles(_Each, "sqlite")
def _of_sqlite(each: _Each, compiler: Any, **given: Any) -> str:
    return f"(SELECT value FROM json_each({compiler.process(each.clauses, **given)}))"  # noqa: S608 - the name of a value


@compiles(_Each)
def _of_postgresql(each: _Each, compiler: Any, **given: Any) -> str:
    return f"(SELECT json_array_elements_text(CAST({compiler.process(each.clauses, **given)} AS json)))"
