"""server-filesystem under the policy that comes with the broker. It speaks the handshake only."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from mcp.client.session import ClientRequestContext
from mcp.types import ListRootsResult, Root
from pydantic import FileUrl

from broker.domain.approvals import Decision
from broker.domain.calls import Action
from broker.policy.judging.decide import decide
from broker.policy.tables import load_table
from tests.clients.servers import alone, shown
from tests.gateway.scene import APPROVER, ERAS, Agent, Scene, text, told
from tests.servers import BOUND, ROOT

pytestmark = pytest.mark.parametrize("era", ERAS)


async def test_it_shows_behind_the_broker_what_it_shows_alone(
    agent: Agent, servers: dict[str, dict[str, Any]], era: str
) -> None:
    async with alone(servers["filesystem"], era) as client:
        expected = await shown(client)
    async with agent.client("filesystem", era) as client:
        assert await shown(client) == expected
    assert expected["protocol"] == "2025-11-25"


async def test_its_ready_policy_lists_its_tools_lets_reading_pass_and_holds_what_it_calls_destructive(
    servers: dict[str, dict[str, Any]], era: str
) -> None:
    table = load_table(ROOT / "policies" / "tests" / "filesystem.yaml")
    said = {row.call.tool: decide(table.policy, row.call).action for row in reversed(table.rows)}
    async with alone(servers["filesystem"], era) as client:
        hints = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}
    reading = {name for name, hint in hints.items() if hint and hint.read_only_hint}
    destructive = {name for name, hint in hints.items() if hint and hint.destructive_hint}
    assert set(table.policy.names) == set(hints)
    assert destructive == {"write_file", "edit_file", "move_file"}
    assert {said[name] for name in reading} == {Action.ALLOW}
    assert {said[name] for name in destructive} == {Action.HOLD}


async def test_a_file_is_written_when_a_person_agrees_and_read_without_asking(
    scene: Scene, agent: Agent, folder: Path, era: str
) -> None:
    path = folder / f"{era}.txt"
    async with agent.client("filesystem", era) as client:
        writing = asyncio.ensure_future(client.call_tool("write_file", {"path": str(path), "content": "nine to five"}))
        approval = await scene.submitted(agent)
        assert not path.exists()
        await scene.decide(approval)
        assert told(await writing)["reviewers"] == [APPROVER.email]
        assert path.read_text() == "nine to five"
        read = await client.call_tool("read_text_file", {"path": str(path)})
    assert text(read) == "nine to five"
    assert read.structured_content == {"content": "nine to five"}


async def test_a_file_stays_where_it_is_when_a_person_refuses(
    scene: Scene, agent: Agent, folder: Path, era: str
) -> None:
    path = folder / f"stays-{era}.txt"
    path.touch()
    gone = folder / f"gone-{era}.txt"
    asked = {"source": str(path), "destination": str(gone)}
    async with agent.client("filesystem", era) as client:
        moving = asyncio.ensure_future(client.call_tool("move_file", asked))
        await scene.review(agent, Decision.REJECT, reason="others need it")
        assert "others need it" in text(await moving)
    assert path.exists()
    assert not gone.exists()


async def test_a_path_outside_its_folder_is_refused_by_the_server_even_when_a_person_agreed(
    scene: Scene, agent: Agent, tmp_path: Path, era: str
) -> None:
    outside = tmp_path / "outside.txt"
    async with agent.client("filesystem", era) as client:
        writing = asyncio.ensure_future(client.call_tool("write_file", {"path": str(outside), "content": "x"}))
        approval = await scene.submitted(agent)
        await scene.decide(approval)
        refused = await writing
    assert refused.is_error
    assert "outside allowed directories" in text(refused)
    assert not outside.exists()
    assert (await scene.broker.approvals.get(approval)).state == "failed"


async def test_roots_of_the_client_take_the_place_of_its_folder(
    agent: Agent, folder: Path, tmp_path: Path, era: str
) -> None:
    def told_of(allowed: Path) -> str:
        return f"Allowed directories:\n{allowed}"

    async def roots(context: ClientRequestContext) -> ListRootsResult:
        return ListRootsResult(roots=[Root(uri=FileUrl(tmp_path.as_uri()))])

    async with agent.client("filesystem", era, list_roots_callback=roots) as client:
        async with asyncio.timeout(BOUND):  # it asks when the session has begun, and calls go on meanwhile
            while (said := text(await client.call_tool("list_allowed_directories", {}))) != told_of(tmp_path):
                assert said == told_of(folder)
