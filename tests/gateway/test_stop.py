"""A broker that stops: nothing new runs, what runs may end, and all of it within a limit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from starlette.responses import Response, StreamingResponse

from tests.gateway.scene import HOLD_ACT, Bare, Scene, block, modern, playing
from tests.gateway.streams import sse
from tests.servers.scripted import Message, Scripted, Slow


class Stopping:
    """A broker that the test stops while it looks on."""

    def __init__(self, scene: Scene, stack: contextlib.AsyncExitStack) -> None:
        self.scene = scene
        self._stack = stack

    def stop(self) -> asyncio.Task[None]:
        """Begin to stop."""
        return asyncio.ensure_future(self._stack.aclose())


@pytest.fixture
async def broker(tmp_path: Path, server: Scripted) -> AsyncGenerator[Stopping]:
    """One with a limit of 4 s."""
    async with contextlib.AsyncExitStack() as stack:
        upstreams = {"one": {"url": server.url, "policy": HOLD_ACT}}
        scene = await stack.enter_async_context(playing(tmp_path, upstreams, server={"stop_within": "4s"}))
        yield Stopping(scene, stack)


async def begun(answer: asyncio.Future[Bare], slow: Slow) -> None:
    await slow.began.wait()
    assert not answer.done()


async def test_a_call_that_runs_may_end(broker: Stopping, server: Scripted) -> None:
    slow, agent = Slow(server), await broker.scene.agent()
    answer = asyncio.ensure_future(agent.call("one", "look"))
    await begun(answer, slow)
    stopping = broker.stop()
    slow.end.set()
    assert (await (await answer).message())["result"]["content"][0]["text"] == "done"
    await stopping


async def test_an_approved_call_that_runs_may_end(broker: Stopping, server: Scripted) -> None:
    slow, agent = Slow(server), await broker.scene.agent()
    held = await agent.call("one", "act")
    await broker.scene.review(agent)
    await slow.began.wait()
    reading = asyncio.ensure_future(held.message())
    stopping = broker.stop()
    slow.end.set()
    assert block(await reading)["status"] == "approved"
    await stopping


async def test_a_call_that_does_not_end_is_interrupted_within_the_limit(broker: Stopping, server: Scripted) -> None:
    slow, agent = Slow(server), await broker.scene.agent()
    answer = asyncio.ensure_future(agent.call("one", "look"))
    await begun(answer, slow)
    before = monotonic()
    await broker.stop()
    assert monotonic() - before < 4
    assert block(await (await answer).message())["status"] == "interrupted"
    slow.end.set()


async def test_a_caller_that_waits_for_people_gets_its_ticket_at_once(broker: Stopping, server: Scripted) -> None:
    agent = await broker.scene.agent()
    held = await agent.call("one", "act")
    approval = await broker.scene.submitted(agent)
    reading = asyncio.ensure_future(held.message())
    stopping = broker.stop()
    told = block(await reading)
    assert (told["status"], told["retry"], told["approval_id"]) == ("pending", "same", approval)
    await stopping


async def test_streams_that_never_end_are_ended_cleanly_and_not_waited_for(broker: Stopping, server: Scripted) -> None:
    never = asyncio.Event()
    note: dict[str, Any] = {"jsonrpc": "2.0", "method": "notifications/message", "params": {}}

    async def listen(message: Message) -> Response:
        async def notes() -> AsyncGenerator[bytes]:
            yield sse(note)
            await never.wait()

        return StreamingResponse(notes(), media_type="text/event-stream")

    server.on["subscriptions/listen"] = listen
    agent = await broker.scene.agent()
    stream = await agent.send("one", modern("subscriptions/listen"))
    assert await stream.event() == note
    before = monotonic()
    stopping = broker.stop()
    assert b"data:" not in await stream.whole()
    await stopping
    assert monotonic() - before < 2
    never.set()


async def test_while_it_stops_nothing_new_runs(broker: Stopping, server: Scripted) -> None:
    agent = await broker.scene.agent()
    session = await agent.open("one")
    await broker.scene.broker.endpoint.close(within=0)
    server.seen.clear()
    told = await (await agent.call("one", "look")).message()
    assert block(told)["status"] == "unavailable"
    assert "The broker is stopping" in told["result"]["content"][0]["text"]
    assert block(await (await agent.call("one", "act")).message())["status"] == "unavailable"
    assert "stopping" in (await (await agent.send("one", modern("tools/list"))).message())["error"]["message"]
    assert (await agent.send("one", method="GET", session=session)).status == 503
    assert server.seen == []
