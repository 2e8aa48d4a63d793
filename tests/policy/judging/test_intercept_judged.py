"""Calls judged by documents of the Intercept dialect."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.calls import UNIT, Action, Scope, Verdict
from broker.policy.judging.decide import Policy, compile_policy, decide
from broker.policy.language.intercept import InterceptDocument, rulebook
from tests.policy.calls import call

SHOP = """
version: "1"
description: A shop that an agent keeps
hide: [close_shop]
tools:
  sell:
    rules:
      - name: a small sale
        conditions:
          - {path: args.price.cents, op: lte, value: 20000}
          - {path: args.price.currency, op: in, value: [eur, chf]}
        on_deny: sell for 200.00 at most, in EUR or CHF
      - name: takings of a day
        conditions: [{path: state.sell.takings, op: lt, value: 500001}]
        state: {counter: takings, window: day, increment_from: args.price.cents}
        on_deny: enough for today
  gift:
    rules:
      - {name: a few, rate_limit: 2/hour}
      - name: dear ones are asked for
        action: require_approval
        conditions: [{path: args.cents, op: gt, value: 1000}]
        on_deny: A gift of more than 10.00
        approval_timeout: 20m
  ship:
    rules:
      - name: not to everybody
        conditions:
          - {path: args.customer, op: not_in, value: ["42", blocked]}
          - {path: args.express, op: exists, value: false}
  burn:
    rules: [{name: no fire, action: deny, on_deny: nothing burns here}]
  "*":
    rules:
      - {name: calm, rate_limit: 60/minute}
      - name: never by night
        conditions: [{path: args.night, op: exists, value: false}]
