"""looking back"""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.drop_index(op.f("ix_approvals_fingerprint"), table_name="approvals")
    op.create_index("ix_approvals_fingerprint_created_at", "approvals", ["fingerprint", "created_at"])
    op.create_index("ix_approvals_upstream_tool_created_at", "approvals", ["upstream", "tool", "created_at"])
    op.create_index("ix_reviews_person_at", "reviews", ["person", "at"])
