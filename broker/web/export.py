"""The audit log as a file: JSON lines or CSV, streamed in constant memory.

What belongs here: the two formats. What does not: checking the chain (`broker.domain.audit.verify`).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from broker.domain.audit import Row, as_json
from broker.store import audit
from broker.store.audit import AuditFilter
from broker.web.identity import GuardedRoute
from broker.web.parts import Parts, PartsOf
from broker.web.queries import RowsWanted

COLUMNS = (
    *("seq", "at", "kind", "actor", "call_id", "approval_id", "upstream", "tool", "grant", "verdict", "rule"),
    *("arguments_digest", "detail", "prev", "digest"),
)

_RUN_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r")

router = APIRouter(route_class=GuardedRoute)


@router.get("/api/v1/audit/export", tags=["audit"])
async def export(
    parts: PartsOf,
    wanted: RowsWanted,
    file_format: Annotated[Literal["jsonl", "csv"], Query(alias="format")] = "jsonl",
) -> Response:
    """All rows that match, oldest first, up to the head at the time of the request."""
    head = await parts.store.read(audit.head)
    lines, media = (_csv, "text/csv; charset=utf-8") if file_format == "csv" else (_jsonl, "application/x-ndjson")
    return StreamingResponse(
        lines(_batches(parts, wanted, head.seq)),
        media_type=media,
        headers={"Content-Disposition": f'attachment; filename="audit.{file_format}"'},
    )


async def _batches(parts: Parts, wanted: AuditFilter, end: int) -> AsyncIterator[list[Row]]:
    """Each batch is a read of its own, so that a slow reader holds no transaction open."""
    last = 0
    while rows := await parts.store.read(lambda session, last=last: audit.after(session, wanted, last)):
        yield [row for row in rows if row.seq <= end]
        last = rows[-1].seq
        if last >= end:
            return


async def _jsonl(batches: AsyncIterator[list[Row]]) -> AsyncIterator[str]:
    async for rows in batches:
        yield "".join(json.dumps(as_json(row)) + "\n" for row in rows)


async def _csv(batches: AsyncIterator[list[Row]]) -> AsyncIterator[str]:
    yield _written([COLUMNS])
    async for rows in batches:
        yield _written(_cells(as_json(row)) for row in rows)


def _cells(row: dict[str, Any]) -> list[str]:
    return [_defused(row[name]) for name in COLUMNS]


def _defused(value: Any) -> str:
    """A cell that no spreadsheet runs as a formula."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"'{text}" if text.startswith(_RUN_BY_SPREADSHEETS) else text


def _written(rows: Iterable[Iterable[str]]) -> str:
    sheet = io.StringIO()
    csv.writer(sheet).writerows(rows)
    return sheet.getvalue()
