"""The explanation of a verdict: every rule that was looked at, and nothing that is redacted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.calls import Action, Said, Step
from broker.domain.paths import parse_path
from broker.policy.facts import glimpse
from broker.policy.judging.decide import decide, explain
from broker.policy.model import Expression, Rule
from tests.policy.calls import call, policy
from tests.policy.rulebooks import compiled, condition, timed

SECRET = "hunter2-hunter2"


def test_every_rule_is_a_step_in_order_with_what_it_saw_and_said() -> None:
    stated = policy(
        hide=["wipe"],
        tools={
            "pay": {
                "require": [{"path": "args.to", "op": "exists", "value": True}],
                "deny_if": [{"path": "args.amount", "op": "gt", "value": 1000, "message": "too much"}],
                "approve_if": [{"path": "args.mode", "op": "eq", "value": "live"}],
                "when": "args.amount > 100",
                "limits": [{"counter": "c", "window": "minute", "max": 10}],
            }
        },
    )
    verdict = decide(stated, call("pay", arguments={"amount": 2000, "to": "bob", "mode": "live"}))
    assert (verdict.action, verdict.rule, verdict.reason) == (Action.DENY, "tools.pay.deny_if[0]", "too much")
    assert [step for step in verdict.steps if step.rule != "tools.pay.when"] == [
        Step("hide", Said.NOTHING),
        Step("tools.pay", Said.ALLOWS),
        Step("tools.pay.deny_if[0]", Said.DENIES, "args.amount = 2000", "too much"),
        Step("tools.pay.require[0]", Said.MET, 'args.to = "bob"'),
        Step(
            "tools.pay.approve_if[0]",
            Said.HOLDS,
            'args.mode = "live"',
            "A rule of the policy holds this call because of args.mode.",
        ),
    ]  # and it counts for no limit
    [said] = [step.said for step in verdict.steps if step.rule == "tools.pay.when"]
    assert said is Said.HOLDS


def test_an_allowed_call_is_explained_only_when_that_is_asked() -> None:
    stated = policy(tools={"look": {"deny_if": [{"path": "args.x", "op": "exists", "value": True}]}})
    assert decide(stated, call("look")).steps == ()
    assert explain(stated, call("look")).steps == (
        Step("tools.look", Said.ALLOWS),
        Step("tools.look.deny_if[0]", Said.NOTHING, "args.x is missing"),
    )


def test_hidden_unlisted_and_denied_tools_have_a_step_that_says_so() -> None:
    stated = policy(hide=["wipe"], tools={"type": {"action": "deny"}})
    for tool, rule in [("wipe", "hide"), ("look", "default"), ("type", "tools.type.action")]:
        verdict = decide(stated, call(tool))
        last = verdict.steps[-1]
        assert (last.rule, last.said, last.why) == (rule, Said.DENIES, verdict.reason)
        assert verdict.rule == rule


@pytest.mark.parametrize(
    "redacted", ["args.password", "args.login", "args.login.password", "args.login.*", "args.l[*].p"]
)
def test_no_step_or_reason_shows_what_is_redacted(redacted: str) -> None:
    login = {"password": SECRET, "user": SECRET}
    secret: dict[str, Any] = {"password": SECRET, "login": login, "l": [{"p": SECRET}]}
    shown = parse_path(redacted).steps[1]
    arguments = {shown: secret[str(shown)], "plain": 1}
    paths = ["args", "args.password", "args.login", "args.login.password", "args.l", "args.l[0]", "args.l[0].p"]
    tests = [condition(path, op, value) for path in paths for op, value in [("regex", "x"), ("gt", 1), ("eq", 1)]]
    expressions = [
        *("args.password == 1", "args['password'] > 1", "args.login.password.matches('x')", "args.login == 1"),
        *("args[args.password] == 1", "args[args.login.password] == 1", "int(args.password) > 1", "args.password"),
        *("args.l.exists(x, x.p > 1)", "args.l[0].p == args.l[0].p", "duration(args.password) == duration('1s')"),
        *("timestamp(args.login.password) > timestamp('x')", "args.all(k, args[k] == 1)"),
    ]
    for test in [*tests, *map(Expression, expressions)]:
        for unless in (True, False):
            stated = compiled(Rule("tools.t.rule", Action.DENY, (test,), unless), redact=(redacted,))
            assert SECRET not in repr(explain(stated, call("t", arguments=arguments)))
            assert SECRET not in repr(decide(stated, call("t", arguments=arguments)))


def test_what_is_not_redacted_is_shown() -> None:
    stated = compiled(
        Rule("r", Action.DENY, (condition("args.user", "exists", True), condition("args.password", "exists", True))),
        redact=("args.password",),
    )
    [_, step] = decide(stated, call("t", arguments={"user": "bob", "password": SECRET})).steps
    assert step.saw == 'args.user = "bob", args.password = [redacted]'


def test_every_verdict_says_what_is_redacted() -> None:
    stated = policy(hide=["wipe"], redact=["args.password"], tools={"look": {}, "type": {"action": "hold"}})
    for tool in ("wipe", "look", "type", "unlisted"):
        assert decide(stated, call(tool)).redact == (parse_path("args.password"),)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(json_values)
def test_a_glimpse_is_short_and_can_be_stored(value: Any) -> None:
    seen = glimpse(value)
    assert 0 < len(seen.encode()) <= 500
    assert len(seen) <= 80


def test_a_glimpse_of_anything_is_quick() -> None:
    many: list[Any] = ["\ud800", 10**100_000, ["x" * 4_000_000] * 3, {"\udfff" * 100_000: 1}, list(range(200_000))]
    for value in (*many, json.loads("[" * 100 + "]" * 100)):
        assert len(timed(lambda value=value: glimpse(value)).encode()) <= 500


def test_a_glimpse_is_the_beginning_of_the_json() -> None:
    assert glimpse({"a": [1, 2.5, None, True], "b": "é\n"}) == '{"a": [1, 2.5, null, true], "b": "é\\n"}'
    assert glimpse("x" * 200) == '"' + "x" * 78 + "…"
