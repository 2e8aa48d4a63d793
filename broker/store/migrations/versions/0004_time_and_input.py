"""time and input"""

import json
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DUE = {"pending": "(created_at + deadline) / 2", "approved": "execute_by", "executing": "lease_until"}


def upgrade() -> None:
    for name in ("withdraw_at", "escalated_at", "forgotten_at", "resolved_at", "due"):
        op.add_column("approvals", sa.Column(name, sa.BigInteger(), nullable=True))
    for name in ("reminded", "rounds"):
        op.add_column("approvals", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("approvals", sa.Column("awaiting", sa.String(), nullable=True))
    op.create_index(op.f("ix_approvals_due"), "approvals", ["due"], unique=False)
    _carry_over()


def _carry_over() -> None:
    connection = op.get_bind()
    for state, instant in DUE.items():
        connection.execute(sa.text(f"UPDATE approvals SET due = {instant} WHERE state = '{state}'"))  # noqa: S608
    resolved = connection.execute(sa.text("SELECT id, resolution FROM approvals WHERE resolution IS NOT NULL"))
    for approval_id, resolution in resolved.all():
        at = (datetime.fromisoformat(json.loads(resolution)["at"]) - EPOCH) // timedelta(microseconds=1)
        connection.execute(
            sa.text("UPDATE approvals SET resolved_at = :at WHERE id = :id"), {"at": at, "id": approval_id}
        )
