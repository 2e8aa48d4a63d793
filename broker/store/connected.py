"""The session that queries are given: most of them only take its connection, and then the ORM does nothing.

What belongs here: that session. What does not: when a transaction begins and ends (`commits`, `writer`).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection
from sqlmodel import Session


class Connected(Session):
    """A session on a connection that is in a transaction, which whoever began it ends.

    Where it writes, it does so in a savepoint: what the ORM fails to write spoils nothing that others wrote before.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, join_transaction_mode="create_savepoint")
        self._given = connection

    def connection(self, *_: Any, **__: Any) -> Connection:
        """The connection as it is: SQLAlchemy's own way to it costs more than many a query."""
        return self._given
