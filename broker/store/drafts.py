"""Brief works of PostgreSQL, run before there is a transaction: what they write, and what has to be so for it.

What belongs here: the statements that write it, in the order in which they run. What does not: the connection
(`broker.store.pipeline`), which works go together (`broker.store.flow`).

A work is run without the database, as if there were room for whatever it takes. What it would write goes to the
database at once, as one transaction that fails where there is no room, and the database itself binds the rows to the
end of the chain. So while the chain is locked nothing waits for this process, and other processes wait for nothing but
the database. What cannot be foreseen like that, or failed, is run with the database (`broker.store.commits`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson

from broker.domain.audit import Event, split
from broker.domain.calls import Charge
from broker.store.audit import columns
from broker.store.buckets import MOST
from broker.store.columns import as_text, micros
from broker.store.slots import ADDED_UP, Crowded, Foreseen, LimitReached, Taken, foresee
from broker.store.transaction import Transaction, Unforeseen

# Each is given one value, the JSON of an array. They run in this order; the first before the chain is locked.
KEEP = """
    INSERT INTO contents (call_id, what, body)
    SELECT call_id, what, body FROM jsonb_to_recordset($1) AS kept (call_id text, what text, body text)"""

LOCK = "SELECT set_config('synchronous_commit', 'off', true) FROM chain_head WHERE id = 1 FOR UPDATE"
"""Its transaction is the only one that counts or appends from here on, so what the next statements read stays so. It is
not durable, and only it: a pooler may give the connection to one that is."""

HAVE_ROOM = """
    SELECT 1 / (count(*) = 0)::int
    FROM jsonb_to_recordset($1) AS room (counter text, since bigint, free numeric)
    WHERE free < (
        SELECT coalesce(sum(amount), 0) FROM (
            SELECT amount FROM counts WHERE counter = room.counter AND until >= room.since
            UNION ALL
            SELECT amount FROM held_slots WHERE counter = room.counter AND until IS NULL
        ) AS counted)"""
"""Divides by zero where there is not enough."""

COUNT = f"""
    INSERT INTO counts (counter, until, amount, due)
    SELECT counter, until, amount, due
    FROM jsonb_to_recordset($1) AS count (counter text, until bigint, amount bigint, due bigint) {ADDED_UP}"""  # noqa: S608 - numbers of ours

APPEND = """
    WITH RECURSIVE chain (place, seq, prev, digest) AS (
        SELECT 0, (SELECT seq FROM chain_head WHERE id = 1), '', (SELECT digest::text FROM chain_head WHERE id = 1)
        UNION ALL
        SELECT place + 1, seq + 1, digest, encode(sha256(convert_to(concat(
            parts ->> 0, digest, parts ->> 1, seq + 1, parts ->> 2), 'UTF8')), 'hex')
        FROM chain, LATERAL (SELECT $1 -> place -> 'said' AS parts) AS said
        WHERE place < jsonb_array_length($1)
    ), moved AS (
        UPDATE chain_head SET seq = last.seq, digest = last.digest
        FROM (SELECT seq, digest FROM chain ORDER BY place DESC LIMIT 1) AS last WHERE id = 1
    )
    INSERT INTO audit (seq, at, kind, actor, call_id, upstream, tool, grant_id, verdict, rule, arguments_digest,
        detail, prev, digest)
    SELECT seq, at, kind, actor, call_id, upstream, tool, grant_id, verdict, rule, arguments_digest,
        detail, prev, digest
    FROM chain JOIN ROWS FROM (jsonb_to_recordset($1) AS (at bigint, kind text, actor text, call_id text,
        upstream text, tool text, grant_id text, verdict text, rule text, arguments_digest text, detail text)
    ) WITH ORDINALITY AS event (at, kind, actor, call_id, upstream, tool, grant_id, verdict, rule, arguments_digest,
        detail, place) USING (place)"""
"""Binds each row to the one before it, as `broker.domain.audit.digest_of` says; fails where there is no head."""


class Draft(Transaction):
    """A transaction that has not begun. What a work asks of the database there raises `Unforeseen`."""

    def __init__(self, now: datetime, crowded: Crowded) -> None:
        super().__init__(None, now, crowded)
        self.foreseen: list[Foreseen] = []
        self.rows: list[bytes] = []
        self.contents: list[bytes] = []

    def take(self, charges: Sequence[Charge]) -> Taken | LimitReached:
        """Take what there may be room for."""
        foreseen = foresee(charges, self.now, self._crowded)
        if foreseen is None:
            raise Unforeseen
        self.foreseen.append(foreseen)
        return foreseen.taken

    def finish(self) -> None:
        """The work returned: what it wrote takes the form in which it is sent.

        Raises:
            Exception: it has none.
        """
        self.rows = [orjson.dumps(_row(event, self.now)) for event in self._events]
        self.contents = [orjson.dumps({**kept, "body": as_text(kept["body"])}) for kept in self._contents]


STATEMENTS = {KEEP: 1, LOCK: 0, HAVE_ROOM: 1, COUNT: 1, APPEND: 1}
"""How many values each has."""


def statements(drafts: Sequence[Draft]) -> list[tuple[str, bytes | None]]:
    """The statements of one transaction that writes `drafts`, of one instant, each with its value."""
    foreseen = [each for draft in drafts for each in draft.foreseen]
    given = (
        (KEEP, _array(kept for draft in drafts for kept in draft.contents)),
        (LOCK, None),
        (HAVE_ROOM, orjson.dumps(_free(foreseen))),
        (COUNT, orjson.dumps(_counts(foreseen))),
        (APPEND, _array(row for draft in drafts for row in draft.rows)),
    )
    return [(statement, value) for statement, value in given if value != b"[]"]


def _array(items: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def _row(event: Event, at: datetime) -> dict[str, Any]:
    if event.approval_id is not None:
        raise Unforeseen  # whose rows are told to who listens
    return {"said": split(event, at), **columns(event, micros(at))}


def _free(foreseen: Iterable[Foreseen]) -> list[dict[str, Any]]:
    """How much may be counted before, so that there is room for all together: then each finds it, in any order."""
    taken: dict[str, int] = defaultdict(int)
    bounds: set[tuple[str, int, int]] = set()
    for each in foreseen:
        for counter, amount in {room.counter: room.amount for room in each.rooms}.items():
            taken[counter] += amount
        bounds.update((room.counter, room.since, room.most) for room in each.rooms)
    # As text, since it may be longer than 64 bits.
    return [{"counter": name, "since": since, "free": str(most - taken[name])} for name, since, most in bounds]


def _counts(foreseen: Iterable[Foreseen]) -> list[dict[str, Any]]:
    """The rows of all, one for each bucket."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for count in (count for each in foreseen for count in each.counts):
        row = rows.setdefault((count["counter"], count["until"]), {**count, "amount": 0})
        row["amount"] = min(MOST, row["amount"] + count["amount"])
    return list(rows.values())
