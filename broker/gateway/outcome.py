"""Learning how a call ended from the answer that streams by, without touching or delaying it.

Only a small answer is looked into, after it was passed on; of a large one the record says that it was answered.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any, cast

from broker.errors import UpstreamInterrupted
from broker.gateway.sse import SseParser
from broker.gateway.upstreams import UpstreamReply
from broker.gateway.wire import RequestId, is_response, loads

LOOKED_INTO = 64 * 1024


def watched(reply: UpstreamReply, request_id: RequestId, done: Callable[[str], None]) -> UpstreamReply:
    """`reply`, which calls `done` once with its outcome: `succeeded`, `failed`, `answered` when that cannot be told,
    `interrupted` when the upstream went away, `cancelled` when the caller did.
    """

    async def chunks() -> AsyncGenerator[bytes]:
        kept: list[bytes] = []
        size, outcome = 0, "cancelled"
        try:
            async for chunk in reply.chunks:
                size += len(chunk)
                if size <= LOOKED_INTO:
                    kept.append(chunk)
                yield chunk
            outcome = _outcome(b"".join(kept), request_id) if size <= LOOKED_INTO else "answered"
        except UpstreamInterrupted:
            outcome = "interrupted"
            raise
        finally:
            done(outcome)

    return replace(reply, chunks=chunks())


def failed(response: dict[str, Any]) -> bool:
    """Whether a response says that the call failed: a protocol error, or a tool's own (`isError`)."""
    result: Any = response.get("result")
    return not isinstance(result, dict) or cast("dict[str, Any]", result).get("isError") is True


def _outcome(body: bytes, request_id: RequestId) -> str:
    for data in _messages(body):
        try:
            value: Any = loads(data)
        except ValueError:
            continue
        if isinstance(value, dict) and is_response(cast("dict[str, Any]", value)):
            response = cast("dict[str, Any]", value)
            if response.get("id") == request_id:
                return "failed" if failed(response) else "succeeded"
    return "answered"


def _messages(body: bytes) -> list[bytes]:
    if body.lstrip().startswith(b"{"):
        return [body]
    return [event.data for event in SseParser().feed(body) if event.data]