"""


def policy(text: str) -> Policy:
    """The policy that a YAML document of the dialect describes."""
    return compile_policy(
        rulebook(InterceptDocument.model_validate_json(json.dumps(yaml.safe_load(text)))), "shop", "0"
    )


@pytest.fixture(scope="module")
def shop() -> Policy:
    """The policy of the shop."""
    return policy(SHOP)


def said(shop: Policy, tool: str, **arguments: Any) -> Verdict:
    """What the policy says of a call."""
    return decide(shop, call(tool, arguments=arguments))


def sale(cents: Any, currency: Any = "eur") -> dict[str, Any]:
    """The arguments of a sale."""
    return {"price": {"cents": cents, "currency": currency}}


def test_a_call_that_meets_all_conditions_of_all_rules_passes(shop: Policy) -> None:
    assert said(shop, "sell", **sale(20000, "chf")).action is Action.ALLOW


@pytest.mark.parametrize(
    "arguments",
    [
        sale(20001),
        sale(5, "usd"),
        sale("5"),
        sale(None),
        sale(True),
        {"price": {"currency": "eur"}},
        {"price": 5},
        {"price": [{"cents": 5, "currency": "eur"}]},
        {},
    ],
)
def test_a_call_that_does_not_meet_one_condition_is_denied(shop: Policy, arguments: dict[str, Any]) -> None:
    verdict = said(shop, "sell", **arguments)
    assert (verdict.action, verdict.rule) == (Action.DENY, "tools.sell.rules[0]")


def test_a_denied_call_is_told_what_its_rule_says_and_is_charged_nothing(shop: Policy) -> None:
    verdict = said(shop, "sell", **sale(20001))
    assert verdict.reason is not None
    assert "sell for 200.00 at most, in EUR or CHF" in verdict.reason
    assert verdict.charges == ()


def test_a_rule_that_denies_denies_every_call(shop: Policy) -> None:
    verdict = said(shop, "burn")
    assert (verdict.action, verdict.rule) == (Action.DENY, "tools.burn.rules[0]")


def test_a_hidden_tool_is_denied(shop: Policy) -> None:
    assert said(shop, "close_shop").action is Action.DENY


def test_a_call_that_meets_the_conditions_of_an_approval_is_held_with_its_patience(shop: Policy) -> None:
    verdict = said(shop, "gift", cents=1001)
    assert (verdict.action, verdict.rule, verdict.reason) == (
        Action.HOLD,
        "tools.gift.rules[1]",
        "A gift of more than 10.00",
    )
    assert verdict.requirement.timeout == timedelta(minutes=20)


@pytest.mark.parametrize("arguments", [{"cents": 1000}, {}])
def test_a_call_that_does_not_meet_them_is_not_held(shop: Policy, arguments: dict[str, Any]) -> None:
    assert said(shop, "gift", **arguments).action is Action.ALLOW


def test_what_an_approval_cannot_compare_is_denied(shop: Policy) -> None:
    assert said(shop, "gift", cents="1001").action is Action.DENY


def test_an_approval_without_conditions_holds_every_call() -> None:
    asks = policy('{version: "1", tools: {pay: {rules: [{name: ask, action: require_approval}]}}}')
    assert [said(asks, "pay").action, said(asks, "look").action] == [Action.HOLD, Action.ALLOW]


def test_an_approval_for_what_is_left_out_holds_null_too() -> None:
    asks = policy(
        '{version: "1", tools: {pay: {rules: [{name: say why, action: require_approval, '
        "conditions: [{path: args.why, op: exists, value: false}]}]}}}"
    )
    actions = [said(asks, "pay", **arguments).action for arguments in ({}, {"why": None}, {"why": "rent"})]
    assert actions == [Action.HOLD, Action.HOLD, Action.ALLOW]


@pytest.mark.parametrize("customer", ["42", 42, 42.0, "blocked"])
def test_a_denied_value_cannot_be_slipped_in_as_another_type(shop: Policy, customer: Any) -> None:
    assert said(shop, "ship", customer=customer).action is Action.DENY


def test_what_is_left_out_is_not_taken_to_differ(shop: Policy) -> None:
    assert said(shop, "ship").action is Action.DENY


@pytest.mark.parametrize(("express", "action"), [(None, Action.ALLOW), (False, Action.DENY), (True, Action.DENY)])
def test_what_must_be_left_out_may_be_null(shop: Policy, express: Any, action: Action) -> None:
    assert said(shop, "ship", customer="7", express=express).action is action


@pytest.mark.parametrize("tool", ["sell", "unheard_of"])
def test_the_rules_of_every_tool_hold_for_listed_and_unlisted_ones(shop: Policy, tool: str) -> None:
    verdict = said(shop, tool, night=True, **sale(5))
    assert (verdict.action, verdict.rule) == (Action.DENY, 'tools["*"].rules[1]')


def test_a_call_is_charged_to_its_tools_counters_and_then_to_that_of_every_tool(shop: Policy) -> None:
    takings, every = said(shop, "sell", **sale(19_999)).charges
    assert (takings.counter, takings.amount, takings.max, takings.window) == (
        "sell.takings",
        19_999 * UNIT,
        500_000,
        timedelta(days=1),
    )
    assert (every.counter, every.amount, every.max, every.window) == (
        "_global._rate_minute",
        UNIT,
        60,
        timedelta(minutes=1),
    )
    assert all(
        (charge.scope, charge.scope_value, charge.calendar, charge.refund) == (Scope.UPSTREAM, "desk", True, True)
        for charge in (takings, every)
    )


def test_a_held_call_is_charged_too(shop: Policy) -> None:
    assert [charge.counter for charge in said(shop, "gift", cents=5000).charges] == [
        "gift._rate_hour",
        "_global._rate_minute",
    ]


def test_a_sum_whose_number_is_missing_denies() -> None:
    spends = policy(
        '{version: "1", tools: {pay: {rules: [{name: budget, conditions: [{path: state.pay.sum, op: lte, value: 9}], '
        "state: {counter: sum, window: day, increment_from: args.n}}]}}}"
    )
    actions = [said(spends, "pay", **arguments).action for arguments in ({"n": 3}, {}, {"n": "3"}, {"n": -3})]
    assert actions == [Action.ALLOW, Action.DENY, Action.DENY, Action.DENY]


def test_a_call_that_only_looks_at_a_counter_adds_nothing_to_it() -> None:
    looks = policy(
        '{version: "1", tools: {pay: {rules: [{name: few, rate_limit: 5/hour}]}, '
        "quote: {rules: [{name: while any are left, conditions: [{path: state.pay._rate_hour, op: lt, value: 5}]}]}}}"
    )
    (charge,) = said(looks, "quote").charges
    assert (charge.counter, charge.amount, charge.max) == ("pay._rate_hour", 0, 4)


def test_a_broken_pattern_is_a_mistake_of_the_document() -> None:
    with pytest.raises(ValueError, match=r"tools\.pay\.rules\[0\]"):
        policy(
            '{version: "1", tools: {pay: {rules: [{name: x, conditions: [{path: args.a, op: regex, value: "("}]}]}}}'
        )


# Against the engine that the dialect comes from, as its source has it.

SCALARS = st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["", "a", "ab", "1", "-2", "true", "false"])
THINGS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.fixed_dictionaries({"x": inner}))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("eq", "neq", "contains"), SCALARS),
    **dict.fromkeys(("in", "not_in"), st.lists(SCALARS, max_size=3)),
    **dict.fromkeys(("lt", "lte", "gt", "gte"), st.integers(-2, 3) | st.sampled_from([0.5, 2.0])),
    "regex": st.sampled_from(["a", "^a$", "", "[0-9]"]),
    "exists": st.booleans(),
}
CONDITIONS = st.sampled_from(["args.x", "args.x.x", "args.y"]).flatmap(
    lambda path: st.sampled_from(list(VALUES)).flatmap(
        lambda op: st.fixed_dictionaries({"path": st.just(path), "op": st.just(op), "value": VALUES[op]})
    )
)
ARGUMENTS = st.fixed_dictionaries({}, optional={"x": THINGS, "y": THINGS})
NOTHING = object()


def text(value: Any) -> str:
    """A scalar as that engine prints it."""
    return "<nil>" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def number(value: Any) -> bool:
    """Whether that engine compares it as a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(found: Any, value: Any) -> bool:
    """Whether that engine takes what it found to equal a condition's value."""
    return found == value if number(found) and number(value) else text(found) == text(value)


ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "lt": lambda found, value: found < value,
    "lte": lambda found, value: found <= value,
    "gt": lambda found, value: found > value,
    "gte": lambda found, value: found >= value,
}


