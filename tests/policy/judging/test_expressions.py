"""Expressions in CEL: what they may say, what they see, and what they cost whatever is written and sent."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policy.model import Expression, Unfit
from tests.policy.calls import call
from tests.policy.rulebooks import denying, mistake, quickly, said, timed

TOO_LARGE = "the call is too large for this expression to be evaluated quickly"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("args.amount > 100", True),
        ("args.amount > 200.5", False),
        ("args.amount > 100 && grant.label.startsWith('ci')", True),
        ('tool == "t" && upstream == "desk" && session == "s-1"', True),
        ("grant.id == 'grt_1' && grant.owner.endsWith('@example.com')", True),
        ("has(args.nothing)", False),
        ("'amount' in args && args['amount'] == 150", True),
        ("args.items.exists(i, i.price > 5)", True),
        ("args.items.all(i, i.price < args.amount)", True),
        ("args.items.filter(i, i.price > 5).map(i, i.name) == ['b']", True),
        ("args.items.exists_one(i, i.name == 'a')", True),
        ("args.memo.matches('^h.*o$') && matches(args.memo, r'^h\\w+')", True),
        ("args.memo.matches(\"it's\") // ' not a string: matches(", False),
        ("args.memo.matches('a\\\\.b')", False),
        ("args.memo.contains('matches(x)') || size(args.memo) == 5", True),
        ("type(args.amount) == int && type(args.memo) == string", True),
        ("timestamp('2026-01-01T00:00:00Z').getFullYear() == 2026 && duration('1h') > duration('1s')", True),
        ("args.amount == 1 ? false : -5 < 3 - 2", True),
        ("args.nothing == 1 || true", True),
        ("args.amount == true", False),
        ("has(args.or) || tool.size() > 9", False),
    ],
)
def test_an_expression_says_true_or_false(expression: str, expected: bool) -> None:
    arguments = {"amount": 150, "memo": "hello", "items": [{"name": "a", "price": 2}, {"name": "b", "price": 9.5}]}
    assert said(expression, arguments, session="s-1") is expected


@pytest.mark.parametrize(
    ("expression", "arguments", "why"),
    [
        ("args.amount > 100", {}, "args.amount is missing"),
        ("args.a.b.c > 100", {"a": {}}, "args.a.b.c is missing"),
        ("args.amount > 100", {"amount": "secret"}, "it puts values together whose types do not fit"),
        ("args.list[3] > 1", {"list": [1]}, "an item that a list does not have"),
        ("args.amount / 0 > 1", {"amount": 1}, "it divides by zero"),
        ("args.amount * 2 > 1", {"amount": 2**62}, "leaves the range of 64 bits"),
        ("args.amount > 1", {"amount": 2**63}, "leaves the range of 64 bits"),
        ("args.amount > 1", {"amount": -(2**63)}, "leaves the range of 64 bits"),
        ("args.amount > 1", {"amount": 10**400}, "leaves the range of 64 bits"),
        ("args.x == [1]", {"x": [{"y": [10**20]}]}, "leaves the range of 64 bits"),
        ("args.memo == 'a'", {"memo": "\ud800"}, "a value does not fit"),
        ("args.memo", {"memo": "secret"}, "its expression gives neither true nor false"),
        ("args.amount + 1", {"amount": 1}, "its expression gives neither true nor false"),
        ("int(args.memo) == 1", {"memo": "secret"}, "a value does not fit"),
        ("args[args.memo] == 1", {"memo": "secret"}, "something that the call does not have"),
        ("args.amount.matches('a')", {"amount": 1}, "matches(): it looks into text, and this is a number"),
        ("args.memo.matches('(a|b)*a(a|b){12}c')", {"memo": "ab" * 200_000}, "400000 bytes of text are more than"),
        ("args.amount.matches('a') || true", {"amount": 1}, "matches(): it looks into text"),
        ("session == 'x' || session.startsWith('s')", {}, "a value does not fit"),
    ],
)
def test_what_cannot_be_evaluated_denies_with_a_reason_that_repeats_no_value(
    expression: str, arguments: dict[str, Any], why: str
) -> None:
    reason = said(expression, arguments)
    assert isinstance(reason, str)
    assert why in reason
    assert "secret" not in reason


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("args.amount >", "column 14: it ends too early"),
        ("args.amount = 1", "column 13: '=' cannot be read: write == to compare"),
        ("args.a === 1", "column 10: '=' cannot be read: write == to compare"),
        ("true & args.a", "column 6: '&' cannot be read: write && for and"),
        ("args.a and args.b", "column 8: and is not known: write &&"),
        ("not (args.a)", "column 1: not is not known: write !"),
        ("args.a ? : 1", "column 1: a part is missing in what begins here"),
        ("tool.name == 'x'", "column 1: tool is a text and has no name: write tool alone"),
        ("", "it ends too early"),
        ("args.", "column"),
        ("amount > 1", "column 1: amount is not known: an expression sees args, tool, upstream, grant and session"),
        (".args.x > 1", "column 2: a name does not begin with a dot"),
        ("args.x.foo()", "column 8: there is no function .foo()"),
        ("now() > 1", "column 1: there is no function now()"),
        ("args.all(x, y > 1)", "column 13: y is not known"),
        ("args.all(x, true) && x", "column 22: x is not known"),
        ("args.all(args, true)", "column 6: all() expects a new name"),
        ("Foo{a: 1}", "column 1: there is no type Foo"),
        ("args.Foo{a: 1}", "there is no type Foo"),
        ("grant.token == ''", "column 1: grant has no token: it has id, label, owner"),
        ("args.a.all(x, args.b.exists(y, x == y))", "column 22: exists() inside another"),
        ("args.a.map(x, x).exists(y, args.all(z, true))", "all() inside another"),
        ("args.a.map(x, [x, x]).map(x, [x, x])", "a second map()"),
        ("args.a.matches(args.b)", "column 8: matches() expects its pattern as a string that is written out"),
        ("matches(args.a, args.b)", "column 1: matches() expects its pattern"),
        ("args.a.matches('a' + 'b')", "column 8: matches() expects its pattern"),
        ("args.a.exists(x, x.matches(x))", "column 20: matches() expects its pattern"),
        ("args.a.matches('(')", "missing ): ("),
        ("args.a.matches('a(?=b)')", "no look-around"),
        ("-args.a > 1", "column 1: the sign of a value cannot be changed safely: write 0 - value"),
        ("-(args.a - 1) > 1", "column 1: the sign of a value"),
        ("'''a''' == 'a'", "column 1: a string in three quotes"),
        ("args.a == `b`", "column 11: '`' cannot be read"),
        ("args.a == 'b", 'column 11: "\'" cannot be read: the text that begins here has no end'),
        ("(args.a", "column 8: missing ')' at the end"),
        ("args.a)", "column 7: closes a bracket that is not open"),
        (" + ".join(["args.a"] * 60) + " == ''", "too many parts"),
        ("[" + "1," * 900 + "1].map(x, x) == []", "too many parts"),
    ],
)
def test_what_is_wrong_with_an_expression_is_a_mistake_with_its_column(expression: str, why: str) -> None:
    assert why in mistake(Expression(expression))


@pytest.mark.parametrize("size", [30, 100, 1000, 100_000])
@pytest.mark.parametrize(
    ("before", "middle", "after"),
    [
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("{1: ", "1", "}"),
        ("size(", "args", ")"),
        ("!", "true", ""),
        ("-", "1", ""),
        ("1+", "1", ""),
        ("1==", "1", ""),
        ("true||", "true", ""),
        ("true ? true : ", "true", ""),
        ("true ? ", "true", " : true"),
        ("", "args", ".a"),
        ("", "args", "[0]"),
        ("", "args.a", ".size()"),
        ("(", "", ""),
        ("", "", "'"),
        ("//", "", "\n"),
    ],
)
def test_no_expression_is_so_deep_or_long_that_reading_it_is_slow_or_crashes(
    before: str, middle: str, after: str, size: int
) -> None:
    expression = before * size + middle + after * size + " == 1"
    with contextlib.suppress(Unfit):
        timed(lambda: denying(Expression(expression)))


@given(st.text("ax.()[]{}'\"\\ \n,?:!&|=<>+-*/%019r", max_size=40))
def test_no_text_breaks_the_reading_of_expressions(expression: str) -> None:
    with contextlib.suppress(Unfit):
        quickly(denying(Expression(expression)), call("t", arguments={"a": 1}))


@pytest.mark.parametrize(
    "expression",
    [
        "args.l.exists(x, x < 0 || size(args.l) < 3)",
        "args.l.exists(x, args.l == [x])",
        "args.l.map(x, args.l).all(y, y == args.l)",
        "args.l.map(x, x).size() == 0",
        "args.l.filter(x, x >= 0).size() == 0",
        "args.l.exists(x, x in args.l && x < 0)",
        "args.d.all(k, args.d[k] < 0 || k != 'a')",
        "args.d == args.d",
        "args == args",
        "args.s.exists(x, args.t.contains(x + 'z'))",
        "args.s.exists(x, x.matches('a.*b.*c'))",
        "args.s.exists(x, x.matches('(y|z)*y(y|z){12}c'))",
        "args.t.matches('(y|z)*y(y|z){12}c')",
        "args.t + args.t + args.t == 'x'",
        "args.s.map(x, x + x) == []",
        "args.t.contains('x') || duration(args.t) == duration('1s')",
        "args.n == args.n",
    ],
)
def test_no_call_makes_an_expression_slow(expression: str) -> None:
    policy = denying(Expression(expression))
    nested: list[Any] = []
    for _ in range(90):
        nested = [nested]
    for size in (10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 200_000):
        quickly(policy, call("t", arguments={"l": list(range(size)), "d": {}, "s": [], "t": "", "n": []}))
        members = {str(number): number for number in range(size)}
        quickly(policy, call("t", arguments={"l": [], "d": members, "s": [], "t": "", "n": []}))
        texts = ["y" * 20] * size
        quickly(policy, call("t", arguments={"l": [], "d": {}, "s": texts, "t": "y" * (20 * size), "n": []}))
        quickly(policy, call("t", arguments={"l": [], "d": {}, "s": [], "t": "", "n": [nested] * (size // 90)}))


def test_only_what_an_expression_looks_at_counts() -> None:
    large = {"amount": 1, "text": "x" * (4 << 20), "list": [10**30] * 200_000}
    assert quickly(denying(Expression("args.amount > 100")), call("t", arguments=large)).action == "allow"
    assert TOO_LARGE in str(said("args.list == []", large))
    assert TOO_LARGE in str(said("args == {}", large))


def test_a_text_of_four_mebibytes_may_be_looked_into() -> None:
    assert said("args.text.contains('needle')", {"text": "x" * (4 << 20)}) is False
    assert said("args.text.matches('needle$')", {"text": "x" * ((4 << 20) - 6) + "needle"}) is True
