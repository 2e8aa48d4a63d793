"""Tables of calls and what a policy must say of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broker.domain.calls import Action, Call
from broker.domain.people import GrantRef
from broker.errors import PolicyError
from broker.policy.tables import EXAMPLE, Table, differences, load_table

POLICY = {
    "version": "1",
    "default": "deny",
    "tools": {
        "look": {"limits": [{"counter": "looks", "window": "minute", "max": 3}]},
        "press": {"action": "hold", "risk": "high", "reason": "moves a desk"},
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "desk.json").write_text(json.dumps(POLICY))
    (tmp_path / "tests").mkdir()
    return tmp_path


def table(folder: Path, text: str, name: str = "desk.yaml") -> Table:
    (folder / "tests" / name).write_text(text)
    return load_table(folder / "tests" / name)


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(PolicyError) as refused:
        table(folder, text)
    return [line.removeprefix(f"{folder}/tests/") for line in str(refused.value).splitlines()]


def test_a_row_is_a_call_and_a_verdict_on_one_line(folder: Path) -> None:
    read = table(
        folder,
        """\
policy: ../desk.json
calls:
  - {tool: look, args: {at: [1, 2]}, expect: allow}
  - {tool: press, expect: {action: hold, rule: tools.press.action, risk: high, reason: moves a desk, limits: []}}
""",
    )
    look, press = read.rows
    params = {"name": "look", "arguments": {"at": [1, 2]}}
    assert look.call == Call(f"{folder}/tests/desk.yaml:3", "desk", "look", params, EXAMPLE)
    assert (look.at, look.expected) == (f"{folder}/tests/desk.yaml:3", {"action": Action.ALLOW})
    assert press.expected == {
        "action": Action.HOLD,
        "rule": "tools.press.action",
        "risk": "high",
        "reason": "moves a desk",
        "limits": [],
    }
    assert differences(read) == []


def test_json_says_the_same(folder: Path) -> None:
    said = {"policy": "../desk.json", "calls": [{"tool": "press", "expect": "hold"}]}
    assert differences(table(folder, json.dumps(said), "desk.json")) == []


def test_the_table_says_who_calls_and_a_row_may_say_otherwise(folder: Path) -> None:
    read = table(
        folder,
        """\
policy: ../desk.json
upstream: office
grant: {label: ci, owner: olga@example.com}
calls:
  - {tool: look, expect: allow}
  - {name: a visitor, tool: look, grant: {id: g, label: visitor}, session: s-1, expect: allow}
""",
    )
    assert [row.call.grant for row in read.rows] == [
        GrantRef(EXAMPLE.id, "ci", "olga@example.com"),
        GrantRef("g", "visitor", EXAMPLE.owner),
    ]
    assert [(row.name, row.call.session, row.call.upstream) for row in read.rows] == [
        (None, None, "office"),
        ("a visitor", "s-1", "office"),
    ]


@pytest.mark.parametrize(
    "expected",
    ["deny", "{action: allow, rule: tools.press}", "{action: allow, risk: low}", "{action: allow, limits: [presses]}"],
)
def test_whatever_is_expected_and_is_not_so_is_a_difference(expected: str, folder: Path) -> None:
    (found,) = differences(table(folder, f"policy: ../desk.json\ncalls:\n  - {{tool: look, expect: {expected}}}\n"))
    assert found.came == {
        "action": "allow",
        "rule": "tools.look",
        "reason": None,
        "risk": None,
        "limits": ["looks"],
    }


def test_an_empty_list_of_limits_expects_that_none_is_charged(folder: Path) -> None:
    text = "policy: ../desk.json\ncalls:\n  - {tool: look, expect: {action: allow, limits: []}}\n"
    assert len(differences(table(folder, text))) == 1


def test_every_mistake_of_a_table_is_told_with_its_place(folder: Path) -> None:
    said = """\
policy: ../desk.json
cals: 7
calls:
  - {tool: look, expct: allow}
  - {tool: look, expect: alow}
  - {tool: look, expect: {action: allow, rules: x}}
  - {tool: look, args: [], expect: allow}
"""
    assert mistakes(folder, said) == [
        "desk.yaml:2:1: cals: unknown key; did you mean calls?",
        "desk.yaml:4:5: calls[0].expect: is missing",
        "desk.yaml:4:18: calls[0].expct: unknown key; did you mean expect?",
        "desk.yaml:5:26: calls[1].expect.action: expected 'allow', 'deny' or 'hold', not \"alow\"; did you mean allow?",
        "desk.yaml:6:42: calls[2].expect.rules: unknown key; did you mean rule?",
        "desk.yaml:7:24: calls[3].args: expected an object",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("policy: ../desk.json\n", "calls: is missing"),
        ("policy: ../desk.json\ncalls: []\n", "calls: is empty"),
        ("- tool: look\n", "expected an object"),
        ("policy: [\n", "desk.yaml:2:1"),
    ],
)
def test_what_is_no_table_is_told(text: str, told: str, folder: Path) -> None:
    (line,) = mistakes(folder, text)
    assert told in line


def test_a_policy_that_is_wrong_is_told_at_its_own_place(folder: Path) -> None:
    (folder / "desk.json").write_text('{"version": "1", "default": "maybe"}')
    (line,) = mistakes(folder, "policy: ../desk.json\ncalls: [{tool: look, expect: allow}]\n")
    assert line.startswith(f"{folder}/desk.json:1:29: default: ")


def test_a_table_that_is_not_there_is_told(folder: Path) -> None:
    with pytest.raises(PolicyError, match="the table cannot be read: No such file"):
        load_table(folder / "nowhere.yaml")
