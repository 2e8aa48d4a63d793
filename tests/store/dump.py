"""All that lies in a store, for tests that look for what must not be there."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from broker.store.engine import make_engine


def whole_store(url: str) -> str:
    """Every value of every table as text, and of SQLite the bytes of its files as well, whatever page they lie in."""
    engine = make_engine(url)
    found: list[str] = []
    with engine.connect() as connection:
        for name in sa.inspect(engine).get_table_names():
            rows = connection.execute(sa.select(sa.text("*")).select_from(sa.table(name)))
            found.extend(repr(tuple(row)) for row in rows)  # as a row of SQLAlchemy it would be shortened
    engine.dispose()
    if engine.url.database and engine.dialect.name == "sqlite":
        file = Path(engine.url.database)
        found.extend(each.read_bytes().decode("latin-1") for each in sorted(file.parent.glob(f"{file.name}*")))
    return "\n".join(found)
