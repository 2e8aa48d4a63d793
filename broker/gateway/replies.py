"""Answers to a client as values: making them, and changing the one response in an upstream's.

What belongs here: an `UpstreamReply` whole or changed. What does not: what the change is (the gate's), sending it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeGuard, cast

from broker.errors import UpstreamInterrupted
from broker.gateway.sse import SseEvent, events, sse_event
from broker.gateway.upstreams import UpstreamReply
from broker.gateway.wire import RequestId, dumps, is_response, loads

Change = Callable[[dict[str, Any]], Mapping[str, Any]]
"""Given a whole response (`id` and `result` or `error`), returns the one to send instead."""

MAX_REWRITTEN = 64 * 1024 * 1024


def json_reply(message: Mapping[str, Any], status: int = 200) -> UpstreamReply:
    """An answer that is one JSON-RPC message."""
    return UpstreamReply(status, [(b"content-type", b"application/json")], once(dumps(message)))


def empty_reply(status: int, *headers: tuple[bytes, bytes]) -> UpstreamReply:
    """An answer without a body."""
    return UpstreamReply(status, list(headers), once())


async def once(*chunks: bytes) -> AsyncGenerator[bytes]:
    """A body that is there already."""
    for chunk in chunks:
        yield chunk


async def rewrite(reply: UpstreamReply, request_id: RequestId | None, change: Change) -> UpstreamReply:
    """Pass responses in `reply` through `change`; everything else streams on untouched, byte for byte.

    A stream of events is changed as it comes. Any other body is read whole before this returns.

    Args:
        request_id: whose response to change; None for every response (a resumed stream replays old ones).
        change: if it raises, the answer ends with that error and the response is not passed on.

    Raises:
        UpstreamInterrupted: the body has more than 64 MiB, or is said to be JSON and is none; it is closed then. For
            a stream of events its chunks raise the same.
    """
    if is_stream(reply):
        return replace(reply, chunks=_changed_events(reply.chunks, request_id, change))
    try:
        body = await _whole(reply.chunks)
        return replace(reply, chunks=once(_changed_body(body, request_id, change) if _is_json(reply) else body))
    except BaseException:
        await reply.close()
        raise


async def messages(reply: UpstreamReply) -> AsyncGenerator[tuple[Any, bytes]]:
    """The JSON-RPC messages of `reply` as they come, each with its bytes as an event; None for what is no message.

    Raises:
        UpstreamInterrupted: it is neither JSON nor events, or it broke off.
    """
    if is_stream(reply):
        async with aclosing(reply.chunks) as chunks:
            async for event in events(chunks):
                yield (_parsed(event.data) if event.data else None), event.raw
        return
    value = _parsed(await _whole(reply.chunks))
    for message in cast("list[Any]", value) if isinstance(value, list) else [value]:
        yield message, sse_event(cast("dict[str, Any]", message)) if isinstance(message, dict) else b""


async def read_response(reply: UpstreamReply, request_id: RequestId) -> dict[str, Any] | None:
    """The response to `request_id` in `reply`, or None when it ends without one.

    Raises:
        UpstreamInterrupted: it is neither JSON nor events, or it broke off.
    """
    async with aclosing(messages(reply)) as found:
        async for message, _ in found:
            if _is_wanted(message, request_id):
                return message
    return None


def _is_json(reply: UpstreamReply) -> bool:
    return any(name == b"content-type" and b"json" in value.lower() for name, value in reply.headers)


def is_stream(reply: UpstreamReply) -> bool:
    """Whether the answer is a stream of events."""
    return any(name == b"content-type" and b"event-stream" in value.lower() for name, value in reply.headers)


async def _whole(chunks: AsyncGenerator[bytes]) -> bytes:
    pieces: list[bytes] = []
    left = MAX_REWRITTEN
    async for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise UpstreamInterrupted(
                f"The MCP server's answer has more than {MAX_REWRITTEN} bytes: it was not read. The call may have run."
            )
        pieces.append(chunk)
    return b"".join(pieces)


async def _changed_events(
    chunks: AsyncGenerator[bytes], request_id: RequestId | None, change: Change
) -> AsyncGenerator[bytes]:
    async for event in events(chunks):
        yield _changed_event(event, request_id, change) if event.data else event.raw


def _changed_event(event: SseEvent, request_id: RequestId | None, change: Change) -> bytes:
    data = event.data or b""
    changed = _changed_body(data, request_id, change)
    return event.raw if changed is data else event.with_data(changed)


def _changed_body(body: bytes, request_id: RequestId | None, change: Change) -> bytes:
    """`body` itself when nothing in it was to be changed."""
    value = _parsed(body) if body else None
    said = cast("list[Any]", value) if isinstance(value, list) else [value]  # 2025-03-26 lets a server batch
    if not any(_is_wanted(message, request_id) for message in said):
        return body
    changed = [change(message) if _is_wanted(message, request_id) else message for message in said]
    return dumps(changed if isinstance(value, list) else changed[0])


def _parsed(body: bytes) -> Any:
    try:
        return loads(body)
    except ValueError:
        raise UpstreamInterrupted("The MCP server answered with something that is not JSON: it may have run.") from None


def _is_wanted(message: Any, request_id: RequestId | None) -> TypeGuard[dict[str, Any]]:
    if not isinstance(message, dict) or not is_response(cast("dict[str, Any]", message)):
        return False
    identity: Any = cast("dict[str, Any]", message).get("id")
    return request_id is None or (identity == request_id and type(identity) is type(request_id))
