"""Bringing a database to the present schema, with the migrations that lie beside this module."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from broker.errors import StoreError
from broker.store.engine import MIGRATING, WRITER, first_line, is_sqlite

MIGRATIONS = Path(__file__).with_name("migrations")
HEAD = "0013"
"""The newest revision; a test holds it against the migrations."""


def migrate(engine: Engine) -> None:
    """Create or upgrade the tables; at once when they are up to date. Safe from several processes at a time.

    Raises:
        StoreError: the database cannot be reached, or was made by a newer broker.
    """
    try:
        with engine.execution_options(**{WRITER: True}).connect() as connection, connection.begin():
            if not is_sqlite(engine):
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATING})
            if _revision(connection) != HEAD:
                _upgrade(connection)
    except (SQLAlchemyError, engine.dialect.loaded_dbapi.Error) as error:
        raise StoreError(f"The store cannot be opened: {first_line(error)}.") from error


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - it takes longer to import than a start with nothing to do
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(
            f"The store has a schema that this version does not know ({error}). It was written by a newer broker: "
            "nothing was changed; install that version or restore a backup."
        ) from error
