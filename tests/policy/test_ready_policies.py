"""The policies that come with the broker, against the servers that they are for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp.types import Tool

import policies
from broker.domain.calls import Action, Risk
from broker.policy.decide import decide
from broker.policy.load import load_policy
from tests.policy.calls import call

READY = Path(policies.__file__).parent
GIT = load_policy(READY / "git.json")
KWIN = load_policy(READY / "kwin.json")


@pytest.mark.parametrize("file", sorted(READY.glob("*.json")), ids=lambda file: file.name)
def test_every_ready_policy_loads_and_allows_nothing_that_it_does_not_list(file: Path) -> None:
    assert decide(load_policy(file), call("a tool that nobody lists")).action is not Action.ALLOW


async def tools_of(name: str) -> list[Tool]:
    """What the real server lists."""
    server = StdioServerParameters(command=sys.executable, args=["-m", f"mcp_server_{name}"])
    async with Client(server, read_timeout_seconds=30) as client:
        return (await client.list_tools()).tools


@pytest.mark.parametrize("name", ["git", "fetch", "time"])
async def test_a_ready_policy_lists_exactly_the_tools_of_the_real_server_and_limits_each(name: str) -> None:
    policy = load_policy(READY / f"{name}.json")
    assert set(policy.names) == {tool.name for tool in await tools_of(name)}
    assert [tool for tool in policy.names if not decide(policy, call(tool)).charges] == []


@pytest.mark.parametrize("name", ["fetch", "time"])
def test_what_only_reads_passes(name: str) -> None:
    policy = load_policy(READY / f"{name}.json")
    assert {decide(policy, call(tool)).action for tool in policy.names} == {Action.ALLOW}


async def test_git_json_lets_reading_pass_and_holds_what_the_server_calls_destructive() -> None:
    hints = {tool.name: tool.annotations for tool in await tools_of("git")}
    reading = {name for name, hint in hints.items() if hint and hint.read_only_hint}
    destructive = {name for name, hint in hints.items() if hint and hint.destructive_hint}
    assert "git_status" in reading
    assert {decide(GIT, call(name)).action for name in reading} == {Action.ALLOW}
    assert {decide(GIT, call(name)).action for name in destructive} == {Action.HOLD}


@pytest.mark.parametrize("tool", ["git_commit", "git_reset", "git_checkout"])
def test_git_json_holds_what_makes_history_or_replaces_work_and_says_why(tool: str) -> None:
    verdict = decide(GIT, call(tool))
    assert (verdict.action, verdict.risk) == (Action.HOLD, Risk.MEDIUM)
    assert verdict.rule == f"tools.{tool}.action"
    assert verdict.reason
    assert not verdict.reason.startswith("The policy holds")


def test_kwin_json_holds_a_connection_to_the_live_desktop() -> None:
    verdict = decide(KWIN, call("session_connect"))
    (charge,) = verdict.charges
    assert (verdict.action, verdict.risk) == (Action.HOLD, Risk.HIGH)
    assert verdict.reason == "Connects an agent to a live desktop"
    assert (charge.max, charge.window.total_seconds(), charge.scope) == (10, 60, "grant")


def test_kwin_json_limits_dragging_and_holds_what_it_does_not_list() -> None:
    verdict = decide(KWIN, call("mouse_drag"))
    (charge,) = verdict.charges
    assert verdict.action is Action.ALLOW
    assert (charge.max, charge.window.total_seconds(), charge.scope) == (10, 60, "grant")
    assert decide(KWIN, call("mouse_click")).action is Action.HOLD
