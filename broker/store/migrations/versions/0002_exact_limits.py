"""exact limits"""

import json
from collections import Counter

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

UNIT, SECOND = 1_000_000, 1_000_000


def upgrade() -> None:
    counts = op.create_table(
        "counts",
        sa.Column("counter", sa.String(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("counter", "until", name=op.f("pk_counts")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_counts_due"), "counts", ["due"], unique=False)
    held = op.create_table(
        "held_slots",
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("counter", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("refund", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("call_id", "counter", name=op.f("pk_held_slots")),
    )
    op.create_index(op.f("ix_held_slots_counter"), "held_slots", ["counter"], unique=False)
    _carry_over(counts, held)
    op.drop_table("slots")


def _carry_over(counts: sa.Table, held: sa.Table) -> None:
    connection = op.get_bind()
    slots = sa.table("slots", sa.column("call_id"), sa.column("counter"), sa.column("at", sa.BigInteger()))
    counted: Counter[tuple[str, int]] = Counter()
    reserved: set[tuple[str, str]] = set()
    for call_id, name, at in connection.execute(sa.select(slots.c.call_id, slots.c.counter, slots.c.at)):
        upstream, counter, _scope, value = json.loads(name)
        key = json.dumps([upstream, counter, value])
        if at is None:
            reserved.add((call_id, key))
        else:  # to the end of its second: it was admitted then
            counted[key, (at // SECOND + 1) * SECOND - 1] += UNIT
    # due at once: the next tidying up finds the right width for each
    counts_rows = [
        {"counter": key, "until": until, "amount": amount, "due": until} for (key, until), amount in counted.items()
    ]
    held_rows = [
        {"call_id": call_id, "counter": key, "amount": UNIT, "until": None, "refund": False}
        for call_id, key in sorted(reserved)
    ]
    op.bulk_insert(counts, counts_rows)
    op.bulk_insert(held, held_rows)
