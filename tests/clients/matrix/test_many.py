"""One agent with fifty held calls on one connection: they do not stand in the way of another, nor of each other."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from broker.domain.approvals import Decision
from tests.clients.matrix.cases import Way
from tests.clients.matrix.drivers import Client, Message, driver
from tests.clients.matrix.plays import answer_of
from tests.gateway.scene import Scene, playing
from tests.servers import BOUND, features_stdio

MANY = 50
AT_ONCE = 1.0
"""Seconds within which a call that nobody has to decide is answered."""

POLICY: dict[str, Any] = {"default": "allow", "tools": {"echo": {"action": "hold"}}}


@pytest.fixture(scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory, effects: Path, features_url: str) -> AsyncGenerator[Scene]:
    """The feature server behind either transport, `echo` is held; an agent may have many calls before people."""
    upstreams = {
        "stdio": {**features_stdio(effects), "policy": POLICY},
        "http": {"url": features_url, "policy": POLICY},
    }
    limits = {"max_pending": 2 * MANY, "max_per_hour": 2 * MANY}
    async with playing(tmp_path_factory.mktemp("many"), upstreams, approvals=limits) as made:
        yield made


@pytest.mark.parametrize(
    ("client", "transport"),
    [(Client.PYTHON_2_MODERN, "stdio"), (Client.PYTHON_2_LEGACY, "stdio"), (Client.PYTHON_2_LEGACY, "http")],
)
async def test_fifty_held_calls_on_one_connection_let_others_pass_and_are_decided_in_any_order(
    scene: Scene, client: Client, transport: str
) -> None:
    agent = await scene.agent()
    async with driver(client) as one:
        for way in Way:
            await one.open(way, agent.at(transport), agent.token, bridged=way is Way.CONNECT)
        texts = [f"{way} {number}" for way in Way for number in range(MANY)]
        held = {text: one.call(text.split()[0], "echo", {"text": text}, token=text.endswith("0")) for text in texts}
        waiting = [await scene.submitted(agent, nth) for nth in range(1, len(held) + 1)]
        for way in Way:
            began = time.monotonic()
            passed = await asyncio.wait_for(one.call(way, "large", {"size": 1}).outcome, BOUND)
            assert time.monotonic() - began < AT_ONCE
            assert _text(passed) == "x"
        assert not any(call.outcome.done() for call in held.values())
        random.Random(6).shuffle(waiting)
        for nth, approval in enumerate(waiting):
            decision = Decision.REJECT if nth % 10 == 9 else Decision.APPROVE
            decided = await scene.decide(approval, decision, reason=approval)
            text: str = decided.call.params["arguments"]["text"]
            outcome = await asyncio.wait_for(held.pop(text).outcome, BOUND)  # while the rest are held
            told = f"rejected: {approval}" if decision is Decision.REJECT else "approved"
            assert answer_of(outcome) == told
            assert decision is Decision.REJECT or _text(outcome) == text
        assert held == {}


def _text(outcome: Message) -> str:
    return "".join(part["text"] for part in outcome["result"]["content"])
