"""Channels beside a real held call: people are told, and nobody waits for a channel."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import pytest

from broker.domain.audit import timestamp
from tests.clock import MovableClock
from tests.gateway.scene import HOLD_ACT, Scene, block, playing
from tests.servers import BOUND
from tests.servers.board import Board, BoardChannel, Message, running_board
from tests.servers.scripted import Scripted

AT_ONCE = 3.0
"""Seconds that are far less than a channel has for one message, on a busy machine too."""


@dataclass
class Hall:
    """A broker that tells on a board."""

    scene: Scene
    board: Board
    clock: MovableClock
    stack: contextlib.AsyncExitStack

    async def ready(self) -> dict[str, Any]:
        """What `/readyz` says to anybody."""
        async with self.scene.http.get(f"{self.scene.broker.url}/readyz") as answer:
            assert answer.status == 200
            return await answer.json()

    async def until(self, what: Any) -> None:
        """Wait until something is true of the board."""
        async with asyncio.timeout(BOUND):
            await self.board.until(what)

    @property
    def message(self) -> Message:
        """The one of an approval."""
        [message] = self.of_approvals
        return message

    @property
    def of_approvals(self) -> list[Message]:
        """Those that are no announcements."""
        return [each for each in self.board.messages.values() if "approval" in each.text]


@pytest.fixture
async def hall(tmp_path: Path, server: Scripted, clock: MovableClock) -> AsyncGenerator[Hall]:
    """One in front of `server`, whose `act` is held; a place in trouble rests until the test moves the clock."""
    async with contextlib.AsyncExitStack() as stack:
        board = await stack.enter_async_context(running_board())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        channel = BoardChannel(board.url, http)
        upstreams = {"one": {"url": server.url, "policy": HOLD_ACT}}
        inner = await stack.enter_async_context(contextlib.AsyncExitStack())
        stop = {"stop_within": "4s"}
        playing_here = playing(tmp_path, upstreams, server=stop, clock=clock, channels=[channel])
        yield Hall(await inner.enter_async_context(playing_here), board, clock, inner)


async def test_a_held_call_is_told_and_its_message_follows_it_to_the_end(hall: Hall) -> None:
    agent = await hall.scene.agent()
    held = await agent.call("one", "act", {"where": "there"})
    approval = await hall.scene.submitted(agent)
    await hall.until(lambda: hall.of_approvals)
    assert (hall.message.text["approval"], hall.message.text["state"]) == (approval, "pending")
    assert hall.message.text["url"] == f"{hall.scene.broker.url}/approvals/{approval}"
    before = monotonic()
    await hall.scene.decide(approval)
    await hall.until(lambda: hall.message.text["state"] != "pending")
    assert monotonic() - before < 2
    assert block(await held.message())["status"] == "approved"
    await hall.until(lambda: [each["kind"] for each in hall.message.below][1:] == ["approval.succeeded"])
    assert hall.message.text["state"] == "succeeded"
    assert hall.message.below[1]["answer"]["content"] == [{"type": "text", "text": "done"}]


async def test_a_channel_that_hangs_delays_no_call_no_decision_and_no_stop(hall: Hall) -> None:
    hall.board.orders.extend(["hang"] * 100)
    before = monotonic()
    agent = await hall.scene.agent()
    held = await agent.call("one", "act")
    approval = await hall.scene.submitted(agent)
    await hall.until(lambda: hall.board.asked)
    await hall.scene.decide(approval)
    assert block(await held.message())["status"] == "approved"
    assert monotonic() - before < AT_ONCE
    before = monotonic()
    await hall.stack.aclose()
    assert monotonic() - before < AT_ONCE
    assert len(hall.board.asked) == 1


async def test_a_channel_in_trouble_is_said_to_be_and_the_broker_works_on(hall: Hall) -> None:
    await hall.until(lambda: hall.board.messages)  # that there is an approver
    assert (await hall.ready())["channels"] == {"slack": {"ok": True}}
    hall.board.orders.append("500")
    agent = await hall.scene.agent()
    held = await agent.call("one", "act")
    approval = await hall.scene.submitted(agent)
    async with asyncio.timeout(BOUND):
        while (told := await hall.ready())["status"] == "ok":
            continue
    assert told["status"] == "degraded"
    trouble = told["channels"]["slack"]
    assert trouble["ok"] is False
    assert trouble["error"] == "slack:#approvals: the board answered 500. What is to be told there waits."
    assert trouble["since"] == timestamp(hall.clock.now())
    hall.clock.advance(timedelta(seconds=1))
    await hall.until(lambda: hall.of_approvals)
    await hall.scene.decide(approval)
    assert block(await held.message())["status"] == "approved"
    await hall.until(lambda: [each["kind"] for each in hall.message.below][1:] == ["approval.succeeded"])
    assert (await hall.ready())["status"] == "ok"


async def test_where_there_is_a_channel_decisions_count_there(hall: Hall) -> None:
    assert hall.scene.broker.approvals.rules.channels == {"web", "api", "slack"}
