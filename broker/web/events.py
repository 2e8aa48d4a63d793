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
from datetime import datetime
from functools import lru_cache

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from broker.domain.audit import Kind, Row, timestamp
from broker.web.identity import Asker, AskerOf, GuardedRoute
from broker.web.parts import Parts, PartsOf
from broker.web.rollcall import BEAT

_BEAT_EVENT = b"event: beat\ndata: {}\n\n"

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

    async def told() -> AsyncIterator[bytes]:
        async for row in parts.feed.follow():
            yield _event(row)

    return event_stream(parts, asker, b"event: ready\ndata: {}\n\n", told())


def event_stream(parts: Parts, asker: Asker, first: bytes, told: AsyncIterator[bytes]) -> Response:
    """An answer that says `first`, then what is `told`, for as long as `asker` may see the queue."""
    stream = _stream(parts, asker, first, told)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _stream(parts: Parts, asker: Asker, first: bytes, told: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    following = asyncio.ensure_future(anext(told, None))  # follows from now on: before anybody is told to look
    try:
        with parts.roll_call.attended(asker.person, (asker.credential.kind, asker.secret)) as present:
            yield first
            while True:
                await asyncio.wait({following, present.gone}, timeout=BEAT, return_when=asyncio.FIRST_COMPLETED)
                if not await parts.roll_call.is_as_before(present):
                    return
                if not following.done():
                    yield _BEAT_EVENT
                    continue
                piece = following.result()
                if piece is None:
                    return
                following = asyncio.ensure_future(anext(told, None))
                yield piece
    finally:
        following.cancel()


def _event(row: Row) -> bytes:
    return _rendered(row.kind, row.seq, row.approval_id, row.detail.get("state"), row.at)


@lru_cache(maxsize=128)
def _rendered(kind: Kind, seq: int, approval_id: str | None, state: str | None, at: datetime) -> bytes:
    """An event as bytes: all pages are told the same."""
    data = {"seq": seq, "id": approval_id, "kind": kind.value, "state": state, "at": timestamp(at)}
    return f"event: {_EVENTS.get(kind, 'changed')}\ndata: {json.dumps(data)}\n\n".encode()
