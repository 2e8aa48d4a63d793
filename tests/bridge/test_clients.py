"""Real MCP clients of both eras that started the bridge, with real servers behind a real broker."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from broker.domain.approvals import Decision
from tests.bridge.ends import client, command, environment, lines
from tests.gateway.scene import ERAS, Agent, Scene, text, told
from tests.servers import BOUND, TRANSPORTS

BOTH = [pytest.mark.parametrize("transport", TRANSPORTS), pytest.mark.parametrize("era", ERAS)]


def both(test: Any) -> Any:
    """Run a test in both eras over both transports."""
    for mark in BOTH:
        test = mark(test)
    return test


@both
async def test_tools_are_listed_and_called_twenty_at_once(agent: Agent, era: str, transport: str) -> None:
    async with client(agent, transport, era) as own:
        assert own.protocol_version == {"legacy": "2025-11-25", "auto": "2026-07-28"}[era]
        assert "echo" in {tool.name for tool in (await own.list_tools()).tools}
        echoes = await asyncio.gather(*(own.call_tool("echo", {"text": str(number)}) for number in range(20)))
        assert [text(echo) for echo in echoes] == [str(number) for number in range(20)]
        assert "Greet Ada." in (await own.get_prompt("greeting", {"name": "Ada"})).model_dump_json()
        assert "note of Ada" in (await own.read_resource("note://Ada")).model_dump_json()
        assert text(await own.call_tool("label", {"text": "a", "region": "Süd"})) == "Süd: a"


@both
async def test_a_held_call_tells_of_progress_and_runs_when_it_is_approved(
    scene: Scene, agent: Agent, effects: Path, era: str, transport: str
) -> None:
    heard, waits = list[str | None](), asyncio.Event()

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)
        waits.set()

    line = f"approved {era} {transport}"
    async with client(agent, transport, era) as own:
        calling = asyncio.ensure_future(own.call_tool("append_line", {"line": line}, progress_callback=hear))
        await asyncio.wait_for(waits.wait(), BOUND)
        assert "Waiting for approval" in (heard[0] or "")
        assert line not in lines(effects)
        await scene.review(agent)
        result = await asyncio.wait_for(calling, BOUND)
    assert (text(result), told(result)["status"]) == ("appended", "approved")
    assert lines(effects).count(line) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_a_rejection_is_told_with_its_reason(scene: Scene, agent: Agent, era: str) -> None:
    async with client(agent, "stdio", era) as own:
        calling = asyncio.ensure_future(own.call_tool("append_line", {"line": "rejected"}))
        await scene.review(agent, Decision.REJECT, reason="not today")
        result = await asyncio.wait_for(calling, BOUND)
    assert result.is_error
    assert (told(result)["status"], told(result)["reason"]) == ("rejected", "not today")


@both
async def test_a_held_call_that_the_client_cancels_has_no_caller_any_more(
    scene: Scene, agent: Agent, era: str, transport: str
) -> None:
    async with client(agent, transport, era) as own:
        calling = asyncio.ensure_future(own.call_tool("append_line", {"line": "cancelled"}))
        approval = await scene.submitted(agent)
        calling.cancel()
        row = await scene.happened("approval.abandoned", agent)
        assert (await scene.broker.approvals.get(approval)).caller == "gone"
        assert row.detail["why"] == "cancelled"
        assert text(await own.call_tool("echo", {"text": "on"})) == "on"


@pytest.mark.parametrize("era", ERAS)
async def test_a_running_call_that_the_client_cancels_is_cancelled_at_the_server(
    agent: Agent, effects: Path, era: str
) -> None:
    started = asyncio.Event()

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        started.set()

    name = f"slow {era}"
    async with client(agent, "http", era) as own:
        calling = asyncio.ensure_future(own.call_tool("slow", {"name": name}, progress_callback=hear))
        await asyncio.wait_for(started.wait(), BOUND)
        calling.cancel()
        async with asyncio.timeout(BOUND):
            while f"cancelled {name}" not in lines(effects):
                await own.call_tool("echo", {"text": "meanwhile"})


@pytest.mark.parametrize("era", ERAS)
async def test_a_result_of_five_megabytes_arrives_whole(agent: Agent, era: str) -> None:
    size = 5 * 1024 * 1024
    async with client(agent, "http", era) as own:
        result = await asyncio.wait_for(own.call_tool("large", {"size": size}), BOUND)
    assert text(result) == "x" * size


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_is_killed_takes_the_bridge_and_its_wait_along(
    scene: Scene, agent: Agent, era: str
) -> None:
    program = (
        "import asyncio, sys\n"
        "from mcp import Client\n"
        "from mcp.client.stdio import StdioServerParameters, stdio_client\n"
        f"start = StdioServerParameters(command={command('http')[0]!r}, args={command('http')[1:]!r},\n"
        f"                              env={environment(agent.url, agent.token)!r})\n"
        "async def main():\n"
        f"    async with Client(stdio_client(start), mode={era!r}) as client:\n"
        "        await client.call_tool('append_line', {'line': 'killed'})\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    approval = await scene.submitted(agent)
    process.kill()
    await asyncio.wait_for(process.stderr.read(), BOUND)  # the bridge holds its other end too, as long as it lives
    await process.communicate()
    await scene.happened("approval.abandoned", agent)
    assert (await scene.broker.approvals.get(approval)).caller == "gone"
