from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from broker.domain.audit import GENESIS, Event, Kind, Row, chained, verify
from broker.domain.exports import COLUMNS, as_csv, as_jsonl, csv_cell, rows_from_jsonl
from broker.errors import ChainBroken, Invalid

NOON = datetime(2026, 7, 28, 12, tzinfo=UTC)


ALTERATIONS: list[Callable[[str], str]] = [
    lambda line: line.replace('"actor"', '"actor":"first","actor"', 1),  # another program would read the first
    lambda line: line.replace("12:00:00.000000Z", "12:00:00Z"),
    lambda line: line.replace('"tool"', '"tol"'),
    lambda line: line[:-3],
    lambda line: "[]\n",
    lambda line: "[" * 100_000,
    lambda line: line.replace('"seq":2', '"seq":2.0'),
]


@pytest.fixture
def rows() -> list[Row]:
    return list(_chain("git_commit", "=HYPERLINK(1)", "tab\tand \u202e"))


def _chain(*tools: str) -> Iterator[Row]:
    prev = GENESIS
    for seq, tool in enumerate(tools, 1):
        event = Event(kind=Kind.CALL_ALLOWED, actor="agent:g", tool=tool, detail={"n": 10**30})
        row = chained(event, seq, NOON, prev)
        prev = row.digest
        yield row


def test_an_export_has_every_field_of_a_row() -> None:
    assert sorted(COLUMNS) == sorted(field.name for field in fields(Row))


def test_an_export_in_json_lines_reads_back_to_the_same_verified_chain(rows: list[Row]) -> None:
    lines = list(as_jsonl(rows))
    assert all(line.isascii() and line.endswith("\n") and line.count("\n") == 1 for line in lines)
    assert list(rows_from_jsonl(lines)) == rows
    assert verify(rows_from_jsonl(lines)).digest == rows[-1].digest


def test_an_altered_line_is_found(rows: list[Row]) -> None:
    lines = list(as_jsonl([rows[0], replace(rows[1], actor="nobody"), rows[2]]))
    with pytest.raises(ChainBroken) as caught:
        verify(rows_from_jsonl(lines))
    assert caught.value.seq == 2


@pytest.mark.parametrize("alter", ALTERATIONS)
def test_a_line_that_no_export_writes_is_refused_by_its_number(alter: Callable[[str], str], rows: list[Row]) -> None:
    lines = list(as_jsonl(rows))
    lines[1] = alter(lines[1])
    with pytest.raises((Invalid, ChainBroken)) as caught:
        verify(rows_from_jsonl(lines))
    assert " 2" in str(caught.value)


@pytest.mark.parametrize(
    "value", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", " =1", "\n@x", "\uff1d1", -3, "\u00a0=1"]
)
def test_a_cell_that_a_spreadsheet_would_run_is_text(value: Any) -> None:
    assert csv_cell(value) == f"'{value}"


@pytest.mark.parametrize(("value", "cell"), [("git", "git"), (None, ""), (3, "3"), ({"a": "=1"}, '{"a": "=1"}')])
def test_every_other_cell_is_as_it_is(value: Any, cell: str) -> None:
    assert csv_cell(value) == cell


def test_csv_has_a_header_and_a_defused_record_for_each_row(rows: list[Row]) -> None:
    header, *records = csv.reader(as_csv(rows))
    assert tuple(header) == COLUMNS
    assert [record[COLUMNS.index("tool")] for record in records] == ["git_commit", "'=HYPERLINK(1)", "tab\tand \u202e"]
    assert json.loads(records[0][COLUMNS.index("detail")]) == {"n": 10**30}
