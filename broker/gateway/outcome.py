"""Learning how a call ended from the answer that streams by, without touching or delaying it.

Only a small answer is looked into, after it was passed on; of a large one the record says that it was answered.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from broker.errors import UpstreamInterrupted
from broker.gateway.sse import SseParser
from broker.gateway.upstreams import UpstreamReply
from broker.gateway.wire import RequestId, is_response, loads

LOOKED_INTO = 64 * 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended.

    Args:
        word: `succeeded`, `failed`, `answered` when that cannot be told, `interrupted` when the upstream went away,
            `cancelled` when the caller did.
        result: what the upstream answered, result or error, if it was looked into.
    """

    word: str
    result: Any = None


def watched(reply: UpstreamReply, request_id: RequestId, ended: Callable[[Outcome], None]) -> UpstreamReply:
    """`reply`, which calls `ended` once with its outcome."""
    kept: list[bytes] = []
    size, told = 0, False

    def tell(outcome: Outcome) -> None:
        nonlocal told
        if not told:
            told = True
            ended(outcome)

    async def chunks() -> AsyncGenerator[bytes]:
        nonlocal size
        try:
            async for chunk in reply.chunks:
                size += len(chunk)
                if size <= LOOKED_INTO:
                    kept.append(chunk)
                yield chunk
        except UpstreamInterrupted:
            tell(Outcome("interrupted"))
            raise
        tell(_outcome(b"".join(kept), request_id) if size <= LOOKED_INTO else Outcome("answered"))

    async def close() -> None:
        await reply.close()
        tell(Outcome("cancelled"))  # it is told already, unless it was closed before its end

    return replace(reply, chunks=chunks(), close=close)


def failed(response: dict[str, Any]) -> bool:
    """Whether a response says that the call failed: a protocol error, or a tool's own (`isError`)."""
    result: Any = response.get("result")
    return not isinstance(result, dict) or cast("dict[str, Any]", result).get("isError") is True


def _outcome(body: bytes, request_id: RequestId) -> Outcome:
    for data in _messages(body):
        try:
            value: Any = loads(data)
        except ValueError:
            continue
        if isinstance(value, dict) and is_response(cast("dict[str, Any]", value)):
            response = cast("dict[str, Any]", value)
            if response.get("id") == request_id:
                result = response.get("result", response.get("error"))
                return Outcome("failed" if failed(response) else "succeeded", result)
    return Outcome("answered")


def _messages(body: bytes) -> list[bytes]:
    if body.lstrip().startswith(b"{"):
        return [body]
    return [event.data for event in SseParser().feed(body) if event.data]
