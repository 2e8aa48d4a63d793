"""Alembic's entry: runs on the connection that `broker.store.schema` gives it, inside its transaction."""

from alembic import context

from broker.store.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
