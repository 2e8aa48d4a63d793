"""The audit log as a file: JSON lines or CSV, streamed in constant memory.

What belongs here: reading in batches. What does not: the two formats (`broker.domain.exports`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from broker.domain.audit import Row
from broker.domain.exports import as_csv, as_jsonl
from broker.domain.searching import AuditFilter
from broker.store import audit, searching
from broker.web.identity import GuardedRoute
from broker.web.parts import Parts, PartsOf
from broker.web.queries import RowsWanted

router = APIRouter(route_class=GuardedRoute)


@router.get(
    "/api/v1/audit/export",
    tags=["audit"],
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {}, "text/csv": {}}}},
)
async def export(
    parts: PartsOf,
    wanted: RowsWanted,
    file_format: Annotated[Literal["jsonl", "csv"], Query(alias="format")] = "jsonl",
) -> Response:
    """All rows that match, oldest first, up to the head at the time of the request."""
    head = await parts.store.read(audit.head)
    spelled, media = (as_csv, "text/csv; charset=utf-8") if file_format == "csv" else (as_jsonl, "application/x-ndjson")
    return StreamingResponse(
        _lines(_batches(parts, wanted, head.seq), spelled),
        media_type=media,
        headers={"Content-Disposition": f'attachment; filename="audit.{file_format}"'},
    )


async def _lines(
    batches: AsyncIterator[list[Row]], spelled: Callable[[Iterable[Row]], Iterator[str]]
) -> AsyncIterator[str]:
    """A whole file: what `spelled` makes of no rows is its beginning, and stands there once."""
    beginning = "".join(spelled(()))
    yield beginning
    async for rows in batches:
        yield "".join(spelled(rows)).removeprefix(beginning)


async def _batches(parts: Parts, wanted: AuditFilter, end: int) -> AsyncIterator[list[Row]]:
    """Each batch is a read of its own, so that a slow reader holds no transaction open."""
    last: int | None = 0
    while last is not None:
        found = await parts.store.read(lambda session, last=last: searching.batch(session, wanted, last, end))
        yield found.rows
        last = found.next
