"""vouched roles"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("identities", sa.Column("roles", sa.Text(), nullable=False, server_default="[]"))
