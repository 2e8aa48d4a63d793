"""`broker policy test`, as people and programs see it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

import policies
from tests.cli.conftest import Shell

READY = Path(policies.__file__).parent
POLICY = {"version": "1", "default": "deny", "tools": {"look": {}, "press": {"action": "hold"}}}
TABLE = """\
policy: ../desk.json
calls:
  - {tool: look, expect: allow}
  - {tool: press, args: {hard: true}, grant: {label: a visitor}, expect: {action: deny, rule: tools.press.action}}
"""


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """A shell with a policy and a table that it fails."""
    tables = shell.folder / "policies" / "tests"
    tables.mkdir(parents=True)
    (shell.folder / "policies" / "desk.json").write_text(json.dumps(POLICY))
    (tables / "desk.yaml").write_text(TABLE)
    return shell


def test_every_ready_policy_passes_its_table(shell: Shell) -> None:
    tables = sorted((READY / "tests").iterdir())
    told = shell.lines("policy", "test", str(READY / "tests"))
    assert [line.partition(":")[0] for line in told] == [*(file.stem for file in tables), f"{len(tables)} tables"]
    assert {file.stem for file in tables} == {file.stem for file in READY.glob("*.json")}


def test_a_table_that_fails_says_what_came_and_how_to_see_why(shell: Shell) -> None:
    ended = shell.run("policy", "test", "policies/tests/desk.yaml")
    assert (ended.status, ended.stderr) == (1, "")
    told, place, expected, came, see = ended.stdout.splitlines()
    assert told == "desk: 1 passed, 1 failed"
    assert place.strip() == "policies/tests/desk.yaml:4: press"
    assert expected.split() == ["expected", "deny,", "rule", "tools.press.action"]
    assert came.split() == ["came", "hold,", "rule", "tools.press.action"]
    command = shlex.split(see.strip().removeprefix("see"))
    assert shell.json(*command[1:])["grant"]["label"] == "a visitor"


def test_without_a_file_the_tables_beside_the_settings_are_run(
    shell: Shell, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = Shell(tmp_path_factory.mktemp("elsewhere"))
    ended = elsewhere.run("policy", "test", "--json", "--config", str(shell.folder / "broker.toml"))
    told = json.loads(ended.stdout)
    assert ended.status == 1
    assert (told["passed"], told["failed"]) == (1, 1)
    ((failure,),) = [table["failures"] for table in told["tables"]]
    assert failure["tool"] == "press"
    assert failure["expected"] == {"action": "deny", "rule": "tools.press.action"}
    assert failure["came"]["action"] == "hold"


def test_a_table_that_cannot_be_run_fails_and_the_others_are_run(shell: Shell) -> None:
    (shell.folder / "policies" / "tests" / "a.yaml").write_text(
        "policy: nowhere.json\ncalls: [{tool: a, expect: deny}]"
    )
    ended = shell.run("policy", "test")
    lines = ended.stdout.splitlines()
    assert ended.status == 1
    assert lines[0] == "a: 1 failed"
    assert "nowhere.json: the policy cannot be read" in lines[1]
    assert lines[-1] == "2 tables: 1 passed, 2 failed"


def test_a_folder_without_tables_is_a_wrong_usage(shell: Shell) -> None:
    (shell.folder / "empty").mkdir()
    assert "no table in the folder empty" in shell.refused("policy", "test", "empty", status=2)
