"""The tasks of 2025-11-25, which server-everything has and later revisions do not: they pass as they are."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.scene import Agent, Scene, block
from tests.servers import TRANSPORTS

ASKED: dict[str, Any] = {
    "name": "simulate-research-query",
    "arguments": {"topic": "opening hours"},
    "task": {"ttl": 60_000},
}


async def asked(agent: Agent, upstream: str, session: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """The response to a request."""
    request = {"jsonrpc": "2.0", "id": method, "method": method, "params": params}
    return await (await agent.send(upstream, request, session=session)).message()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_call_answers_with_a_task_and_the_result_is_asked_for_later(agent: Agent, transport: str) -> None:
    upstream = f"everything-{transport}"
    session = await agent.open(upstream)
    task = (await asked(agent, upstream, session, "tools/call", ASKED))["result"]["task"]
    assert task["status"] == "working"
    which = {"taskId": task["taskId"]}
    listed = await asked(agent, upstream, session, "tasks/list", {})
    assert [one["taskId"] for one in listed["result"]["tasks"]] == [task["taskId"]]
    done = await asked(agent, upstream, session, "tasks/result", which)  # answered when it is
    assert "Research Report: opening hours" in done["result"]["content"][0]["text"]
    assert (await asked(agent, upstream, session, "tasks/get", which))["result"]["status"] == "completed"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_held_call_makes_its_task_only_after_the_yes(scene: Scene, agent: Agent, transport: str) -> None:
    upstream = f"held-{transport}"
    session = await agent.open(upstream)
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ASKED}
    held = await agent.send(upstream, request, session=session)
    approval = await scene.submitted(agent)
    assert (await asked(agent, upstream, session, "tasks/list", {}))["result"]["tasks"] == []
    await scene.decide(approval)
    made = await held.message()
    assert block(made)["status"] == "approved"
    which = {"taskId": made["result"]["task"]["taskId"]}
    cancelled = await asked(agent, upstream, session, "tasks/cancel", which)
    assert cancelled["result"]["status"] == "cancelled"
