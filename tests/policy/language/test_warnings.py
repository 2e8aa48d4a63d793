"""What is legal in a policy and probably wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broker.domain.people import Person, Role
from broker.policy.language.warnings import warnings
from broker.policy.load import parse_document

RULE = {"path": "args.mode", "op": "eq", "value": "live"}
LIMIT = {"counter": "c", "window": "minute", "max": 10}
APPROVER = frozenset({Role.APPROVER})
PEOPLE = [
    Person("alice@example.com", APPROVER, frozenset({"desktop-owners"})),
    Person("bob@example.com", APPROVER),
    Person("carol@example.com", frozenset({Role.AUDITOR}), frozenset({"readers"})),
]


def warned(people: list[Person] | None = None, **document: Any) -> list[str]:
    """The warnings about a document; version and default go without saying."""
    reading = parse_document(json.dumps({"version": "1", "default": "deny"} | document), "p.json")
    return [f"{one.path}: {one.message}" for one in warnings(reading.tree, reading.policy.book, people)]


def shadowed(exact: dict[str, Any], glob: dict[str, Any]) -> list[str]:
    """In what an entry is milder than the glob that it shadows."""
    told = warned(tools={"key_*": glob, "key_up": exact})
    prefix = 'tools.key_up: is milder than tools["key_*"], which does not count for it: '
    return [line.removeprefix(prefix) for line in told if line.startswith(prefix)]


@pytest.mark.parametrize(
    ("exact", "glob", "how"),
    [
        ({}, {"action": "hold"}, "allowed, not held"),
        ({"action": "hold"}, {"action": "deny"}, "held, not denied"),
        ({}, {"action": "deny"}, "allowed, not denied"),
        ({}, {"limits": [LIMIT]}, "without limits[0]"),
        ({}, {"rate_limit": {"max": 1, "window": 1}}, "without rate_limit"),
        ({}, {"deny_if": [RULE], "approve_if": [RULE]}, "without deny_if[0], approve_if[0]"),
        ({"deny_if": [RULE]}, {"require": [RULE]}, "without require[0]"),
        ({}, {"when": "true"}, "without when"),
        (
            {"rate_limit": {"max": 2, "window": 60}},
            {"rate_limit": {"max": 1, "window": 60}},
            "2 in 60 s, not 1",
        ),
        (
            {"action": "hold"},
            {"action": "hold", "approval": {"quorum": 2, "approvers": ["a"]}},
            "approved by 1, not 2; approved by every approver, not only a",
        ),
        (
            {"action": "hold", "approval": {"allow_self": True}},
            {"action": "hold"},
            "approved by the agent's owner too",
        ),
    ],
)
def test_an_entry_that_is_milder_than_the_glob_it_shadows_is_told_with_how(
    exact: dict[str, Any], glob: dict[str, Any], how: str
) -> None:
    assert shadowed(exact, glob) == [how]


@pytest.mark.parametrize(
    ("exact", "glob"),
    [
        ({"action": "deny"}, {"action": "hold", "limits": [LIMIT]}),
        ({"action": "hold"}, {}),
        ({"action": "hold"}, {"approve_if": [RULE], "when": "true"}),
        ({"limits": [LIMIT, LIMIT | {"counter": "d"}]}, {"limits": [LIMIT]}),
        ({"limits": [LIMIT | {"max": 10, "on_deny": "wait"}]}, {"limits": [LIMIT]}),
        ({"deny_if": [RULE | {"message": "no"}]}, {"deny_if": [RULE]}),
        ({"rate_limit": {"max": 1, "window": 60}}, {"rate_limit": {"max": 1, "window": 60}}),
    ],
)
def test_an_entry_that_is_as_severe_as_the_glob_it_shadows_is_no_matter(
    exact: dict[str, Any], glob: dict[str, Any]
) -> None:
    assert shadowed(exact, glob) == []


def test_an_entry_is_compared_with_the_glob_that_would_count_without_it() -> None:
    assert warned(tools={"*": {"action": "hold"}, "key_*": {}, "key_up": {}}) == [
        'tools["key_*"]: is milder than tools["*"], which does not count for it: allowed, not held'
    ]


def test_rules_for_all_tools_hold_for_both_and_make_neither_milder() -> None:
    tools: dict[str, Any] = {"key_*": {}, "key_up": {}}
    assert warned(tools=tools, all_tools={"limits": [LIMIT], "deny_if": [RULE]}) == []


def test_a_glob_of_other_tools_shadows_nothing() -> None:
    assert warned(tools={"mouse_*": {"action": "hold"}, "key_up": {}, "key?up": {"action": "deny"}, "keyup": {}}) == [
        'tools.key_up: is milder than tools["key?up"], which does not count for it: allowed, not denied'
    ]


def test_a_counter_that_one_tool_alone_names_or_several_name_alike_is_no_matter() -> None:
    both = [LIMIT, LIMIT | {"window": "hour", "max": 100}]
    assert (
        warned(tools={"x": {"limits": both}, "y": {"limits": both}, "z": {"limits": [LIMIT | {"counter": "d"}]}}) == []
    )


def test_a_counter_with_two_scopes_is_two_counters() -> None:
    assert warned(tools={"x": {"limits": [LIMIT, LIMIT | {"scope": "upstream", "max": 50}]}}) == []


def test_a_counter_that_is_full_for_one_tool_before_it_is_for_another_is_told() -> None:
    assert warned(tools={"x": {"limits": [LIMIT]}, "y": {"limits": [LIMIT | {"max": 20}]}}) == [
        "tools.y.limits[0]: the counter c has max 20 here and 10 at tools.x.limits[0]: both count in it"
    ]


def test_a_counter_that_adds_two_kinds_of_things_is_told() -> None:
    assert warned(tools={"x": {"limits": [LIMIT]}, "y": {"limits": [LIMIT | {"add": "args.n"}]}}) == [
        "tools.y.limits[0]: the counter c adds args.n here and one for each call at tools.x.limits[0]"
    ]


def test_limits_of_a_denied_tool_count_in_no_counter() -> None:
    denied = {"action": "deny", "limits": [LIMIT]}
    told = warned(tools={"a": denied, "b": {"limits": [LIMIT | {"max": 3}]}})
    assert told == ["tools.a.limits: has no effect, since deny goes for every call of this tool"]


def test_entries_of_hidden_tools_are_told() -> None:
    tools = {name: {"action": "hold"} for name in ("a", "b", "c", "d")} | {"key_*": {}}
    assert warned(hide=["a", "key_up"], tools=tools) == ["hide[0]: hides a: this entry has no effect"]
    assert warned(hide=["*"], tools=tools) == ["hide[0]: hides a, b and 3 more: these entries have no effect"]


@pytest.mark.parametrize(
    ("action", "rules", "keys"),
    [
        ("deny", {"limits": [LIMIT], "deny_if": [RULE], "require": []}, ["limits", "deny_if"]),
        ("hold", {"limits": [LIMIT], "deny_if": [RULE], "approve_if": [RULE]}, ["approve_if"]),
        ("allow", {"limits": [LIMIT], "deny_if": [RULE], "approve_if": [RULE]}, []),
    ],
)
def test_rules_that_come_after_all_was_said_are_told(action: str, rules: dict[str, Any], keys: list[str]) -> None:
    assert warned(tools={"x": {"action": action} | rules}) == [
        f"tools.x.{key}: has no effect, since {action} goes for every call of this tool" for key in keys
    ]


def test_what_this_version_does_not_act_on_is_told() -> None:
    approval = {"escalate": {"after": "5m", "to": ["a"]}, "remember": {"scopes": ["exact"], "max": "1h"}}
    document = {"x": {"action": "hold", "approval": approval | {"allow_edit": True}}, "y": {"action": "hold"}}
    told = warned(tools=document)
    assert {line.partition(":")[0].rpartition(".")[2] for line in told} == {"remember", "allow_edit"}
    assert warned(tools={"x": {"action": "hold", "approval": {"allow_edit": False}}}) == []


def test_rules_for_all_tools_where_none_is_listed_are_told() -> None:
    assert warned(all_tools={"limits": [LIMIT]}) == ["all_tools: has no effect, since no tool is listed"]


@pytest.mark.parametrize(
    ("approval", "told"),
    [
        ({"approvers": ["desktop-owners"], "escalate": {"after": "5m", "to": ["Bob@Example.com"]}, "quorum": 2}, []),
        (
            {"escalate": {"after": "5m", "to": ["bob@example.com", "on-call"]}},
            ["escalate.to[1]: nobody who may decide is in this group"],
        ),
        ({"approvers": ["desktop-owners", "Bob@Example.com"], "quorum": 2}, []),
        ({"quorum": 2}, []),
        ({"quorum": 3}, ["quorum: 3 people must approve, and 2 people are able to decide"]),
        (
            {"approvers": ["desktop-owners"], "quorum": 2},
            ["quorum: 2 people must approve, and 1 person is able to decide"],
        ),
        (
            {"approvers": ["desktop-owner", "alice@example.com"]},
            ["approvers[0]: nobody who may decide is in this group; did you mean desktop-owners?"],
        ),
        ({"approvers": ["readers"]}, ["approvers[0]: nobody who may decide is in this group"]),
        ({"approvers": ["carol@example.com"]}, ["approvers[0]: may not decide: give them the role approver"]),
        (
            {"approvers": ["alise@example.com"]},
            ["approvers[0]: there is no such person; did you mean alice@example.com?"],
        ),
    ],
)
def test_approvers_who_do_not_exist_and_quorums_that_nobody_reaches_are_told(
    approval: dict[str, Any], told: list[str]
) -> None:
    tools = {"x": {"action": "hold", "approval": approval}}
    assert warned(PEOPLE, tools=tools) == [f"tools.x.approval.{line}" for line in told]
    assert warned(None, tools=tools) == []


@pytest.mark.parametrize(
    ("timeout", "told"),
    [
        ({}, []),  # then it is that of the settings
        ({"timeout": "301s"}, []),
        ({"timeout": "5m"}, ["tools.x.approval.escalate.after: is not before the timeout of 5m: nobody else is asked"]),
    ],
)
def test_an_escalation_that_comes_too_late_is_told(timeout: dict[str, Any], told: list[str]) -> None:
    approval = {"escalate": {"after": "5m", "to": ["oncall"]}} | timeout
    assert warned(tools={"x": {"action": "hold", "approval": approval}}) == told


def test_warnings_come_in_the_order_of_the_text_with_their_places() -> None:
    reading = parse_document(
        "version: '1'\ndefault: deny\ntools:\n  x:\n    action: deny\n    limits: [{counter: c, window: day, max: 1}]\n"
        "  '*': {action: hold}\n  y: {}\n",
        "p.yaml",
    )
    found = warnings(reading.tree, reading.policy.book)
    assert [(one.line, one.column) for one in found] == [(6, 5), (8, 3)]


def test_a_document_with_nothing_wrong_has_no_warnings() -> None:
    sound = (Path(__file__).parents[3] / "policies" / "git.json").read_text()
    reading = parse_document(sound, "git.json")
    assert warnings(reading.tree, reading.policy.book, []) == []
