"""processes"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "processes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("lock", sa.BigInteger(), nullable=True),
        sa.Column("secrets", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processes")),
    )
    op.add_column("approvals", sa.Column("waits_at", sa.String(), nullable=True))
    op.add_column("notices", sa.Column("holder", sa.String(), nullable=True))
