"""Finding rows of the record.

What belongs here: which rows to look at, in which order, and when to stop looking. What does not: what matches
(`broker.domain.searching`), the index (`broker.store.search_index`), rows from columns (`broker.store.audit`).

Rows that may match come from the index, block by block; in blocks that have none yet every row may. Each is compared
before it is told, so the index decides only how long it takes. An answer looks at a bounded amount and says where it
stopped: it is never silently incomplete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col

from broker.domain.audit import Row
from broker.domain.searching import AuditFilter, Comparison
from broker.errors import ChainBroken
from broker.store import audit
from broker.store.search_index import SEARCHED, having, searched_of, spans
from broker.store.tables import AuditRow
from broker.store.terms import BLOCK, block_of, first_of, offsets, terms_with, value_term

MOST_LOOKED = 5000
"""Rows that are compared and bitmaps that are read for one answer: some tens of milliseconds."""

MOST_TERMS = 8
"""Terms of a long text that are looked up: what these find is rare enough to be compared."""

STREAM = 1000
"""Rows of an export that are read at a time."""

_AT_ONCE = 500
"""Rows that are compared in one go."""

_FEW_BLOCKS, _MANY_BLOCKS, _GROWTH = 2, 256, 4
"""Blocks whose bitmaps are read in one go: first few, since they often are enough, then more and more."""

_COLUMNS = {
    "kind": col(AuditRow.kind),
    "actor": col(AuditRow.actor),
    "upstream": col(AuditRow.upstream),
    "tool": col(AuditRow.tool),
}
_COMPARED = SEARCHED.add_columns(col(AuditRow.call_id), col(AuditRow.approval_id))

Bitmaps = dict[int, int]
"""Rows that may match, by their blocks."""


@dataclass(frozen=True, slots=True)
class Found:
    """Rows in order, and the number of the last row that was looked at; None when there is nothing behind it."""

    rows: list[Row]
    next: int | None


def page(session: Session, wanted: AuditFilter, *, before: int | None = None, limit: int = 50) -> Found:
    """The newest rows that match, newest first; with `before`, of those whose number is smaller.

    Raises:
        ChainBroken: a row was altered to something that cannot even be read.
    """
    newest = audit.head(session).seq
    last = newest if before is None else min(before - 1, newest)
    return _Search(session, wanted, newest_first=True).found(1, last, limit)


def pages(session: Session, wanted: AuditFilter) -> Iterator[Row]:
    """All rows that match, newest first, however long that takes.

    Raises:
        ChainBroken: a row was altered to something that cannot even be read.
    """
    found = page(session, wanted)
    yield from found.rows
    while found.next is not None:
        found = page(session, wanted, before=found.next)
        yield from found.rows


def batch(session: Session, wanted: AuditFilter, after: int, end: int, limit: int = STREAM) -> Found:
    """Some of the rows that match, oldest first: behind the number `after`, up to the number `end`.

    Raises:
        ChainBroken: a row was altered to something that cannot even be read.
    """
    return _Search(session, wanted, newest_first=False).found(after + 1, end, limit)


class _Search:
    def __init__(self, session: Session, wanted: AuditFilter, *, newest_first: bool) -> None:
        self._session = session
        self._connection = session.connection()
        self._wanted = wanted
        self._comparison = Comparison(wanted)
        self._newest_first = newest_first
        self._order = col(AuditRow.seq).desc() if newest_first else col(AuditRow.seq)
        self._conditions = tuple(self._indexed())
        self._same = tuple(self._in_the_database())
        self._looked = 0

    def found(self, first: int, last: int, limit: int) -> Found:
        """Up to `limit` of the rows from `first` to `last` that match."""
        seqs: list[int] = []
        for matching, reached in self._matching(first, last, limit):
            seqs += matching
            if len(seqs) > limit:
                return Found(audit.rows(self._session, seqs[:limit], newest_first=self._newest_first), seqs[limit - 1])
            if self._looked > MOST_LOOKED and reached != (first if self._newest_first else last):
                return Found(audit.rows(self._session, seqs, newest_first=self._newest_first), reached)
        return Found(audit.rows(self._session, seqs, newest_first=self._newest_first), None)

    # -- comparing ----------------------------------------------------------------------------------------------------

    def _matching(self, first: int, last: int, limit: int) -> Iterator[tuple[list[int], int]]:
        """The numbers of rows that match, a few at a time, each time with the row that this reaches to."""
        some, size = list[int](), limit + 1
        for block, bits in self._maybe(block_of(first), block_of(last) if last else -1):
            low, high = max(first, first_of(block)), min(last, first_of(block + 1) - 1)
            if bits is None:
                yield self._compared(some), high if self._newest_first else low
                some = []
                yield from self._all_compared(low, high, size)
                continue
            some += self._numbers(block, bits, low, high)
            while len(some) >= size:
                yield self._compared(some[:size]), some[size - 1]
                some, size = some[size:], _AT_ONCE
            if self._looked > MOST_LOOKED:
                yield self._compared(some), low if self._newest_first else high
                some = []
        yield self._compared(some), first if self._newest_first else last

    def _numbers(self, block: int, bits: int, low: int, high: int) -> list[int]:
        begin = first_of(block)
        found = [seq for offset in offsets(bits) if low <= (seq := begin + offset) <= high]
        return found[::-1] if self._newest_first else found

    def _compared(self, seqs: Sequence[int]) -> list[int]:
        return self._read(col(AuditRow.seq).in_(seqs))[0] if seqs else []

    def _all_compared(self, low: int, high: int, size: int) -> Iterator[tuple[list[int], int]]:
        """The same of all rows from `low` to `high`."""
        self._looked += (high - low) // 4  # what the database compares by itself is quicker
        while low <= high:
            matching, read = self._read(col(AuditRow.seq).between(low, high), limit=size)
            if len(read) < size:
                yield matching, low if self._newest_first else high
                return
            yield matching, read[-1]
            low, high = (low, read[-1] - 1) if self._newest_first else (read[-1] + 1, high)
            size = _AT_ONCE

    def _read(self, where: ColumnElement[bool], limit: int | None = None) -> tuple[list[int], list[int]]:
        """Of the rows that the database finds: the numbers of those that match, and all numbers."""
        statement = _COMPARED.where(where, *self._same).order_by(self._order).limit(limit)
        try:
            rows = self._connection.execute(statement).all()
        except OperationalError as error:
            raise ChainBroken(self._first_unreadable(where), "its content was altered") from error
        self._looked += len(rows)
        finds, matching = self._comparison.finds, list[int]()
        for seq, kind, detail, *names, call_id, approval_id in rows:
            if finds(searched_of(kind, detail, *names), call_id, approval_id):
                matching.append(seq)
        return matching, [row[0] for row in rows]

    def _first_unreadable(self, where: ColumnElement[bool]) -> int:
        """The row that is no text any more, which SQLite does not tell."""
        seqs = self._connection.execute(select(col(AuditRow.seq)).where(where).order_by(self._order)).scalars().all()
        for seq in seqs:
            try:
                self._connection.execute(_COMPARED.where(col(AuditRow.seq) == seq)).all()
            except OperationalError:
                return seq
        return seqs[0]

    # -- what may match -----------------------------------------------------------------------------------------------

    def _maybe(self, first: int, last: int) -> Iterator[tuple[int, int | None]]:
        """The blocks in order, each with the rows in it that may match; None: every row may."""
        size = _FEW_BLOCKS
        while first <= last:
            if self._newest_first:
                low, high = max(first, last - size + 1), last
            else:
                low, high = first, min(last, first + size - 1)
            known = spans(self._connection, low, high)
            bits = self._all_conditions(low, high) if known else {}
            blocks = range(low, high + 1)
            for block in reversed(blocks) if self._newest_first else blocks:
                yield block, self._bits(block, known, bits)
            first, last = (first, low - 1) if self._newest_first else (high + 1, last)
            size = min(size * _GROWTH, _MANY_BLOCKS)

    def _bits(self, block: int, known: dict[int, tuple[datetime, datetime]], bits: Bitmaps | None) -> int | None:
        if block not in known:
            return None
        since, until = known[block]
        wanted = self._wanted
        if (wanted.until is not None and since >= wanted.until) or (wanted.since is not None and until < wanted.since):
            return 0
        return bits.get(block, 0) if bits is not None else None

    def _all_conditions(self, first: int, last: int) -> Bitmaps | None:
        """The rows that every condition finds in these blocks; None when there are no conditions."""
        found: Bitmaps | None = None
        for condition in self._conditions:
            if found is not None and not found:
                return found
            found = _both(found, condition(first, last))
        return found

    def _indexed(self) -> Iterator[Callable[[int, int], Bitmaps]]:
        """The conditions that the index knows."""
        if self._wanted.approval is not None:
            yield partial(self._with_ids, (col(AuditRow.approval_id) == self._wanted.approval,))
        if terms := sorted(terms_with(self._wanted.needle)):
            yield partial(self._with_text, terms[:: -(-len(terms) // MOST_TERMS)])
        yield from (partial(self._having, value_term(*pair)) for pair in self._wanted.values)

    def _having(self, term: int, first: int, last: int) -> Bitmaps:
        found = having(self._connection, term, first, last)
        self._looked += len(found)
        return found

    def _with_text(self, terms: Sequence[int], first: int, last: int) -> Bitmaps:
        found: Bitmaps | None = None
        for term in terms:
            found = _both(found, self._having(term, first, last))
            if not found:
                break
        text = self._wanted.text or ""
        ids: Bitmaps = {}
        if text.isascii() and text.isprintable():  # as ids are; PostgreSQL takes no NUL even to compare
            ids = self._with_ids((col(AuditRow.call_id) == text, col(AuditRow.approval_id) == text), first, last)
        agent = self._having(value_term("agent", self._wanted.needle), first, last)
        return _either(_either(found or {}, ids), agent)

    def _with_ids(self, either: Sequence[ColumnElement[bool]], first: int, last: int) -> Bitmaps:
        within = col(AuditRow.seq).between(first_of(first), first_of(last + 1) - 1)
        found: Bitmaps = {}
        for seq in self._connection.execute(select(col(AuditRow.seq)).where(or_(*either), within)).scalars():
            found[block_of(seq)] = found.get(block_of(seq), 0) | 1 << (seq - 1) % BLOCK
        return found

    def _in_the_database(self) -> Iterator[ColumnElement[bool]]:
        """The conditions that the database can compare itself."""
        yield from (_COLUMNS[name] == value for name, value in self._wanted.values if name in _COLUMNS)
        if self._wanted.approval is not None:
            yield col(AuditRow.approval_id) == self._wanted.approval
        if self._wanted.since is not None:
            yield col(AuditRow.at) >= self._wanted.since
        if self._wanted.until is not None:
            yield col(AuditRow.at) < self._wanted.until


def _either(some: Bitmaps, others: Bitmaps) -> Bitmaps:
    return {block: some.get(block, 0) | others.get(block, 0) for block in some.keys() | others.keys()}


def _both(some: Bitmaps | None, others: Bitmaps) -> Bitmaps:
    """The rows that are in both; all of `others` when there are none yet to compare with."""
    if some is None:
        return others
    return {block: bits for block, other in others.items() if (bits := some.get(block, 0) & other)}
