"""The manifest and its page against the code: the app may do what the broker does, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from broker.settings import load_settings
from integrations.slack.events import PATH
from integrations.slack.inbound import COMMAND
from tests.cli.test_readme import quoted, table
from tests.servers import ROOT
from tests.servers.slack import running_slack

SLACK = ROOT / "integrations" / "slack"
TEXT = (SLACK / "manifest.yaml").read_text()
MANIFEST: dict[str, Any] = yaml.safe_load(TEXT)
PAGE = (ROOT / "docs" / "slack.md").read_text()
SCOPES: list[str] = MANIFEST["oauth_config"]["scopes"]["bot"]


def _called() -> set[str]:
    """The methods that the code names."""
    source = "".join(path.read_text() for path in SLACK.glob("*.py"))
    return set(re.findall(r'\.call\(\s*"([A-Za-z.]+)"', source))


async def test_the_scopes_of_the_manifest_are_those_that_the_methods_of_the_code_need() -> None:
    async with running_slack() as slack:
        methods = slack.api.methods
        called = _called()
        assert {"auth.test", "chat.postMessage", "chat.update", "users.info", "views.open"} < called
        needed = {scope for name in called for scope in methods[name].scopes}
    assert sorted({*needed, "commands", "users:read.email"}) == SCOPES


def test_every_scope_is_explained_on_the_page() -> None:
    assert [quoted(row[0])[0] for row in table("What the app may do", PAGE)] == SCOPES


def test_the_manifest_is_for_socket_mode_and_says_where_http_differs() -> None:
    settings = MANIFEST["settings"]
    assert settings["socket_mode_enabled"] is True
    assert settings["interactivity"] == {"is_enabled": True}
    [command] = MANIFEST["features"]["slash_commands"]
    assert command["command"] == COMMAND
    assert TEXT.count(f"https://broker.example.com{PATH}") == 2
    over_http = re.sub(r"# for HTTP: ", "", TEXT)
    changed: dict[str, Any] = yaml.safe_load(over_http)
    url = f"https://broker.example.com{PATH}"
    assert changed["settings"]["interactivity"]["request_url"] == url
    assert changed["features"]["slash_commands"][0]["url"] == url


def test_the_manifest_keeps_to_the_limits_of_slack() -> None:
    """https://docs.slack.dev/reference/app-manifest"""
    about = MANIFEST["display_information"]
    assert len(about["name"]) <= 35
    assert len(about["description"]) <= 140
    assert re.fullmatch(r"#[0-9a-f]{6}", about["background_color"])
    assert re.fullmatch(r"[a-z0-9._-]{1,80}", MANIFEST["features"]["bot_user"]["display_name"])
    assert f"/invite @{MANIFEST['features']['bot_user']['display_name']}" in PAGE


def test_every_example_of_the_page_is_a_configuration(tmp_path: Path) -> None:
    examples = re.findall(r"^ *```toml\n(.*?)^ *```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(examples) == 2
    for example in examples:
        path = tmp_path / "broker.toml"
        path.write_text(example)
        assert load_settings(path).slack is not None
