"""The README's tables against the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import typer
from pydantic_core import PydanticUndefined

from broker.cli.connect import DEFAULT_URL
from broker.cli.main import app
from broker.domain.approvals import TRANSITIONS, State
from broker.domain.durations import parse_duration
from broker.gateway.patience import CLIENTS as KNOWN
from broker.gateway.patience import Client
from broker.settings import (
    ApprovalSettings,
    ClientSettings,
    OidcSettings,
    ServerSettings,
    SlackSettings,
    StoreSettings,
    UpstreamSettings,
)
from tests.cli.conftest import ROOT

README = (ROOT / "README.md").read_text()
SECTIONS = {
    "server": ServerSettings,
    "store": StoreSettings,
    "upstreams.NAME": UpstreamSettings,
    "approvals": ApprovalSettings,
    "clients.NAME": ClientSettings,
    "slack": SlackSettings,
    "oidc": OidcSettings,
}


CLIENTS = (ROOT / "docs" / "clients.md").read_text()


SETTINGS = (ROOT / "docs" / "settings.md").read_text()


def table(heading: str, page: str = README) -> list[list[str]]:
    """The cells of the table under a heading of a page, without its own head."""
    section = page.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def commands(group: typer.Typer, path: str) -> Iterator[str]:
    for command in group.registered_commands:
        yield f"{path} {command.name or getattr(command.callback, '__name__', '')}"
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            yield from commands(inner.typer_instance, f"{path} {inner.name}")


def test_every_command_is_listed() -> None:
    listed = [quoted(row[0])[0] for row in table("Commands")]
    assert sorted(listed) == sorted(commands(app, "broker"))


def snippets(page: str) -> list[str]:
    """The JSON on a page."""
    return re.findall(r"^```json\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("snippet", snippets(README) + snippets(CLIENTS))
def test_what_a_client_is_configured_with_is_json_that_leads_to_the_broker(snippet: str) -> None:
    configured = json.loads(snippet)
    (server,) = (configured.get("mcpServers") or configured["servers"]).values()
    if "command" in server:
        assert (server["command"], server["args"]) == ("broker", ["connect", "git"])
        assert set(server["env"]) <= {"BROKER_URL", "BROKER_GRANT"}
        secret, url = server["env"]["BROKER_GRANT"], server["env"].get("BROKER_URL", DEFAULT_URL)
    else:
        assert server["headers"]["Authorization"].startswith("Bearer ")
        secret, url = server["headers"]["Authorization"], server["url"].removesuffix("/mcp/git")
    assert url == DEFAULT_URL
    asked_for = {f"${{input:{one['id']}}}" for one in configured.get("inputs", [])}
    assert set(re.findall(r"\$\{input:.*?\}", secret)) == asked_for


def test_every_client_has_its_snippets() -> None:
    assert len(snippets(CLIENTS)) == 7
    assert "docs/clients.md" in README


def test_every_client_that_is_known_is_listed_with_when_it_gives_up() -> None:
    rows = [row for row in table("How long clients wait", CLIENTS) if quoted(row[2])]
    listed = {
        quoted(name)[0]: Client(parse_duration(quoted(gives_up)[0]), progress_resets=progress.startswith("yes"))
        for _, name, gives_up, progress, *_ in rows
    }
    assert listed == KNOWN
    assert list(listed) == list(KNOWN)


def test_every_source_of_what_is_known_of_clients_is_named_and_every_one_is_used() -> None:
    section = CLIENTS.split("\n## How long clients wait\n", 1)[1].split("\n## ", 1)[0]
    used = {number for row in table("How long clients wait", CLIENTS) for number in re.findall(r"\[(\d+)\]", str(row))}
    named = re.findall(r"^\[(\d+)\] ", section, re.MULTILINE)
    assert named == [str(number) for number in range(1, len(named) + 1)]
    assert used == set(named)


def test_every_setting_is_listed() -> None:
    listed = [quoted(row[0])[0] for row in table("All of them", SETTINGS)]
    assert listed == [f"{section}.{key}" for section, shape in SECTIONS.items() for key in shape.model_fields]


@pytest.mark.parametrize("row", table("All of them", SETTINGS), ids=lambda row: row[0].strip("`"))
def test_every_default_is_the_one_of_the_code(row: list[str]) -> None:
    section, _, key = quoted(row[0])[0].rpartition(".")
    default: Any = SECTIONS[section].model_fields[key].default
    if key == "public_url":
        assert (default, row[1]) == (None, "`http://host:port`")
    elif default is None or default is PydanticUndefined:
        assert row[1] == ""
    elif isinstance(default, timedelta):
        assert parse_duration(quoted(row[1])[0]) == default
    else:
        assert quoted(row[1]) == [json.dumps(default) if isinstance(default, bool) else str(default)]


def test_every_state_and_what_can_follow_it_is_listed() -> None:
    listed = {quoted(row[0])[0]: set(quoted(row[2])) for row in table("The life of an approval")}
    follow = {
        state.value: {to.value for (before, _), after in TRANSITIONS.items() if before is state for to in after}
        - {state.value}
        for state in State
    }
    assert listed == follow


def test_it_is_one_page() -> None:
    assert len(README.splitlines()) <= 160