def reached(found: Any, names: list[str]) -> Any:
    """What that engine finds: names lead into objects only."""
    for name in names:
        found = cast("dict[str, Any]", found).get(name, NOTHING) if isinstance(found, dict) else NOTHING
    return found


def holds(condition: dict[str, Any], arguments: Any) -> bool:
    """Whether a condition holds in that engine."""
    op, value = condition["op"], condition["value"]
    found = reached(arguments, condition["path"].split(".")[1:])
    if op == "exists":
        return (found is not NOTHING and found is not None) == value
    if found is NOTHING:
        return False
    if op in ("eq", "neq"):
        return same(found, value) == (op == "eq")
    if op in ("in", "not_in"):
        return any(same(found, each) for each in value) == (op == "in")
    if op in ORDERS:
        return number(found) and ORDERS[op](found, value)
    if op == "regex":
        return isinstance(found, str) and re.search(value, found) is not None
    if isinstance(found, str):
        return isinstance(value, str) and value in found
    return isinstance(found, list) and any(same(each, value) for each in cast("list[Any]", found))


@given(st.lists(st.lists(CONDITIONS, min_size=1, max_size=3), min_size=1, max_size=3), ARGUMENTS)
def test_no_call_passes_that_intercept_denies(rules: list[list[dict[str, Any]]], arguments: dict[str, Any]) -> None:
    terms = [{"name": "guard", "conditions": conditions} for conditions in rules]
    verdict = said(policy(json.dumps({"version": "1", "tools": {"t": {"rules": terms}}})), "t", **arguments)
    passes = all(holds(condition, arguments) for conditions in rules for condition in conditions)
    assert verdict.action is Action.DENY or passes


@given(st.lists(CONDITIONS, max_size=3), ARGUMENTS)
def test_no_call_passes_that_intercept_asks_for(conditions: list[dict[str, Any]], arguments: dict[str, Any]) -> None:
    terms = {"name": "ask", "action": "require_approval", "conditions": conditions}
    verdict = said(policy(json.dumps({"version": "1", "tools": {"t": {"rules": [terms]}}})), "t", **arguments)
    asked = all(holds(condition, arguments) for condition in conditions)
    assert verdict.action is not Action.ALLOW or not asked


@given(st.lists(CONDITIONS.filter(lambda each: each["op"] != "contains"), min_size=1, max_size=3), ARGUMENTS)
def test_a_call_passes_that_intercept_lets_pass(conditions: list[dict[str, Any]], arguments: dict[str, Any]) -> None:
    terms = {"name": "guard", "conditions": conditions}
    verdict = said(policy(json.dumps({"version": "1", "tools": {"t": {"rules": [terms]}}})), "t", **arguments)
    passes = all(holds(condition, arguments) for condition in conditions)
    assert verdict.action is Action.ALLOW or not passes
