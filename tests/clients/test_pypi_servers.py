"""mcp-server-git, -fetch and -time, over stdio, in both eras: they speak either."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.clients.servers import alone, shown
from tests.clients.website import Website
from tests.gateway.scene import APPROVER, ERAS, Agent, Repository, Scene, text, told

pytestmark = pytest.mark.parametrize("era", ERAS)

SPOKEN = {"legacy": "2025-11-25", "auto": "2026-07-28"}


@pytest.mark.parametrize("name", ["git", "fetch", "time"])
async def test_a_server_shows_behind_the_broker_what_it_shows_alone(
    agent: Agent, servers: dict[str, dict[str, Any]], name: str, era: str
) -> None:
    async with alone(servers[name], era) as client:
        expected = await shown(client)
    async with agent.client(name, era) as client:
        assert await shown(client) == expected
    assert expected["tools"]
    assert expected["protocol"] == SPOKEN[era]


# -- git --------------------------------------------------------------------------------------------------------------


async def test_of_an_agents_work_in_a_repository_only_the_commit_waits_for_a_person(
    scene: Scene, repository: Repository, era: str
) -> None:
    agent = await scene.agent("git")
    message, where = f"opening hours, {era}", {"repo_path": str(repository.path)}
    (repository.path / "hours").write_text(message)
    async with agent.client("git", era) as client:
        assert "hours" in text(await client.call_tool("git_status", where))
        await client.call_tool("git_add", {**where, "files": ["hours"]})
        assert repository.git("diff", "--cached", "--name-only") == "hours\n"
        committing = asyncio.ensure_future(client.call_tool("git_commit", {**where, "message": message}))
        approval = await scene.submitted(agent)
        assert message not in repository.log()
        await scene.decide(approval)
        assert told(await committing)["reviewers"] == [APPROVER.email]
        assert repository.log()[0] == message
        assert message in text(await client.call_tool("git_log", where))
    assert [row.tool for row in await scene.of(agent) if row.kind.value == "approval.submitted"] == ["git_commit"]


async def test_a_repository_that_the_git_server_was_not_started_for_is_refused_by_it(
    agent: Agent, repository: Repository, era: str
) -> None:
    async with agent.client("git", era) as client:
        refused = await client.call_tool("git_status", {"repo_path": str(repository.path.parent)})
    assert refused.is_error
    assert "outside the allowed repository" in text(refused)
    assert "approval-broker/decision" not in (refused.meta or {})


# -- fetch ------------------------------------------------------------------------------------------------------------


async def test_a_page_is_fetched_and_simplified(agent: Agent, site: Website, era: str) -> None:
    async with agent.client("fetch", era) as client:
        page = await client.call_tool("fetch", {"url": f"{site.url}/page.html"})
        data = await client.call_tool("fetch", {"url": f"{site.url}/data.json", "raw": True})
    assert not page.is_error
    assert "# Opening hours\n\nNine to five." in text(page)
    assert '{"open": true}' in text(data)
    assert site.visits == ["/robots.txt", "/page.html", "/robots.txt", "/data.json"]


async def test_a_page_that_waits_for_a_person_is_not_asked_for_before_the_yes(
    scene: Scene, site: Website, era: str
) -> None:
    agent = await scene.agent("fetch-held")
    async with agent.client("fetch-held", era) as client:
        fetching = asyncio.ensure_future(client.call_tool("fetch", {"url": f"{site.url}/page.html"}))
        approval = await scene.submitted(agent)
        assert site.visits == []
        await scene.decide(approval)
        page = await fetching
    assert "Nine to five." in text(page)
    assert told(page)["status"] == "approved"
    assert site.visits == ["/robots.txt", "/page.html"]


async def test_a_page_that_robots_txt_forbids_is_refused_to_the_tool_and_fetched_by_the_prompt(
    agent: Agent, site: Website, era: str
) -> None:
    where = f"{site.url}/private/page.html"
    async with agent.client("fetch", era) as client:
        refused = await client.call_tool("fetch", {"url": where})
        assert refused.is_error
        assert "robots.txt" in text(refused)
        assert site.visits == ["/robots.txt"]
        prompt = await client.get_prompt("fetch", {"url": where})  # a person's own wish
    assert "For people only." in prompt.model_dump_json()
    assert site.visits == ["/robots.txt", "/private/page.html"]


async def test_an_address_of_this_machine_is_refused_by_a_fetch_server_that_is_not_told_otherwise(
    agent: Agent, site: Website, era: str
) -> None:
    async with agent.client("fetch-public", era) as client:
        refused = await client.call_tool("fetch", {"url": f"{site.url}/page.html"})
    assert refused.is_error
    assert "not a public address" in text(refused)
    assert site.visits == []


# -- time -------------------------------------------------------------------------------------------------------------


async def test_a_time_is_converted_and_a_zone_that_there_is_not_is_an_error_of_the_server(
    agent: Agent, era: str
) -> None:
    asked = {"source_timezone": "Asia/Kolkata", "time": "12:00", "target_timezone": "UTC"}
    async with agent.client("time", era) as client:
        converted = (await client.call_tool("convert_time", asked)).structured_content
        refused = await client.call_tool("convert_time", {**asked, "target_timezone": "Moon/Tranquility"})
    assert converted is not None
    assert converted["time_difference"] == "-5.5h"
    assert converted["target"]["datetime"].endswith("T06:30:00+00:00")
    assert refused.is_error
    assert "Invalid timezone" in text(refused)
