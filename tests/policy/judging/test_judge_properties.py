"""What holds of every policy and every call."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from broker.domain.calls import Action, Call, Said, Scope
from broker.domain.paths import Path, parse_path
from broker.policy.judging.decide import Policy, compile_policy, decide, explain
from broker.policy.model import Condition, Entry, Expression, Limit, Operator, Rule, Rulebook, Unfit
from tests.policy.calls import GRANT, call
from tests.policy.rulebooks import compiled, condition, denying, quickly

SEVERITY = [Action.DENY, Action.HOLD, Action.ALLOW]
NAMES = ["look", "click", "type", "key_up", "key_down"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["a", 1, 2**64, "\ud800"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abx") | st.text(), inner, max_size=4),
    max_leaves=8,
)
plain_values = st.sampled_from([0, 1, 2.5, -1, "a", "x", "3", True, None, ["a", 1], {"x": 1}])
members = ["a", "b", "amount"]
# Mostly what rules are written for, or a rule ends in an error nearly always and little but denials is compared.
arguments = st.one_of(
    *[st.fixed_dictionaries(dict.fromkeys(members, plain_values) | {"amount": st.integers(0, 3)})] * 4,
    st.dictionaries(st.sampled_from(members), json_values, max_size=3),
    json_values,
)
paths = st.sampled_from(
    [
        "args.a",
        "args.b",
        "args.amount",
        "args.amount",
        "args.a[0]",
        "args.a.x",
        "args",
        "tool",
        "grant.label",
        "session",
        "grant",
    ]
).map(parse_path)
values: dict[Operator, st.SearchStrategy[Any]] = {
    **{op: st.integers(-3, 3) | st.floats(-3, 3) for op in (Operator.LT, Operator.LTE, Operator.GT, Operator.GTE)},
    **{op: st.lists(plain_values | json_values, max_size=3) for op in (Operator.IN, Operator.NOT_IN)},
    Operator.REGEX: st.sampled_from(["a", "^$", r"\d+", "(?i)x|y"]),
    Operator.EXISTS: st.booleans(),
}
conditions = st.sampled_from(Operator).flatmap(
    lambda op: st.builds(Condition, paths, st.just(op), values.get(op, plain_values | json_values))
)
expressions = st.sampled_from(
    [
        *(
            "args.a > 1",
            "args.b.matches('a')",
            "args.a == args.b",
            "has(args.x)",
            "grant.label == 'ci agent'",
            "args.a",
        ),
        *("args.a.exists(x, x == 'a')", "session == 's'", "args.b.size() > 1 || tool == 'look'", "args.amount < 2.0"),
    ]
).map(Expression)
rules = st.builds(
    Rule,
    st.sampled_from(["r[0]", "r[1]"]),
    st.sampled_from([Action.DENY, Action.HOLD]),
    st.lists(conditions | expressions, min_size=1, max_size=2).map(tuple),
    st.booleans(),
    st.none() | st.just("because"),
)
limits = st.builds(
    Limit,
    st.just("limits[0]"),
    st.sampled_from("cd"),
    st.sampled_from(Scope),
    st.sampled_from([timedelta(seconds=1), timedelta(days=1)]),
    st.integers(1, 2**31 - 1),
    add=st.sampled_from([1, parse_path("args.amount")]) | paths,
)
entries = st.builds(
    Entry,
    st.sampled_from([Action.ALLOW, Action.ALLOW, Action.ALLOW, Action.HOLD, Action.DENY]),
    st.just("entry"),
    rules=st.lists(rules, max_size=3).map(tuple),
    limits=st.lists(limits, max_size=2).map(tuple),
)
some_tools = st.dictionaries(st.sampled_from([*NAMES, "key_*", "*"]), entries, max_size=4)
all_tools = st.fixed_dictionaries({"*": entries}, optional=dict.fromkeys((*NAMES, "key_*"), entries))
tables = st.one_of(some_tools, all_tools, all_tools)
hidden = st.sampled_from([(), (), (), *((name,) for name in (*NAMES, "key_*", "[cl]*"))])
books = st.builds(
    Rulebook,
    st.sampled_from(Action).map(lambda action: Entry(action, "default")),
    tables,
    hidden,
    st.just((Path(("args", "b")),)),
)
calls = st.builds(
    Call,
    st.just("call_1"),
    st.just("desk"),
    st.one_of(*[st.sampled_from(NAMES)] * 3, st.text(max_size=5)),
    arguments.map(lambda given: {"arguments": given}),
    st.just(GRANT),
    st.none() | st.just("s"),
)


def compiled_book(book: Rulebook) -> Policy:
    return compile_policy(book, "test", "0" * 64)


@settings(max_examples=60)
@given(books, calls)
def test_judging_never_raises_and_explains_all_that_is_not_allowed(book: Rulebook, asked: Call) -> None:
    verdict = decide(compiled_book(book), asked)
    assert verdict.redact == book.redact
    assert bool(verdict.steps) == (verdict.action is not Action.ALLOW)
    assert not verdict.charges or verdict.action is not Action.DENY


@settings(max_examples=60)
@given(books, calls)
def test_deciding_and_explaining_agree(book: Rulebook, asked: Call) -> None:
    policy = compiled_book(book)
    decided, explained = decide(policy, asked), explain(policy, asked)
    assert replace(decided, steps=explained.steps) == explained
    assert any(step.rule == explained.rule for step in explained.steps)


@settings(max_examples=60)
@given(books, calls)
def test_an_unlisted_tool_is_never_allowed_under_deny(book: Rulebook, asked: Call) -> None:
    listed = {name: entry for name, entry in book.entries.items() if name in NAMES}
    under_deny = replace(book, unlisted=Entry(Action.DENY, "default"), entries=listed)
    assert asked.tool in listed or decide(compiled_book(under_deny), asked).action is Action.DENY


@settings(max_examples=60)
@given(books, calls, rules, st.integers(0, 3))
def test_a_rule_more_never_makes_a_call_more_permitted(book: Rulebook, asked: Call, rule: Rule, place: int) -> None:
    more = {
        name: replace(entry, rules=(*entry.rules[:place], rule, *entry.rules[place:]))
        for name, entry in book.entries.items()
    }
    _assert_no_milder(book, replace(book, entries=more), asked)


@settings(max_examples=60)
@given(books, calls, limits)
def test_a_limit_more_never_makes_a_call_more_permitted(book: Rulebook, asked: Call, limit: Limit) -> None:
    more = {name: replace(entry, limits=(limit, *entry.limits)) for name, entry in book.entries.items()}
    _assert_no_milder(book, replace(book, entries=more), asked)


@settings(max_examples=60)
@given(books, calls, st.sampled_from([*NAMES, "key_*", "*", "?y*"]))
def test_hiding_more_never_makes_a_call_more_permitted(book: Rulebook, asked: Call, name: str) -> None:
    _assert_no_milder(book, replace(book, hide=(*book.hide, name)), asked)


def _assert_no_milder(before: Rulebook, after: Rulebook, asked: Call) -> None:
    was, is_now = (decide(compiled_book(book), asked).action for book in (before, after))
    event(f"{was} → {is_now}")  # see --hypothesis-show-statistics: each way down has to be among the examples
    assert SEVERITY.index(is_now) <= SEVERITY.index(was)


@given(st.lists(rules, max_size=3), st.integers(0, 3), calls)
def test_an_error_in_any_rule_denies_wherever_it_stands(others: list[Rule], place: int, asked: Call) -> None:
    wrong = Rule("wrong", Action.HOLD, (condition("tool", "gt", 1),))
    policy = compiled(*others[:place], wrong, *others[place:])
    verdict = decide(policy, replace(asked, tool="t"))
    assert verdict.action is Action.DENY
    assert Said.ERROR in [step.said for step in verdict.steps if step.rule == "wrong"]


def test_an_error_in_one_test_of_a_rule_denies_even_if_another_is_false() -> None:
    for tests in [("eq", "gt"), ("gt", "eq")]:
        policy = denying(*(condition("args.x", op, 1) for op in tests))
        verdict = decide(policy, call("t", arguments={"x": "text"}))
        assert "it is text, and gt compares numbers" in str(verdict.reason)


def test_all_tests_of_a_rule_must_pass_and_a_requirement_is_that_they_do() -> None:
    tests = (condition("args.x", "gt", 1), condition("args.x", "lt", 5))
    for x, inside in [(3, True), (0, False), (9, False)]:
        asked = call("t", arguments={"x": x})
        assert (decide(denying(*tests), asked).action is Action.DENY) is inside
        required = compiled(Rule("require", Action.DENY, tests, unless=True))
        assert (decide(required, asked).action is Action.ALLOW) is inside


def test_a_denial_comes_before_a_hold_whatever_their_order() -> None:
    hold = Rule("hold", Action.HOLD, (condition("args.x", "exists", True),))
    deny = Rule("deny", Action.DENY, (condition("args.x", "exists", True),))
    for order in [(hold, deny), (deny, hold)]:
        verdict = decide(compiled(*order), call("t", arguments={"x": 1}))
        assert (verdict.action, verdict.rule) == (Action.DENY, "deny")
    assert decide(compiled(hold), call("t", arguments={"x": 1})).rule == "hold"


def test_every_mistake_is_told_at_once_with_its_place() -> None:
    wrong = Entry(
        Action.DENY,
        "tools.x.action",
        rules=(
            Rule("tools.x.deny_if[0]", Action.DENY, (condition("args.a", "regex", "("),)),
            Rule("all_tools.require[0]", Action.DENY, (condition("args.a", "lt", "1"),), unless=True),
            Rule("tools.x.when", Action.HOLD, (Expression("args.a >"),)),
            Rule("tools.x.rules[0]", Action.DENY, (Expression("b", at="tools.x.rules[0].when"),)),
        ),
    )
    book = Rulebook(Entry(Action.DENY, "default"), {"x": wrong, "y": wrong, "a*": wrong, "*a": wrong}, ("[",))
    with pytest.raises(Unfit) as refused:
        compiled_book(book)
    assert [mistake.at for mistake in refused.value.mistakes] == [
        "hide[0]",
        'tools["a*"]',
        "tools.x.deny_if[0].value",
        "all_tools.require[0].value",
        "tools.x.when",
        "tools.x.rules[0].when",
    ]


@settings(max_examples=10, deadline=None)
@given(rules)
def test_no_arguments_make_a_judgement_slow(rule: Rule) -> None:
    policy = compiled(rule)
    deep: Any = "x"
    for _ in range(100):  # the gateway refuses more
        deep = [deep]
    for value in ("a" * (4 << 20), [1] * 200_000, {str(n): n for n in range(200_000)}, deep, 10**4000):
        asked = call("t", arguments={"a": value, "b": value, "amount": value})
        assert quickly(policy, asked).action in Action


@pytest.mark.parametrize(("item", "value"), [(1, True), (True, 1), (0.0, False), ("b", "a")])
def test_a_list_that_almost_contains_a_value_is_searched_quickly(item: Any, value: Any) -> None:
    policy = denying(condition("args.a", "contains", value))
    for items, held in [([item] * 2_000_000, False), ([item] * 2_000_000 + [value], True)]:
        assert (quickly(policy, call("t", arguments={"a": items})).action is Action.DENY) is held


def test_equality_with_a_deep_value_denies_rather_than_breaks() -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    verdict = decide(denying(condition("args.x", "eq", deep)), call("t", arguments={"x": [deep]}))
    assert "nested too deep" in str(verdict.reason)
