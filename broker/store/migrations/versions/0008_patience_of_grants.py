"""patience of grants"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("grants", sa.Column("patience", sa.Integer(), nullable=True))
