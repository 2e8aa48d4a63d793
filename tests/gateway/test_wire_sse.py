"""Server-sent events: cut into the same events whatever the chunks, byte for byte, and changed only where wanted."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import UpstreamInterrupted
from broker.gateway.replies import MAX_REWRITTEN, json_reply, once, rewrite
from broker.gateway.sse import KEEP_ALIVE, SseParser, events, sse_event
from broker.gateway.upstreams import UpstreamReply
from broker.gateway.wire import loads, result_message

line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
line_texts = st.sampled_from(
    [
        b"data: {}",
        b"data:x",
        b"data",
        b"data:  two",
        b"id: 7",
        b"event: message",
        b"retry: 1",
        b": note",
        b"",
        b"odd",
        b"",
    ]
)


def written(bom: bytes, lines: list[tuple[bytes, bytes]], tail: bytes) -> bytes:
    return bom + b"".join(text + end for text, end in lines) + tail


streams = st.builds(
    written,
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(st.tuples(line_texts, line_ends), max_size=30),
    st.sampled_from([b"", b"data: unfinished"]),
)


def pieces(stream: bytes) -> tuple[list[tuple[bytes, bytes | None]], bytes]:
    return chunked([stream])


def chunked(chunks: list[bytes]) -> tuple[list[tuple[bytes, bytes | None]], bytes]:
    """The events (data and id), and all bytes that came out."""
    parser = SseParser()
    found = [piece for chunk in chunks for piece in parser.feed(chunk)]
    told = [(piece.data, piece.id) for piece in found if piece.data is not None]
    return told, b"".join(piece.raw for piece in found) + parser.rest()


@given(streams, st.lists(st.integers(0, 300)))
def test_any_chunking_gives_the_same_events_and_every_byte(stream: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[start:end] for start, end in pairwise(places)]
    told, passed = chunked(chunks)
    assert told == pieces(stream)[0]
    assert passed == stream
    assert chunked([bytes([byte]) for byte in stream]) == (told, stream)


def test_an_event_is_told_by_its_data_lines() -> None:
    stream = b"\xef\xbb\xbfid: 1\r\ndata: a\r\ndata:b\r\n: aside\r\n\r\n: alive\n\ndata\r\revent: x\n\n"
    assert pieces(stream)[0] == [(b"a\nb", b"1"), (b"", None)]


def test_an_event_is_out_with_its_blank_line_even_if_the_line_end_is_cut() -> None:
    parser = SseParser()
    (event,) = parser.feed(b"data: x\r\n\r")
    assert event.data == b"x"
    assert [piece.raw for piece in parser.feed(b"\n")] == [b"\n"]


def test_a_comment_between_events_goes_on_at_once() -> None:
    assert [piece.raw for piece in SseParser().feed(b": alive\n")] == [b": alive\n"]


def test_a_message_is_framed_as_one_event() -> None:
    assert pieces(sse_event({"a": "x\ny"}) + KEEP_ALIVE + sse_event(b"{}"))[0] == [
        (b'{"a":"x\\ny"}', None),
        (b"{}", None),
    ]


def test_an_event_with_other_data_keeps_its_other_fields() -> None:
    (event,) = SseParser().feed(b"id: 5\nevent: message\ndata: a\ndata: b\nretry: 9\n\n")
    assert event.with_data(b"new") == b"id: 5\r\nevent: message\r\nretry: 9\r\ndata: new\r\n\r\n"


def test_a_large_event_is_not_copied_with_every_chunk() -> None:
    size, step = 24_000_000, 4096
    stream = b"data: " + b"x" * size + b"\n\n"
    start = time.process_time()
    parser = SseParser()
    found = [event for at in range(0, len(stream), step) for event in parser.feed(stream[at : at + step])]
    assert [len(event.data or b"") for event in found] == [size]
    # 0.06 s here; copying what came before with every chunk moves 70 GB, which takes more than ten.
    assert time.process_time() - start < 3


async def test_an_event_over_the_limit_breaks_the_stream() -> None:
    with pytest.raises(UpstreamInterrupted, match="more than 10 bytes"):
        _ = [event async for event in events(once(b"data: 12345678"), limit=10)]


async def test_an_event_that_never_ended_is_left_out() -> None:
    assert [event.data async for event in events(once(b"data: a\n\ndata: b\n"))] == [b"a"]


# -- rewriting --------------------------------------------------------------------------------------------------------


def stream_reply(*chunks: bytes) -> UpstreamReply:
    return UpstreamReply(200, [(b"content-type", b"text/event-stream; charset=utf-8")], once(*chunks))


def marked(response: dict[str, Any]) -> Mapping[str, Any]:
    return {**response, "marked": True}


async def text(reply: UpstreamReply) -> bytes:
    return b"".join([chunk async for chunk in reply.chunks])


async def test_in_a_stream_only_responses_are_changed() -> None:
    before = (
        b': alive\n\nid: 1\ndata:\n\nevent: message\ndata: {"jsonrpc": "2.0",  "method":"notifications/progress"}\n\n'
    )
    other = b'event: ping\ndata: {"id":"7","result":{}}\n\n'
    reply = stream_reply(before, other, b'id: 2\ndata: {"id":7,"re', b'sult":{}}\n\n: end\n')
    changed = await text(await rewrite(reply, marked))
    assert changed == before + other + b'id: 2\r\ndata: {"id":7,"result":{},"marked":true}\r\n\r\n: end\n'


async def test_every_response_is_changed_whatever_its_id() -> None:
    reply = stream_reply(b'data: {"id":1.0,"result":{}}\n\ndata: [{"id":2,"error":{}},{"method":"x"}]\n\n')
    changed = await text(await rewrite(reply, marked))
    assert changed.count(b"marked") == 2
    assert b'{"method":"x"}]' in changed


async def test_events_go_on_as_they_come() -> None:
    async def endless() -> AsyncGenerator[bytes]:
        yield b'data: {"method":"x"}\n\n'
        raise AssertionError("asked for more before what was there had gone on")

    reply = await rewrite(UpstreamReply(200, [(b"content-type", b"text/event-stream")], endless()), marked)
    assert await anext(reply.chunks) == b'data: {"method":"x"}\n\n'


def test_an_event_tells_how_long_to_wait_before_a_new_connection() -> None:
    stream = b"id: 7\nretry: 250\ndata:\n\nretry: soon\ndata: {}\n\nretry: 9999999999\ndata: {}\n\n"
    assert [(event.id, event.retry) for event in SseParser().feed(stream)] == [(b"7", 250), (None, None), (None, None)]


async def test_a_json_answer_is_changed() -> None:
    reply = await rewrite(json_reply(result_message(1, {"n": 2**70}), 400), marked)
    assert (reply.status, loads(await text(reply))["marked"]) == (400, True)


async def test_a_json_answer_in_which_nothing_is_changed_stays_as_it_is() -> None:
    reply = UpstreamReply(200, [(b"content-type", b"application/json")], once(b'{ "id" : 1, ', b'"result":{} }'))
    assert await text(await rewrite(reply, lambda response: response)) == b'{ "id" : 1, "result":{} }'


async def test_an_answer_without_a_body_stays_as_it_is() -> None:
    assert await text(await rewrite(UpstreamReply(202, [], once()), marked)) == b""


@pytest.mark.parametrize("kind", [b"application/json", b"text/event-stream"])
async def test_what_is_said_to_be_json_and_is_none_is_not_passed_on(kind: bytes) -> None:
    reply = UpstreamReply(200, [(b"content-type", kind)], once(b'data: {"x":NaN}\n\n'))
    with pytest.raises(UpstreamInterrupted, match="not JSON"):
        await text(await rewrite(reply, marked))


async def test_an_answer_too_large_to_rewrite_is_closed() -> None:
    closed: list[bool] = []

    async def close() -> None:
        closed.append(True)

    chunks = once(*[b" " * (MAX_REWRITTEN // 4)] * 5)
    with pytest.raises(UpstreamInterrupted, match="more than 67108864 bytes"):
        await rewrite(UpstreamReply(200, [(b"content-type", b"application/json")], chunks, close=close), marked)
    assert closed == [True]
