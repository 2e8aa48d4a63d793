"""Answers to a client as values: making them, and changing the one response in an upstream's.

What belongs here: an `UpstreamReply` whole or changed. What does not: what the change is (the gate's), sending it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

from broker.errors import UpstreamInterrupted
from broker.gateway.sse import BOM, SseEvent, batches, events, sse_event
from broker.gateway.upstreams import UpstreamReply
from broker.gateway.weight import MOST_OF_A_SERVER, outweighs
from broker.gateway.wire import RequestId, answers, dumps, is_response, loads

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


async def rewrite(reply: UpstreamReply, change: Change) -> UpstreamReply:
    """Pass every response in `reply`, whatever its id, through `change`.

    Everything else streams on untouched, byte for byte. A stream of events is changed as it comes. Any other body is
    read whole before this returns.

    Args:
        change: returns the response itself when there is nothing to change; if it raises, the answer ends with that
            error and the response is not passed on.

    Raises:
        UpstreamInterrupted: the body has more than 64 MiB, or is said to be JSON and is none; it is closed then. For
            a stream of events its chunks raise the same.
    """
    if is_stream(reply):
        return replace(reply, chunks=_changed_events(reply.chunks, change))
    try:
        body = await _whole(reply.chunks)
        return replace(reply, chunks=once(_changed_body(body, change) if _is_json(reply) else body))
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
                value = _parsed(event.data) if event.data and event.name == b"message" else None
                if isinstance(value, list):
                    for message in _each(value):
                        yield message, sse_event(message)
                else:
                    yield value, event.raw
        return
    for message in _each(_parsed(await _whole(reply.chunks))):
        yield message, sse_event(cast("dict[str, Any]", message)) if isinstance(message, dict) else b""


async def read_response(reply: UpstreamReply, request_id: RequestId) -> dict[str, Any] | None:
    """The response to `request_id` in `reply`, or None when it ends without one.

    Raises:
        UpstreamInterrupted: it is neither JSON nor events, or it broke off.
    """
    async with aclosing(messages(reply)) as found:
        async for message, _ in found:
            if answers(message, request_id):
                return message
    return None


def _is_json(reply: UpstreamReply) -> bool:
    return _media_type(reply).endswith(b"json")


def is_stream(reply: UpstreamReply) -> bool:
    """Whether the answer is a stream of events."""
    return _media_type(reply) == b"text/event-stream"


def _media_type(reply: UpstreamReply) -> bytes:
    found = next((value for name, value in reply.headers if name == b"content-type"), b"")
    return found.partition(b";")[0].strip().lower()


async def _whole(chunks: AsyncGenerator[bytes]) -> bytes:
    pieces: list[bytes] = []
    left = MAX_REWRITTEN
    async for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise UpstreamInterrupted(
                f"The MCP server's answer has more than {MAX_REWRITTEN} bytes: it was not read. "
                "The call may or may not have run."
            )
        pieces.append(chunk)
    return b"".join(pieces)


async def _changed_events(chunks: AsyncGenerator[bytes], change: Change) -> AsyncGenerator[bytes]:
    async for batch in batches(chunks):
        changed: list[bytes] = []
        try:
            for event in batch:
                changed.append(_changed_event(event, change))  # noqa: PERF401 - what came before an error counts
        except Exception:
            yield b"".join(changed)
            raise
        yield b"".join(changed)


def _changed_event(event: SseEvent, change: Change) -> bytes:
    data = event.data
    if not data or event.name != b"message":
        return event.raw
    changed = _changed_body(data, change)
    return event.raw if changed is data else event.with_data(changed)


def _changed_body(body: bytes, change: Change) -> bytes:
    """`body` itself when nothing in it was to be changed."""
    value = _parsed(body) if body else None
    said = _each(value)
    changed = [_changed(message, change) for message in said]
    if all(new is old for new, old in zip(changed, said, strict=True)):
        return body
    return dumps(changed if isinstance(value, list) else changed[0])


def _changed(message: Any, change: Change) -> Any:
    if isinstance(message, dict) and is_response(response := cast("dict[str, Any]", message)):
        return change(response)
    return cast("Any", message)


def _parsed(body: bytes) -> Any:
    if outweighs(body, MOST_OF_A_SERVER):
        raise UpstreamInterrupted(
            f"The MCP server's answer has more than {MOST_OF_A_SERVER} values: it was not read. "
            "The call may or may not have run."
        )
    try:
        return loads(body.removeprefix(BOM))  # which readers may skip (RFC 8259 section 8.1), and most do
    except ValueError:
        raise UpstreamInterrupted(
            "The MCP server answered with something that is not JSON. The call may or may not have run."
        ) from None


def _each(value: Any) -> list[Any]:
    """The messages in a JSON value: 2025-03-26 lets a server batch."""
    return cast("list[Any]", value) if isinstance(value, list) else [value]
