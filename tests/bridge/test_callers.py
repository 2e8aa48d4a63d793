"""An agent behind the bridge that cannot wait, cancels, or is killed: to the broker the same as one without it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest

from tests.bridge.ends import Message, bridge
from tests.gateway.scene import HOLD_ACT, Scene, block, playing, tool_call
from tests.servers.scripted import Scripted

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
async def brief(tmp_path_factory: pytest.TempPathFactory, scripted_server: Scripted) -> AsyncGenerator[Scene]:
    """A broker that gives tickets soon."""
    upstreams = {"one": {"url": scripted_server.url, "policy": HOLD_ACT, "patience": timedelta(milliseconds=200)}}
    async with playing(tmp_path_factory.mktemp("brief"), upstreams) as made:
        yield made


@pytest.mark.parametrize(("era", "killed"), [("legacy", "lost"), ("modern", "cancelled")])
async def test_it_gets_a_ticket_comes_back_cancels_and_is_killed(
    brief: Scene, server: Scripted, era: str, killed: str
) -> None:
    def call(request_id: int, **meta: Any) -> Message:
        params = {"name": "act", "arguments": {}, "_meta": meta}
        legacy = {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}
        return legacy if era == "legacy" else tool_call("act", request_id=request_id, **meta)

    agent = await brief.agent()
    async with bridge(agent.url, agent.token, "one") as client:
        if era == "legacy":
            await client.open()
        ticket = block(await client.ask(call(1)))
        assert (ticket["status"], ticket["retry"]) == ("pending", "same")
        waiting = await client.ask(call(2, progressToken="t"))
        assert waiting["params"]["progressToken"] == "t"
        client.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}})
        assert (await brief.happened("approval.abandoned", agent, 2)).detail["why"] == "cancelled"
        await client.ask(call(3, progressToken="u"))
        await brief.happened("approval.resumed", agent, 2)
        client.process.kill()
        assert (await brief.happened("approval.abandoned", agent, 3)).detail["why"] == killed
    left = await brief.broker.approvals.get(ticket["approval_id"])
    assert (left.state, left.caller) == ("pending", "gone")
    assert (left.withdraw_at is not None) is (killed == "cancelled")
    assert server.calls == []
