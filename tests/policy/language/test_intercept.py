"""What a document of the Intercept dialect means in the policy's one model, and how its mistakes are told."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from broker.domain.calls import Action, Scope
from broker.domain.paths import parse_path, written
from broker.policy.judging.decide import compile_policy, decide
from broker.policy.language.intercept import InterceptDocument, rulebook
from broker.policy.language.intercept_values import MOST
from broker.policy.model import Condition, Limit, Operator, Rule, Rulebook, Unfit
from tests.policy.calls import call

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def book(**document: Any) -> Rulebook:
    """What a document, given as keywords, means; the version goes without saying."""
    return rulebook(InterceptDocument.model_validate_json(json.dumps({"version": "1"} | document)))


def rule(**terms: Any) -> dict[str, Any]:
    """One rule; its name goes without saying."""
    return {"name": "guard"} | terms


def of_tool(*rules: dict[str, Any], tool: str = "pay", **document: Any) -> Rulebook:
    """What a document means that says only this of one tool."""
    return book(tools={tool: {"rules": list(rules)}}, **document)


def check(path: str, op: str, value: Any) -> dict[str, Any]:
    """A condition as it is written."""
    return {"path": path, "op": op, "value": value}


def compared(path: str, op: Operator, value: Any) -> Condition:
    """A condition of the model."""
    return Condition(parse_path(path), op, value)


def mistakes(*rules: dict[str, Any]) -> list[str]:
    """Each mistake of a document that says only this of one tool, with its place."""
    return whole(tools={"pay": {"rules": list(rules)}})


def whole(**document: Any) -> list[str]:
    """Each mistake of a document, with its place, whether its shape or its meaning shows it."""
    try:
        book(**document)
    except ValidationError as error:
        return [f"{written(*each['loc'])}: {each['msg']}" for each in error.errors()]
    except Unfit as unfit:
        return [f"{each.at}: {each.message}" for each in unfit.mistakes]
    return []


# Who is let through without a rule.


@pytest.mark.parametrize("document", [{}, {"default": "allow"}])
def test_a_tool_that_is_not_listed_passes_unless_the_default_says_otherwise(document: dict[str, Any]) -> None:
    policy = compile_policy(book(**document), "test", "0")
    assert decide(policy, call("anything")).action is Action.ALLOW


def test_a_listed_tool_without_rules_passes_under_deny_and_an_unlisted_one_does_not() -> None:
    policy = compile_policy(book(default="deny", tools={"read": {}, "look": {"rules": []}}), "test", "0")
    assert [decide(policy, call(tool)).action for tool in ("read", "look", "write")] == ["allow", "allow", "deny"]


def test_the_rules_of_every_tool_never_rescue_an_unlisted_one() -> None:
    tools: dict[str, Any] = {"read": {"rules": []}, "*": {"rules": [rule(conditions=[check("args.ok", "eq", "yes")])]}}
    policy = compile_policy(book(default="deny", tools=tools), "test", "0")
    assert [decide(policy, call(tool, arguments={"ok": "yes"})).action for tool in ("write", "*")] == ["deny", "deny"]


def test_a_hidden_tool_is_hidden_by_its_exact_name_or_with_all_others() -> None:
    some, every = (compile_policy(book(hide=names), "test", "0") for names in (["drop"], ["*"]))
    assert [some.hides(tool) for tool in ("drop", "drop_all")] == [True, False]
    assert every.hides("anything")


# Rules.


def test_a_rule_denies_what_does_not_meet_all_its_conditions() -> None:
    made = of_tool(
        rule(conditions=[check("args.amount", "lte", 500), check("args.to.iban", "regex", "^DE")], on_deny="too much")
    )
    tests = (compared("args.amount", Operator.LTE, 500), compared("args.to.iban", Operator.REGEX, "^DE"))
    assert made.entries["pay"].rules == (Rule("tools.pay.rules[0]", Action.DENY, tests, True, "too much"),)


def test_a_rule_without_a_message_denies_with_its_name() -> None:
    made = of_tool(rule(name="small sums", conditions=[check("args.amount", "lt", 5)]))
    assert made.entries["pay"].rules[0].message == 'the rule "small sums" denies this call'


def test_a_rule_that_denies_always_applies() -> None:
    made = of_tool(rule(action="deny", on_deny="never"))
    assert made.entries["pay"].rules == (Rule("tools.pay.rules[0]", Action.DENY, (), False, "never"),)


def test_an_approval_is_asked_for_when_all_conditions_are_met() -> None:
    made = of_tool(rule(action="require_approval", conditions=[check("args.amount", "gt", 500)], on_deny="a lot"))
    tests = (compared("args.amount", Operator.GT, 500),)
    assert made.entries["pay"].rules == (Rule("tools.pay.rules[0]", Action.HOLD, tests, False, "a lot"),)


def test_an_approval_without_conditions_is_asked_for_every_call() -> None:
    made = of_tool(rule(action="require_approval"))
    assert made.entries["pay"].rules == (
        Rule("tools.pay.rules[0]", Action.HOLD, (), False, 'The rule "guard" holds this call.'),
    )


def test_the_shortest_patience_of_the_rules_that_may_hold_a_call_is_kept() -> None:
    long, short = (rule(action="require_approval", approval_timeout=time) for time in ("30m", "10m"))
    made = book(tools={"pay": {"rules": [long]}, "*": {"rules": [short]}, "look": {}})
    patience = [made.entries[tool].requirement.timeout for tool in ("pay", "look")]
    assert patience == [timedelta(minutes=10)] * 2


def test_the_rules_of_every_tool_come_after_those_of_the_tool_and_hold_for_unlisted_ones() -> None:
    own, every = rule(name="own", action="deny"), rule(name="every", action="deny")
    made = book(tools={"*": {"rules": [every]}, "pay": {"rules": [own]}})
    assert [said.at for said in made.entries["pay"].rules] == ["tools.pay.rules[0]", 'tools["*"].rules[0]']
    assert [said.at for said in made.unlisted.rules] == ['tools["*"].rules[0]']
    assert set(made.entries) == {"pay"}


# Conditions, where the dialect compares in its own way.


@pytest.mark.parametrize(("op", "value"), [("neq", "draft"), ("not_in", ["draft"])])
def test_what_is_missing_does_not_differ_from_anything(op: str, value: Any) -> None:
    made = of_tool(rule(conditions=[check("args.state", op, value)]))
    assert made.entries["pay"].rules[0].tests == (
        compared("args.state", Operator.EXISTS, True),
        compared("args.state", Operator.NOT_IN, ["draft"]),
    )


@pytest.mark.parametrize(
    ("value", "twins"),
    [
        (42, [42, "42"]),
        ("42", ["42", 42]),
        ("-0.5", ["-0.5", -0.5]),
        (2.0, [2.0, "2"]),
        (True, [True, "true"]),
        ("false", ["false", False]),
        ("042", ["042"]),
        ("usd", ["usd"]),
        (None, [None]),
        ([1], [[1]]),
    ],
)
def test_a_number_or_a_truth_equals_its_own_text(value: Any, twins: list[Any]) -> None:
    made = of_tool(rule(conditions=[check("args.x", "eq", value)]))
    assert repr(made.entries["pay"].rules[0].tests) == repr((compared("args.x", Operator.IN, twins),))


def test_what_must_exist_must_not_be_null() -> None:
    made = of_tool(rule(conditions=[check("args.why", "exists", True)]))
    assert made.entries["pay"].rules[0].tests == (
        compared("args.why", Operator.EXISTS, True),
        compared("args.why", Operator.NEQ, None),
    )


def test_what_must_not_exist_may_be_null() -> None:
    made = of_tool(rule(conditions=[check("args.force", "exists", False), check("args.n", "lt", 3)]))
    there = (compared("args.force", Operator.EXISTS, True), compared("args.force", Operator.NEQ, None))
    assert [(said.tests, said.unless) for said in made.entries["pay"].rules] == [
        ((compared("args.n", Operator.LT, 3),), True),
        (there, False),
    ]


def test_an_approval_for_what_does_not_exist_is_asked_for_null_too() -> None:
    conditions = [check("args.n", "gt", 3), check("args.why", "exists", False)]
    made = of_tool(rule(action="require_approval", conditions=conditions))
    assert [said.tests for said in made.entries["pay"].rules] == [
        (compared("args.n", Operator.GT, 3), compared("args.why", Operator.EXISTS, False)),
        (compared("args.n", Operator.GT, 3), compared("args.why", Operator.EQ, None)),
    ]


def test_a_path_is_names_parted_by_dots_and_a_number_in_it_is_a_name() -> None:
    made = of_tool(rule(conditions=[check("args.a b.0.c-d", "lt", 3)]))
    assert made.entries["pay"].rules[0].tests[0] == compared('args["a b"]["0"].c-d', Operator.LT, 3)


# Counters.


def limit(at: str, counter: str, window: timedelta, most: int, **others: Any) -> Limit:
    """A limit as the dialect means it: for all callers together, by the calendar, given back after an error."""
    return Limit(at, counter, Scope.UPSTREAM, window, most, calendar=True, refund=True, **others)


def test_a_rate_limit_counts_the_calls_of_its_tool_in_the_calendars_unit() -> None:
    made = of_tool(rule(rate_limit="5/hour", on_deny="slow down"), rule(rate_limit="60/day"))
    assert made.entries["pay"].limits == (
        limit("tools.pay.rules[0]", "pay._rate_hour", HOUR, 5, message="slow down"),
        limit("tools.pay.rules[1]", "pay._rate_day", DAY, 60),
    )
    assert made.entries["pay"].rules == ()


def test_a_rate_limit_of_every_tool_counts_them_together_listed_or_not() -> None:
    made = book(tools={"*": {"rules": [rule(rate_limit="60/minute")]}, "pay": {"rules": [rule(rate_limit="3/minute")]}})
    together = limit('tools["*"].rules[0]', "_global._rate_minute", MINUTE, 60)
    assert made.unlisted.limits == (together,)
    assert made.entries["pay"].limits == (limit("tools.pay.rules[0]", "pay._rate_minute", MINUTE, 3), together)


@pytest.mark.parametrize(("op", "most"), [("lte", 10), ("lt", 9)])
def test_a_counter_is_compared_as_the_call_would_leave_it(op: str, most: int) -> None:
    state = {"counter": "refunds", "window": "day"}
    made = of_tool(rule(conditions=[check("state.pay.refunds", op, 10)], state=state))
    assert made.entries["pay"].limits == (limit("tools.pay.rules[0]", "pay.refunds", DAY, most),)


def test_a_call_adds_a_fixed_number_or_what_an_argument_says() -> None:
    spend = {"counter": "spend", "window": "day", "increment_from": "args.charge.amount"}
    weight = {"counter": "weight", "window": "minute", "increment": 5}
    made = of_tool(
        rule(conditions=[check("state.pay.spend", "lte", 1000000.0)], state=spend),
        rule(conditions=[check("state.pay.weight", "lte", 100)], state=weight),
    )
    assert made.entries["pay"].limits == (
        limit("tools.pay.rules[0]", "pay.spend", DAY, 1000000, add=parse_path("args.charge.amount")),
        limit("tools.pay.rules[1]", "pay.weight", MINUTE, 100, add=5),
    )


def test_a_rule_that_looks_at_an_argument_and_a_counter_does_both() -> None:
    state = {"counter": "n", "window": "day"}
    made = of_tool(rule(conditions=[check("args.amount", "lt", 5), check("state.pay.n", "lte", 2)], state=state))
    entry = made.entries["pay"]
    assert ([len(said.tests) for said in entry.rules], [said.max for said in entry.limits]) == ([1], [2])


def test_of_two_comparisons_of_one_counter_the_stricter_counts() -> None:
    state = {"counter": "n", "window": "day"}
    made = of_tool(rule(conditions=[check("state.pay.n", "lte", 9), check("state.pay.n", "lt", 5)], state=state))
    assert [said.max for said in made.entries["pay"].limits] == [4]


def test_a_rule_may_look_at_the_counter_of_another_tool_without_adding_to_it() -> None:
    made = book(
        tools={
            "pay": {"rules": [rule(rate_limit="5/hour")]},
            "quote": {"rules": [rule(conditions=[check("state.pay._rate_hour", "lt", 5)])]},
        }
    )
    assert made.entries["quote"].limits == (limit("tools.quote.rules[0]", "pay._rate_hour", HOUR, 4, add=0),)


def test_a_rule_beside_the_one_that_counts_compares_what_the_call_finds() -> None:
    looks = rule(conditions=[check("state.pay._rate_hour", "lte", 3), check("state._global._rate_day", "lt", 9)])
    made = book(
        tools={"pay": {"rules": [looks, rule(rate_limit="5/hour")]}, "*": {"rules": [rule(rate_limit="8/day")]}}
    )
    assert made.entries["pay"].limits == (
        limit("tools.pay.rules[0]", "pay._rate_hour", HOUR, 3, add=0),
        limit("tools.pay.rules[0]", "_global._rate_day", DAY, 8, add=0),
        limit("tools.pay.rules[1]", "pay._rate_hour", HOUR, 5),
        limit('tools["*"].rules[0]', "_global._rate_day", DAY, 8),
    )


def test_the_counter_of_a_tool_whose_name_has_a_dot_is_its_own() -> None:
    state = {"counter": "n", "window": "day"}
    made = of_tool(rule(conditions=[check("state.files.read.n", "lte", 2)], state=state), tool="files.read")
    assert made.entries["files.read"].limits == (limit('tools["files.read"].rules[0]', "files.read.n", DAY, 2),)


# Mistakes.

STATE = {"counter": "n", "window": "day"}


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ({}, ": has nothing to check"),
        ({"conditions": []}, ": has nothing to check"),
        ({"action": "deny", "conditions": [check("args.a", "eq", 1)]}, ": deny takes no conditions"),
        ({"action": "deny", "rate_limit": "5/hour"}, ": deny counts nothing"),
        ({"action": "deny", "state": STATE}, ": deny counts nothing"),
        ({"action": "deny", "approval_timeout": "5m"}, ": approval_timeout needs action require_approval"),
        ({"rate_limit": "5/hour", "approval_timeout": "5m"}, ": approval_timeout needs action require_approval"),
        ({"action": "require_approval", "rate_limit": "5/hour"}, ": require_approval counts nothing"),
        (
            {"action": "require_approval", "conditions": [check("state.pay.n", "lte", 5)]},
            ": require_approval counts nothing",
        ),
        (
            {"action": "require_approval", "conditions": [check(f"args.a{n}", "exists", False) for n in range(5)]},
            ": require_approval takes at most 4 conditions with exists: false",
        ),
        ({"action": "log"}, ".action: Input should be 'evaluate', 'deny' or 'require_approval'"),
        ({"rate_limit": "5/hour", "conditions": [check("args.a", "eq", 1)]}, ": rate_limit stands for conditions"),
        ({"rate_limit": "5/hour", "state": STATE}, ": rate_limit stands for conditions"),
        ({"rate_limit": "5/week"}, ".rate_limit: expected a whole number"),
        ({"rate_limit": "0/day"}, ".rate_limit: expected a whole number"),
        ({"rate_limit": "9999999999/day"}, ".rate_limit: expected a whole number"),
        ({"rate_limit": 5}, ".rate_limit: expected a whole number"),
        ({"state": {"counter": "n", "window": 60}}, ".state.window: expected minute, hour or day"),
        ({"state": {"counter": "a b", "window": "day"}}, ".state.counter: expected one word"),
        ({"state": STATE | {"increment": 0}}, ".state.increment: expected a whole number from 1"),
        ({"state": STATE | {"increment_from": "amount"}}, ".state.increment_from: expected a path of names"),
        ({"state": STATE | {"increment": 2, "increment_from": "args.a"}}, ".state: has both increment and"),
        ({"name": ""}, ".name: String should have at least 1 character"),
        ({"on_deni": "no"}, ".on_deni: Extra inputs are not permitted"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_where_it_stands(terms: dict[str, Any], told: str) -> None:
    assert any(said.startswith(f"tools.pay.rules[0]{told}") for said in mistakes(rule(**terms)))


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        (check("amount", "lt", 5), ".path: expected a path of names parted by dots"),
        (check("args", "lt", 5), ".path: expected a path of names parted by dots"),
        (check("args..a", "lt", 5), ".path: expected a path of names parted by dots"),
        (check("args.items[0].price", "lt", 5), ".path: expected a path of names parted by dots"),
        (check("args.items.*.price", "lt", 5), ".path: expected a path of names parted by dots"),
        (check("state.n", "lt", 5), ".path: expected a path of names parted by dots"),
        (check("state.*.n", "lt", 5), ".path: expected a path of names parted by dots"),
        (check("args.a", "like", 5), ".op: Input should be 'eq'"),
        (check("args.a", "lt", "5"), ": lt needs a number as its value"),
        (check("args.a", "gte", True), ": gte needs a number as its value"),
        (check("args.a", "in", "usd"), ": in needs a list as its value"),
        (check("args.a", "exists", "true"), ": exists needs true or false as its value"),
        (check("args.a", "regex", 5), ": regex needs a text as its value"),
        (check("state.pay.n", "gt", 5), ": a counter is compared with lt or lte, not with gt"),
        (check("state.pay.n", "exists", True), ": a counter is compared with lt or lte, not with exists"),
        (check("state.pay.n", "lte", "5"), ": lte on a counter needs a whole number"),
        (check("state.pay.n", "lte", 5.5), ": lte on a counter needs a whole number"),
        (check("state.pay.n", "lte", 10**400), ": lte on a counter needs a whole number"),
        (check("state.pay.n", "lt", 1), ": lt on a counter needs a whole number"),
    ],
)
def test_a_condition_that_cannot_be_meant_is_refused_where_it_stands(condition: dict[str, Any], told: str) -> None:
    said = mistakes(rule(conditions=[condition], state=STATE))
    assert len(said) == 1
    assert said[0].startswith(f"tools.pay.rules[0].conditions[0]{told}")


@pytest.mark.parametrize(("largest", "mistaken"), [(MOST, 0), (MOST + 1, 3)])
def test_no_number_of_a_limit_is_larger_than_a_count_of_the_brokers_own_language(largest: int, mistaken: int) -> None:
    state = STATE | {"increment": largest}
    said = mistakes(
        rule(rate_limit=f"{largest}/day"), rule(conditions=[check("state.pay.n", "lte", largest)], state=state)
    )
    assert len(said) == mistaken


def test_a_counter_that_nothing_compares_is_refused() -> None:
    (said,) = mistakes(rule(conditions=[check("args.a", "lt", 5)], state=STATE))
    assert said.startswith("tools.pay.rules[0].state: counts what no condition of this rule compares")
    assert "add a condition on state.pay.n with lt or lte" in said


def test_a_comparison_with_a_counter_that_nothing_counts_is_refused() -> None:
    (said,) = mistakes(rule(conditions=[check("state.pay.m", "lt", 5)]))
    assert said.startswith("tools.pay.rules[0].conditions[0]: no rule counts state.pay.m: add a state block")


def test_two_rules_of_a_tool_do_not_count_the_same() -> None:
    counting = rule(conditions=[check("state.pay.n", "lte", 5)], state=STATE)
    first, second = mistakes(counting, counting, rule(rate_limit="1/day"), rule(rate_limit="2/day"))
    assert first.startswith("tools.pay.rules[1]: counts pay.n, as tools.pay.rules[0] does: give one of them another")
    assert second.startswith("tools.pay.rules[3]: counts pay._rate_day, as tools.pay.rules[2] does")


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"default": "hold"}, "default: Input should be 'allow' or 'deny'"),
        ({"hide": ["drop", "drop"]}, "hide: names drop twice"),
        ({"hide": ["drop_*"]}, "hide[0]: expected the exact name of a tool, or * alone"),
        ({"hide": [" "]}, "hide[0]: expected the exact name of a tool, or * alone"),
        ({"tools": {"drop_*": {}}}, 'tools["drop_*"]["[key]"]: expected the exact name of a tool, or * alone'),
        ({"tools": {"drop": {"limits": []}}}, "tools.drop.limits: Extra inputs are not permitted"),
        ({"version": "2"}, "version: Input should be '1'"),
        ({"tools": {"drop": None}}, "tools.drop: Input should be"),
        ({"description": None}, "description: has no value"),
    ],
)
def test_a_document_that_cannot_be_meant_is_refused_where_it_stands(document: dict[str, Any], told: str) -> None:
    assert [said[: len(told)] for said in whole(**document)] == [told]


def test_every_mistake_is_told_at_once() -> None:
    assert len(mistakes(rule(rate_limit="x"), rule(action="deny", state=STATE), rule(conditions=[{"path": "a"}]))) == 5
