"""Statements that every call runs: compiled once for each database, and given to its driver as they are.

What belongs here: that one way of running them. What does not: the statements, which lie with their tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ClauseElement, Connection, Dialect
from sqlalchemy.dialects import sqlite

from broker.store.engine import driver


class Prepared:
    """A statement with named values. SQLAlchemy's own way with one costs several times what the database does.

    Values go to the driver as they are: instants as microseconds. The driver's own errors are raised.
    """

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._texts: dict[str, str] = {}

    def on(self, connection: Connection, values: Mapping[str, Any] | None = None) -> Any:
        """Run it; returns the driver's cursor."""
        return driver(connection).execute(self._text(connection.dialect), values or {})

    def on_each(self, connection: Connection, values: Sequence[Mapping[str, Any]]) -> None:
        """Run it once for each of `values`."""
        if values:
            driver(connection).cursor().executemany(self._text(connection.dialect), values)

    def _text(self, dialect: Dialect) -> str:
        text = self._texts.get(dialect.name)
        if text is None:
            # Placeholders with names, so that values need no order; psycopg's have them anyhow.
            named = sqlite.dialect(paramstyle="named") if dialect.name == "sqlite" else dialect
            text = self._texts[dialect.name] = str(self._statement.compile(dialect=named))
        return text
