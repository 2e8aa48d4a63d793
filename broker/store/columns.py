"""How values lie in a column: the types that every table uses.

Instants are microseconds since 1970 in UTC: exact, and the same on both databases. JSON is ASCII text, so that any
string an agent sends can be stored (PostgreSQL's own JSON and text types refuse NUL characters).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Dialect, Text
from sqlalchemy.types import TypeDecorator

from broker.domain.canonical import encoder

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

as_text = encoder(ascii_only=True, sorted_keys=False)
"""JSON as it is kept."""


def micros(instant: datetime) -> int:
    """Microseconds since 1970."""
    return (instant - EPOCH) // MICROSECOND


class Instant(TypeDecorator[datetime]):
    """An aware instant, stored as whole microseconds since the epoch."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """To the database: microseconds."""
        return None if value is None else micros(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """From the database: an aware datetime in UTC."""
        return None if value is None else EPOCH + timedelta(microseconds=int(value))


class Json(TypeDecorator[Any]):
    """A JSON value as ASCII text; integers stay exact at any size."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any | None, dialect: Dialect) -> str | None:
        """To the database."""
        return None if value is None else as_text(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Any | None:
        """From the database."""
        return None if value is None else json.loads(value)
