"""Audit rows as files that other programs read: JSON Lines and CSV.

What belongs here: one row to one line, and back. What does not: choosing rows, writing files, verifying.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, cast

from broker.domain.audit import Kind, Row, as_json
from broker.errors import Invalid

COLUMNS: tuple[str, ...] = (
    "seq",
    "at",
    "kind",
    "actor",
    "call_id",
    "approval_id",
    "upstream",
    "tool",
    "grant",
    "verdict",
    "rule",
    "arguments_digest",
    "detail",
    "prev",
    "digest",
)
"""The fields of a row in the order of an export."""

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")  # full-width ones run too


def csv_cell(value: Any) -> str:
    """A value as a cell that a spreadsheet shows and never runs: what could start a formula is quoted with ``'``.

    See OWASP, "CSV injection". Blanks before such a character do not save it.
    """
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA) else text


def row_values(row: Row) -> list[Any]:
    """The values of a row in the order of `COLUMNS`."""
    values = as_json(row)
    return [values[name] for name in COLUMNS]


def as_jsonl(rows: Iterable[Row]) -> Iterator[str]:
    """One JSON object a line. What `rows_from_jsonl` reads back and `broker.domain.audit.verify` can check."""
    for row in rows:
        yield json.dumps(dict(zip(COLUMNS, row_values(row), strict=True)), separators=(",", ":")) + "\n"


def as_csv(rows: Iterable[Row]) -> Iterator[str]:
    """A header and one record a line (RFC 4180), every cell defused."""
    yield _record(COLUMNS)
    for row in rows:
        yield _record([csv_cell(value) for value in row_values(row)])


def rows_from_jsonl(lines: Iterable[str]) -> Iterator[Row]:
    """The rows of a JSON Lines export.

    Raises:
        Invalid: a line is not a row; names the line.
    """
    for number, line in enumerate(lines, 1):
        try:
            yield row_from_json(json.loads(line, object_pairs_hook=_once))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise Invalid(f"Line {number} is not a row of an audit export.") from error


def row_from_json(values: Any) -> Row:
    """The row that `broker.domain.audit.as_json` made `values` of.

    Raises:
        ValueError, TypeError, KeyError: it did not.
    """
    given = cast("dict[str, Any]", values)
    if set(given) != set(COLUMNS):
        raise ValueError("other fields than a row has")
    typed: dict[str, Any] = {"kind": Kind(given["kind"]), "at": datetime.fromisoformat(given["at"])}
    read = Row(**(given | typed))
    if as_json(read) != given:  # an instant spelt otherwise would be a row that was altered and digests the same
        raise ValueError("not as an export spells it")
    return read


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object with no key twice: one program would read the first, another the last."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def _record(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
