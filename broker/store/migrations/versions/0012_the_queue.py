"""the queue"""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.drop_index(op.f("ix_approvals_state"), table_name="approvals")
    op.create_index("ix_approvals_state_created_at_id", "approvals", ["state", "created_at", "id"], unique=False)
    op.create_index("ix_approvals_resolved_at_id", "approvals", ["resolved_at", "id"], unique=False)
