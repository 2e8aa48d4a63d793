"""The policies that come with the broker, against the servers that they are for."""

from __future__ import annotations

from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp.types import Tool

import policies
from broker.domain.calls import Action, Scope
from broker.policy.judging.decide import decide
from broker.policy.load import load_policy
from broker.policy.tables import Table, differences, load_table
from tests.policy.calls import call
from tests.warm import warm

READY = Path(policies.__file__).parent
FILES = sorted(READY.glob("*.json"))

FILESYSTEM = """
read_file read_text_file read_media_file read_multiple_files list_directory list_directory_with_sizes directory_tree
search_files get_file_info list_allowed_directories create_directory write_file edit_file move_file
"""
"""The tools of @modelcontextprotocol/server-filesystem 2026.8.31; `make test-clients` asks the server itself."""

KWIN = """
session_start session_connect session_stop screenshot accessibility_tree find_ui_elements mouse_click mouse_move
mouse_scroll mouse_drag mouse_button_down mouse_button_up keyboard_type keyboard_type_unicode keyboard_key
keyboard_key_down keyboard_key_up touch_tap touch_swipe touch_pinch touch_multi_swipe clipboard_get clipboard_set
wait_for_element launch_app list_windows focus_window dbus_call read_app_log wayland_info
"""
"""The tools of the KWin desktop server, which runs on a KDE desktop only."""


def table(name: str) -> Table:
    return load_table(READY / "tests" / f"{name}.yaml")


def actions(name: str) -> dict[str, Action]:
    """What the policy says of each tool's first row in its table."""
    rows = reversed(table(name).rows)
    policy = load_policy(READY / f"{name}.json")
    return {row.call.tool: decide(policy, row.call).action for row in rows}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_ready_policy_allows_nothing_that_it_does_not_list(file: Path) -> None:
    assert decide(load_policy(file), call("a tool that nobody lists")).action is not Action.ALLOW


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_ready_policy_says_what_its_table_expects(file: Path) -> None:
    found = differences(table(file.stem))
    assert [(one.row.at, dict(one.row.expected), dict(one.came)) for one in found] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_tool_of_a_ready_policy_has_a_row_and_a_limit(file: Path) -> None:
    said = table(file.stem)
    listed = set(said.policy.book.entries) - {"*"}
    assert listed <= {row.call.tool for row in said.rows}
    permitted = [row for row in said.rows if decide(said.policy, row.call).action is not Action.DENY]
    assert [row.at for row in permitted if not decide(said.policy, row.call).charges] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_whatever_a_ready_policy_holds_it_says_why_in_its_own_words(file: Path) -> None:
    said = table(file.stem)
    verdicts = (decide(said.policy, row.call) for row in said.rows)
    reasons = {verdict.reason or "" for verdict in verdicts if verdict.action is Action.HOLD}
    assert [reason for reason in reasons if not reason or reason.startswith("The policy")] == []


async def tools_of(name: str) -> list[Tool]:
    """What the real server lists."""
    program, *arguments = warm(f"mcp_server_{name}")
    server = StdioServerParameters(command=program, args=arguments)
    async with Client(server, read_timeout_seconds=30) as client:
        return (await client.list_tools()).tools


@pytest.mark.parametrize("name", ["git", "fetch", "time"])
async def test_a_ready_policy_lists_exactly_the_tools_of_the_real_server(name: str) -> None:
    assert set(load_policy(READY / f"{name}.json").names) == {tool.name for tool in await tools_of(name)}


@pytest.mark.parametrize(("name", "tools"), [("filesystem", FILESYSTEM), ("kwin", KWIN)])
def test_a_ready_policy_lists_exactly_the_tools_of_a_server_that_is_not_here(name: str, tools: str) -> None:
    assert set(load_policy(READY / f"{name}.json").names) == set(tools.split())


async def test_git_json_lets_reading_pass_and_holds_what_the_server_calls_destructive() -> None:
    hints = {tool.name: tool.annotations for tool in await tools_of("git")}
    reading = {name for name, hint in hints.items() if hint and hint.read_only_hint}
    destructive = {name for name, hint in hints.items() if hint and hint.destructive_hint}
    said = actions("git")
    assert "git_status" in reading
    assert {said[name] for name in reading} == {Action.ALLOW}
    assert {said[name] for name in destructive} == {Action.HOLD}


@pytest.mark.parametrize(
    ("tool", "counter"), [("session_connect", "session_connect_rate"), ("mouse_drag", "mouse_drag_rate")]
)
def test_kwin_json_limits_connecting_and_dragging_to_ten_a_minute_for_each_grant(tool: str, counter: str) -> None:
    charges = {charge.counter: charge for charge in decide(load_policy(READY / "kwin.json"), call(tool)).charges}
    found = charges[counter]
    assert (found.max, found.window.total_seconds(), found.scope) == (10, 60, Scope.GRANT)


def test_kwin_json_has_one_counter_over_all_input() -> None:
    policy = load_policy(READY / "kwin.json")
    charged = {name for name in KWIN.split() if "inputs" in {one.counter for one in decide(policy, call(name)).charges}}
    devices = ("mouse_", "keyboard_", "touch_")
    assert charged == {name for name in KWIN.split() if name.startswith(devices)} | {"clipboard_set", "focus_window"}
    assert len({(one.max, one.window) for name in charged for one in decide(policy, call(name)).charges[-1:]}) == 1
