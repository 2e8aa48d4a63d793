"""The open line to a caller, which may read slowly or not at all."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from broker.gateway.line import AHEAD, Line


async def test_what_waits_for_a_caller_that_does_not_read_is_bounded_in_bytes() -> None:
    line, sent = Line(lambda: None), 0

    async def send() -> None:
        nonlocal sent
        while True:
            await line.send(bytes(AHEAD // 2))
            sent += 1

    with suppress(TimeoutError):
        await asyncio.wait_for(send(), 0.5)
    assert sent == 3
    line.offer(b"a sign of life")
    chunks = line.chunks()
    for _ in range(3):
        assert len(await anext(chunks)) == AHEAD // 2
    line.end()
    assert [chunk async for chunk in chunks] == []


async def test_one_chunk_of_any_size_passes() -> None:
    line = Line(lambda: None)
    await line.send(bytes(10 * AHEAD))
    line.end()
    assert [len(chunk) async for chunk in line.chunks()] == [10 * AHEAD]


async def test_an_end_waits_for_nobody_and_what_was_sent_before_still_comes() -> None:
    line = Line(lambda: None)
    await line.send(bytes(2 * AHEAD))
    line.end()
    line.end()
    await asyncio.wait_for(line.send(b"too late"), 1)
    assert [len(chunk) async for chunk in line.chunks()] == [2 * AHEAD]


async def test_a_caller_that_hangs_up_lets_a_sender_go_on() -> None:
    left: list[bool] = []
    line = Line(lambda: left.append(True))
    await line.send(bytes(2 * AHEAD))
    sending = asyncio.ensure_future(line.send(b"x"))
    await asyncio.sleep(0)
    line.hang_up("cancelled")
    line.hang_up("lost")
    await asyncio.wait_for(sending, 1)
    assert (line.gone, left) == ("cancelled", [True])
    assert [chunk async for chunk in line.chunks()] == []
