"""`broker policy`: what it prints, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broker.policy.language.schema import policy_schema
from tests.cli.conftest import Shell

SOUND = 'version: "1"\ndefault: hold\ntools:\n  look: {}\n'
WRONG = 'version: "1"\ndefault: hold\ntools:\n  look:\n\n    action: hodl\n  pay: {limits: 3}\n'
APPROVAL = SOUND + "  pay: {action: hold, approval: {approvers: [ops], quorum: 2}}\n"


@pytest.fixture
def folder(shell: Shell) -> Path:
    (shell.folder / "sound.yaml").write_text(SOUND)
    (shell.folder / "wrong.yaml").write_text(WRONG)
    (shell.folder / "approval.yaml").write_text(APPROVAL)
    return shell.folder


def test_a_sound_policy_is_told_in_a_line(shell: Shell, folder: Path) -> None:
    assert shell.lines("policy", "check", "sound.yaml") == ["sound.yaml: 1 tool, default hold"]


def test_every_mistake_is_told_with_its_line_and_a_mark_under_its_column(shell: Shell, folder: Path) -> None:
    done = shell.run("policy", "check", "wrong.yaml", "sound.yaml", "none.json")
    assert done.status == 1
    assert done.stdout.splitlines() == [
        "wrong.yaml:6:13: tools.look.action: expected 'allow', 'deny' or 'hold', not \"hodl\"; did you mean hold?",
        "        action: hodl",
        "                ^",
        "wrong.yaml:7:17: tools.pay.limits: expected a list, not 3",
        "      pay: {limits: 3}",
        "                    ^",
        "sound.yaml: 1 tool, default hold",
        "none.json: the policy cannot be read: No such file or directory",
        "3 files checked: 3 mistakes.",
    ]


def test_programs_get_every_finding_with_its_place(shell: Shell, folder: Path) -> None:
    (folder / "hidden.yaml").write_text(SOUND + "hide: [look]\n")
    done = shell.run("policy", "check", "wrong.yaml", "hidden.yaml", "none.json", "--json")
    assert done.status == 1
    wrong, hidden, none = json.loads(done.stdout)["files"]
    assert wrong["mistakes"][0] == {
        "line": 6,
        "column": 13,
        "path": "tools.look.action",
        "message": "expected 'allow', 'deny' or 'hold', not \"hodl\"; did you mean hold?",
        "nearest": "hold",
    }
    assert (wrong["ok"], hidden["ok"], none["ok"]) == (False, True, False)
    assert [(one["line"], one["path"]) for one in hidden["warnings"]] == [(5, "hide[0]")]
    assert none["mistakes"][0]["line"] is None


def test_the_mark_stands_under_wide_and_hidden_characters_and_in_long_lines(shell: Shell) -> None:
    tools = '{"日本\u202e": {"reason": "' + "x" * 500 + '", "actoin": 1}}'
    (shell.folder / "p.json").write_text('{"version": "1", "default": "deny",\n\t"tools": ' + tools + "}")
    done = shell.run("policy", "check", "p.json", COLUMNS="80")
    _, shown, mark, _ = done.stdout.splitlines()
    assert "\u202e" not in done.stdout
    assert len(shown) <= 80
    assert shown[mark.index("^") :].startswith('"actoin"')


def test_without_a_file_the_policies_of_the_settings_are_checked(shell: Shell, folder: Path) -> None:
    upstreams = (f'[upstreams.{name}]\ncommand = ["x"]\npolicy = "{name}.yaml"\n' for name in ("sound", "wrong"))
    (folder / "broker.toml").write_text("".join(upstreams))
    files = json.loads(shell.run("policy", "check", "--json").stdout)["files"]
    assert [(Path(one["file"]).name, one["ok"]) for one in files] == [("sound.yaml", True), ("wrong.yaml", False)]


def test_with_nothing_to_check_the_usage_is_wrong(shell: Shell) -> None:
    done = shell.run("policy", "check")
    assert done.status == 2
    assert "The settings name no policy: name a file to check." in " ".join(done.stderr.split())


def test_a_store_that_is_not_there_is_not_made_and_nothing_is_said_of_people(shell: Shell, folder: Path) -> None:
    assert shell.lines("policy", "check", "approval.yaml") == ["approval.yaml: 2 tools, default hold"]
    assert not (folder / "broker.db").exists()


def test_with_a_store_approvers_are_looked_for_among_its_people(shell: Shell, folder: Path) -> None:
    shell.lines("user", "add", "bob@x.org", "--role", "approver", "--group", "opps")
    told = shell.lines("policy", "check", "approval.yaml")
    assert [line.partition(": warning: ")[2] for line in told if ": warning: " in line] == [
        "tools.pay.approval.approvers[0]: nobody who may decide is in this group; did you mean opps?",
        "tools.pay.approval.quorum: 2 people must approve, and 0 people are able to decide",
    ]
    assert told[-1] == "1 file checked: no mistakes, 2 warnings."


def test_settings_that_were_named_and_cannot_be_read_are_a_mistake_of_their_own(shell: Shell, folder: Path) -> None:
    assert shell.run("policy", "check", "approval.yaml", "--config", "none.toml").status == 2


def test_the_schema_is_printed(shell: Shell) -> None:
    (line,) = shell.lines("policy", "schema")
    assert json.loads(line) == policy_schema()
