"""Calls of the past, judged by another policy."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from broker.domain.calls import Call
from broker.domain.paths import parse_path
from broker.domain.recorded import Fate, RecordedCall
from broker.policy.replay import Replay
from tests.clock import NOON
from tests.policy.calls import GRANT, policy

MINUTE = timedelta(minutes=1)
NOBODY = {"path": "args.who", "op": "eq", "value": "nobody"}


def was(
    fate: Fate,
    tool: str = "look",
    rule: str | None = "tools.look",
    *,
    at: datetime = NOON,
    unknown: str = "",
    call_id: str = "call_1",
    **arguments: Any,
) -> RecordedCall:
    """A call of the past; `unknown` are paths between blanks."""
    call = Call(call_id, "desk", tool, {"name": tool, "arguments": arguments}, GRANT)
    return RecordedCall(call, at, fate, rule, tuple(map(parse_path, unknown.split())))


def replayed(*calls: RecordedCall, **document: Any) -> Replay:
    replay = Replay(policy(**document))
    for call in calls:
        replay.judge(call)
    return replay


def test_what_is_judged_as_it_was_is_the_same() -> None:
    found = replayed(was(Fate.ALLOW), was(Fate.DENY, "wipe", "default"), tools={"look": {}})
    assert (found.calls, found.same, found.changes) == (2, 2, [])


def test_calls_that_differ_alike_are_one_line_with_when_and_an_example() -> None:
    first, last = NOON, NOON + MINUTE
    calls = [was(Fate.ALLOW, at=first, call_id="call_1"), was(Fate.ALLOW, at=last, call_id="call_2")]
    found = replayed(*calls, tools={"look": {"action": "hold"}})
    (change,) = found.changes
    assert (change.tool, change.was, change.would_be, change.calls) == ("look", Fate.ALLOW, Fate.HOLD, 2)
    assert (change.was_rule, change.rule) == ("tools.look", "tools.look.action")
    assert (change.first, change.last, change.example) == (first, last, "call_1")
    assert (found.same, dict(found.would_be)) == (0, {Fate.HOLD: 2})


def test_the_same_verdict_by_another_rule_is_told_apart_and_comes_last() -> None:
    other = [was(Fate.HOLD, rule="default")] * 3
    found = replayed(*other, was(Fate.ALLOW, "wipe", "default"), tools={"look": {"action": "hold"}})
    assert [(one.tool, one.was, one.would_be) for one in found.changes] == [
        ("wipe", Fate.ALLOW, Fate.DENY),
        ("look", Fate.HOLD, Fate.HOLD),
    ]
    assert (found.by_another_rule, found.same, found.would_be.total()) == (3, 0, 1)


def test_what_was_not_the_policy_s_doing_has_no_rule_to_differ_by() -> None:
    assert replayed(was(Fate.HOLD, rule=None), tools={"look": {"action": "hold"}}).same == 1


def test_a_limit_is_counted_along_the_past() -> None:
    limits = [{"counter": "looks", "window": "minute", "max": 2}]
    calls = [was(Fate.ALLOW, at=NOON + number * MINUTE / 4) for number in range(6)]
    found = replayed(*calls, tools={"look": {"limits": limits}})
    (change,) = found.changes
    assert (change.would_be, change.rule, change.calls) == (Fate.LIMITED, "tools.look.limits[0]", 3)
    assert (change.first, found.same) == (NOON + MINUTE / 2, 3)


def test_a_limit_that_is_gone_lets_the_calls_pass_that_it_refused() -> None:
    found = replayed(was(Fate.LIMITED, rule="tools.look.limits[0]"), tools={"look": {}})
    assert dict(found.would_be) == {Fate.ALLOW: 1}


def test_a_denied_call_is_charged_to_no_limit() -> None:
    limits = [{"counter": "looks", "window": "minute", "max": 1}]
    tools = {"look": {"limits": limits}, "wipe": {"action": "deny", "limits": limits}}
    found = replayed(was(Fate.DENY, "wipe", "tools.wipe.action"), was(Fate.ALLOW), tools=tools)
    assert found.same == 2


@pytest.mark.parametrize(
    ("entry", "unknown", "missing"),
    [
        ({"deny_if": [NOBODY]}, "args", "args"),
        ({"deny_if": [NOBODY]}, "args.who", "args.who"),
        ({"deny_if": [NOBODY]}, "args.who.name", "args.who.name"),
        ({"deny_if": [NOBODY | {"path": "args.who.name"}]}, "args.who", "args.who"),
        ({"deny_if": [NOBODY]}, "args.whose", None),
        ({"deny_if": [NOBODY | {"path": "session"}]}, "session", "session"),
        ({"deny_if": [NOBODY | {"path": "tool"}]}, "args session", None),
        ({"when": "args.amount > 100"}, "args.card", None),
        ({"when": "args.amount > 100"}, "args.amount", "args.amount"),
        ({"when": "size(args) > 3"}, "args.card", "args.card"),
        ({"when": "session == 's-1'"}, "args session", "session"),
        ({"when": "grant.label == 'ci'"}, "args session", None),
        ({"limits": [{"counter": "spend", "window": "day", "max": 9, "add": "args.amount"}]}, "args", "args"),
        ({}, "args session", None),
        ({"action": "hold"}, "args session", None),
    ],
)
def test_a_call_cannot_be_judged_when_a_rule_looks_at_what_is_not_kept_of_it(
    entry: dict[str, Any], unknown: str, missing: str | None
) -> None:
    found = replayed(was(Fate.ALLOW, unknown=unknown), tools={"look": entry})
    assert (dict(found.unjudged), found.calls) == ({missing: 1} if missing else {}, 1)


def test_a_rule_of_all_tools_looks_at_every_call() -> None:
    found = replayed(was(Fate.ALLOW, unknown="args"), tools={"look": {}}, all_tools={"deny_if": [NOBODY]})
    assert found.unjudged.total() == 1


def test_what_is_refused_whatever_it_carries_is_judged_without_its_arguments() -> None:
    rules = {"deny_if": [NOBODY]}
    tools = {"wipe": {"action": "deny", **rules}, "look": rules}
    wiped, hidden, unlisted = was(Fate.ALLOW, "wipe", unknown="args"), was(Fate.ALLOW, unknown="args"), "press"
    found = replayed(wiped, hidden, was(Fate.ALLOW, unlisted, unknown="args"), tools=tools, hide=["look"])
    assert (dict(found.would_be), found.unjudged.total()) == ({Fate.DENY: 3}, 0)


def test_a_call_of_a_tool_that_only_a_pattern_covers_is_looked_at_by_its_rules() -> None:
    found = replayed(was(Fate.ALLOW, unknown="args"), tools={"l*": {"deny_if": [NOBODY]}})
    assert found.unjudged.total() == 1


def test_with_rules_the_arguments_decide() -> None:
    calls = [was(Fate.ALLOW, who="nobody"), was(Fate.ALLOW, who="alice")]
    found = replayed(*calls, tools={"look": {"deny_if": [NOBODY]}})
    (change,) = found.changes
    assert (change.would_be, change.rule, change.calls, found.same) == (Fate.DENY, "tools.look.deny_if[0]", 1, 1)
