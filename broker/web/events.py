"""Server-sent events: that an approval was created, changed or resolved.

An event is a hint and carries no arguments: who is told reads the approval again, as they may. The stream begins with
`ready`, so that somebody who was cut off knows when to catch up. It has a `beat` where there is nothing to tell, so
that silence means that the connection is gone. It ends with the feed, and when its asker is not who they were:
somebody with other roles or groups is told other things.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from time import monotonic

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from broker.domain.audit import Kind, Row, timestamp
from broker.errors import StoreError
from broker.web.identity import Asker, AskerOf, GuardedRoute, still_known
from broker.web.parts import Parts, PartsOf

BEAT = 2.0
"""Seconds after which a silent stream carries a beat, and the asker is looked up again."""

_EVENTS = {
    Kind.APPROVAL_SUBMITTED: "created",
    Kind.APPROVAL_APPROVED: "resolved",
    Kind.APPROVAL_REJECTED: "resolved",
    Kind.APPROVAL_EXPIRED: "resolved",
    Kind.APPROVAL_WITHDRAWN: "resolved",
}

router = APIRouter(route_class=GuardedRoute)


@router.get(
    "/api/v1/events",
    tags=["approvals"],
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def events(parts: PartsOf, asker: AskerOf) -> Response:
    """`created`, `changed` and `resolved`, each with `{seq, id, kind, state, at}`; `ready` first, `beat` in silence."""

    async def told() -> AsyncIterator[str]:
        async for row in parts.feed.follow():
            yield _event(row)

    return event_stream(parts, asker, "event: ready\ndata: {}\n\n", told())


def event_stream(parts: Parts, asker: Asker, first: str, told: AsyncIterator[str]) -> Response:
    """An answer that says `first`, then what is `told`, for as long as `asker` may see the queue."""
    stream = _stream(parts, asker, first, told)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _stream(parts: Parts, asker: Asker, first: str, told: AsyncIterator[str]) -> AsyncIterator[str]:
    following = asyncio.ensure_future(anext(told, None))  # follows from now on: before anybody is told to look
    checked = monotonic()
    try:
        yield first
        while True:
            await asyncio.wait({following}, timeout=BEAT)
            if monotonic() - checked >= BEAT:
                if not await _is_as_before(parts, asker):
                    return
                checked = monotonic()
            if not following.done():
                yield "event: beat\ndata: {}\n\n"
                continue
            piece = following.result()
            if piece is None:
                return
            following = asyncio.ensure_future(anext(told, None))
            yield piece
    finally:
        following.cancel()


async def _is_as_before(parts: Parts, asker: Asker) -> bool:
    try:
        now = await still_known(parts, asker)
    except StoreError:
        return False  # cannot tell: the browser comes back and is asked again
    return now is not None and now.person == asker.person


def _event(row: Row) -> str:
    data = {
        "seq": row.seq,
        "id": row.approval_id,
        "kind": row.kind.value,
        "state": row.detail.get("state"),
        "at": timestamp(row.at),
    }
    return f"event: {_EVENTS.get(row.kind, 'changed')}\ndata: {json.dumps(data)}\n\n"
