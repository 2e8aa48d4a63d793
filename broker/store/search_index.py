"""The index of the record: which rows of which block have which term. It is derived, and filled behind the calls.

What belongs here: building and reading it. What does not: terms (`broker.store.terms`), finding rows with them
(`broker.store.searching`).

A block that is complete never changes, so its index is written once: for each term that occurs in it, a bitmap of the
rows that have it. Nothing is written to it while a call waits. Both tables may be emptied at any time, `audit_blocks`
first: they are filled again, and what is not indexed is looked through row by row until then.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Connection, Engine, Select, Text, bindparam, func, select, text, type_coerce
from sqlmodel import col

from broker.domain.searching import Searched
from broker.store.engine import WRITER, is_sqlite
from broker.store.prepared import Prepared
from broker.store.tables import AuditBlock, AuditRow, AuditTerm, ChainHead, GrantRow, table_of
from broker.store.terms import BLOCK, bitmap, first_of, packed, terms_of, unpacked, value_term
from broker.store.writer import Store

BLOCKS_AT_ONCE = 2
"""Blocks that are indexed in one go while the server runs."""

AT_ONCE = 1000
"""Terms that are written in one transaction: SQLite has one writer, which calls wait for."""

INDEXING = 0x494E4458
"""A PostgreSQL advisory lock (per database): one replica indexes at a time."""

_COLUMNS: tuple[Any, ...] = (
    *(col(AuditRow.seq), col(AuditRow.kind), type_coerce(col(AuditRow.detail), Text)),
    *(col(AuditRow.actor), col(AuditRow.upstream), col(AuditRow.tool), col(AuditRow.rule), col(AuditRow.grant_id)),
    col(GrantRow.label),
)
SEARCHED: Select[*tuple[Any, ...]] = select(*_COLUMNS).join(
    GrantRow, col(GrantRow.id) == col(AuditRow.grant_id), isouter=True
)
"""The numbers of rows, and what is searched of them; conditions and an order are to be added."""

NAMES = ("actor", "upstream", "tool", "rule", "grant", "label")
"""The columns of `SEARCHED` behind the detail, as `Searched` has them."""

_TOOK = re.compile(r'"ms":[0-9.]+')
"""How long a call took, in the detail of its answer: else each would be another one."""

_ROWS = Prepared(
    SEARCHED.add_columns(col(AuditRow.at)).where(col(AuditRow.seq).between(bindparam("first"), bindparam("last")))
)
_PUT = Prepared(
    text(
        "INSERT INTO audit_terms (term, block, rows) VALUES (:term, :block, :rows) "
        "ON CONFLICT (term, block) DO UPDATE SET rows = excluded.rows"
    )
)
_DONE = Prepared(
    text(
        "INSERT INTO audit_blocks (block, since, until) VALUES (:block, :since, :until) ON CONFLICT (block) DO NOTHING"
    )
)
_HAVING = Prepared(
    select(col(AuditTerm.block), col(AuditTerm.rows)).where(
        col(AuditTerm.term) == bindparam("term"), col(AuditTerm.block).between(bindparam("first"), bindparam("last"))
    )
)
_HOW_FAR = Prepared(
    select(col(ChainHead.seq), select(func.count()).select_from(table_of(AuditBlock)).scalar_subquery())
)
_ALONE = text("SELECT pg_try_advisory_xact_lock(:key)")


def having(connection: Connection, term: int, first: int, last: int) -> dict[int, int]:
    """The bitmaps of a term in the blocks from `first` to `last` that have it, by their blocks."""
    found = _HAVING.on(connection, {"term": term, "first": first, "last": last})
    return {block: unpacked(bytes(rows)) for block, rows in found}


def spans(connection: Connection, first: int, last: int) -> dict[int, tuple[datetime, datetime]]:
    """The first and the last instant of each block from `first` to `last` that is indexed."""
    known = select(col(AuditBlock.block), col(AuditBlock.since), col(AuditBlock.until))
    found = connection.execute(known.where(col(AuditBlock.block).between(first, last)))
    return {block: (since, until) for block, since, until in found}


def searched_of(kind: str, written: Any, *names: str | None) -> Searched:
    """What is searched of a row, of its columns in `SEARCHED`; of a detail that was altered to no JSON object, nothing.

    Verifying the chain names such a row.
    """
    try:
        detail: object = json.loads(written) if written != "{}" else {}
    except (ValueError, TypeError):
        detail = {}
    return Searched(kind, cast("Mapping[str, Any]", detail) if isinstance(detail, dict) else {}, *names)


# -- building ---------------------------------------------------------------------------------------------------------


async def keep_indexed(store: Store) -> None:
    """Index what is new, a bounded amount at a time: some tens of milliseconds for each block."""
    await store.read(lambda _: index_next(store.engine, BLOCKS_AT_ONCE))


def index_next(engine: Engine, most: int = 1) -> int:
    """Index up to `most` complete blocks that have no index yet, the newest first.

    Returns:
        How many were indexed: fewer than `most` when nothing is left to do, or another replica is doing it.
    """
    with engine.connect() as connection:
        if not is_sqlite(engine) and not connection.execute(_ALONE, {"key": INDEXING}).scalar():
            return 0
        blocks = unindexed(connection)[:most]
        for block in blocks:
            _index(engine, connection, block)
    return len(blocks)


def unindexed(connection: Connection) -> list[int]:
    """The complete blocks that have no index yet, the newest first."""
    seq, indexed = _HOW_FAR.on(connection, {}).fetchone()
    if indexed == seq // BLOCK:  # nearly always: of a long record they are many to read each second
        return []
    known = set(connection.execute(select(col(AuditBlock.block))).scalars())
    return [block for block in range(seq // BLOCK - 1, -1, -1) if block not in known]


def _index(engine: Engine, connection: Connection, block: int) -> None:
    rows = _rows(connection, first_of(block), first_of(block + 1) - 1)
    terms = sorted(_bitmaps(rows).items())
    kept = {bits: packed(bits) for bits in {bits for _, bits in terms}}  # most are those of several terms
    packs = [{"term": term, "block": block, "rows": kept[bits]} for term, bits in terms]
    # The block counts only once its last term is there; what an interrupted run left is written over.
    for first in range(0, len(packs), AT_ONCE):
        with _writing(engine) as writing:
            _PUT.on_each(writing, packs[first : first + AT_ONCE])
    instants = [row[-1] for row in rows]
    with _writing(engine) as writing:
        span = {"since": min(instants, default=0), "until": max(instants, default=0)}
        _DONE.on(writing, {"block": block, **span})


def _rows(connection: Connection, first: int, last: int) -> list[Sequence[Any]]:
    """What is searched of rows, as the driver reads it. One that was altered to what is no text is left out."""
    try:
        return _ROWS.on(connection, {"first": first, "last": last}).fetchall()
    except sqlite3.OperationalError:  # what SQLite says of text that is no UTF-8
        if first == last:
            return []
        return [row for seq in range(first, last + 1) for row in _rows(connection, seq, seq)]


@contextmanager
def _writing(engine: Engine) -> Generator[Connection]:
    with engine.execution_options(**{WRITER: True}).connect() as connection, connection.begin():
        yield connection


def _bitmaps(rows: Iterable[Sequence[Any]]) -> dict[int, int]:
    """Which rows of a block have which term.

    The terms of a row are those of each of its names, and those of its kind and detail. Names and details come again
    and again, so this costs as much as there are different ones.
    """
    said, named = defaultdict[Any, list[int]](list), tuple(defaultdict[Any, list[int]](list) for _ in NAMES)
    for seq, kind, detail, *names, _ in rows:
        offset = (seq - 1) % BLOCK
        said[kind, _TOOK.sub('"ms":0', detail) if isinstance(detail, str) else None].append(offset)
        for column, name in zip(named, names, strict=True):
            column[name].append(offset)
    parts = [(searched_of(kind, detail), offsets) for (kind, detail), offsets in said.items()]
    for field, column in zip(NAMES, named, strict=True):
        parts += ((Searched(**{field: name}), offsets) for name, offsets in column.items())
    return _bitmaps_of(parts)


def _bitmaps_of(parts: Iterable[tuple[Searched, list[int]]]) -> dict[int, int]:
    values, texts = defaultdict[tuple[str, str], list[int]](list), defaultdict[str, list[int]](list)
    for part, offsets in parts:
        for pair in part.values:
            values[pair] += offsets
        for folded in part.text.split("\0"):
            texts[folded] += offsets
    found = {value_term(*pair): bitmap(offsets) for pair, offsets in values.items()}
    for folded, offsets in texts.items():
        bits = bitmap(offsets)
        for term in terms_of(folded):
            found[term] = found.get(term, 0) | bits
    return found
