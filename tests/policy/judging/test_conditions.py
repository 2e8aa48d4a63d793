"""What each operator means, and which values it may be written with."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policy.judging.conditions import same
from broker.policy.model import Operator
from tests.policy.rulebooks import condition, judged, mistake

MISSING_IS = {"neq": True, "not_in": True}
VALUES: dict[str, Any] = {"in": [1], "not_in": [1], "regex": "a", "exists": True}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def check(op: str, value: Any, found: Any) -> bool | str:
    return judged(condition("args.x", op, value), {"x": found})


@pytest.mark.parametrize(
    ("op", "value", "found", "expected"),
    [
        ("eq", "live", "live", True),
        ("eq", "live", "Live", False),
        ("eq", 1, 1.0, True),
        ("eq", 1, True, False),
        ("eq", True, 1, False),
        ("eq", False, 0, False),
        ("eq", 1, "1", False),
        ("eq", None, None, True),
        ("eq", None, False, False),
        ("eq", [1, {"a": True}], [1.0, {"a": True}], True),
        ("eq", [1, {"a": True}], [1, {"a": 1}], False),
        ("eq", {"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ("eq", 2**70, 2.0**70, True),
        ("eq", 2**70 + 1, 2.0**70, False),
        ("neq", "live", "test", True),
        ("neq", 1, True, True),
        ("neq", 1, 1.0, False),
        ("in", ["a", 1, None], "a", True),
        ("in", ["a", 1, None], 1.0, True),
        ("in", ["a", 1, None], True, False),
        ("in", ["a", 1, None], None, True),
        ("in", [[1]], [1], True),
        ("in", [[1]], [True], False),
        ("in", [], "a", False),
        ("not_in", ["a", 1], "b", True),
        ("not_in", ["a", 1], "a", False),
        ("not_in", ["a", 1], True, True),
        ("lt", 10, 9.9, True),
        ("lt", 10, 10, False),
        ("lte", 10, 10, True),
        ("gt", 2**53, 2**53 + 1, True),
        ("gt", 10, 10, False),
        ("gte", 10.5, 10.5, True),
        ("regex", "^/run/user/0/", "/run/user/0/bus", True),
        ("regex", "user", "/run/user/0/bus", True),
        ("regex", "^user", "/run/user/0/bus", False),
        ("regex", "(?i)É", "é", True),
        ("regex", "^.$", "é", True),
        ("contains", "b", "abc", True),
        ("contains", "", "abc", True),
        ("contains", "B", "abc", False),
        ("contains", 1, [2, 1.0], True),
        ("contains", 1, [2, True], False),
        ("contains", "a", ["ab"], False),
        ("contains", {"a": 1}, [{"a": 1}], True),
        ("exists", True, None, True),
        ("exists", False, None, False),
    ],
)
def test_an_operator_compares(op: str, value: Any, found: Any, expected: bool) -> None:
    assert check(op, value, found) is expected


@pytest.mark.parametrize("op", list(Operator))
def test_a_missing_path_is_unequal_and_in_no_list_and_otherwise_false(op: str) -> None:
    assert judged(condition("args.x", op, VALUES.get(op, 1)), {"y": 1}) is MISSING_IS.get(op, False)
    assert judged(condition("args.x.y[0]", op, VALUES.get(op, 1)), {"x": {"y": "text"}}) is MISSING_IS.get(op, False)


def test_exists_compares_with_its_value_where_there_is_nothing() -> None:
    assert judged(condition("args.x", "exists", False), {})
    assert not judged(condition("args.x", "exists", True), {})


@pytest.mark.parametrize(
    ("op", "value", "found", "why"),
    [
        ("lt", 10, "9", "args.x: it is text, and lt compares numbers"),
        ("gte", 10, True, "args.x: it is a boolean, and gte compares numbers"),
        ("gt", 10, None, "args.x: it is null, and gt compares numbers"),
        ("lte", 10, [1], "args.x: it is a list, and lte compares numbers"),
        ("lt", 10, float("nan"), "args.x: it is a number, and lt compares numbers"),
        ("regex", "1", 1, "args.x: it is a number, and regex looks into text"),
        ("regex", "1", "\ud800", "args.x: it holds half of a surrogate pair"),
        ("contains", 1, 1, "args.x: it is a number, and contains looks into text or a list"),
        ("contains", "a", {"a": 1}, "args.x: it is an object, and contains looks into text or a list"),
        ("contains", 1, "1", "args.x: it is text, which cannot contain a number"),
    ],
)
def test_a_wrong_type_is_an_error_that_denies_with_its_reason(op: str, value: Any, found: Any, why: str) -> None:
    assert why in str(check(op, value, found))


@pytest.mark.parametrize(
    ("op", "value", "why"),
    [
        ("lt", "10", "expected a number"),
        ("gt", True, "expected a number"),
        ("lte", None, "expected a number"),
        ("gte", [1], "expected a number"),
        ("in", "abc", "expected a list of values"),
        ("not_in", {"a": 1}, "expected a list of values"),
        ("exists", 1, "expected true or false"),
        ("regex", 1, "expected a pattern, as text"),
        ("regex", "(", "it is not a pattern that RE2 knows: missing ): ("),
        ("regex", "a(?=b)", "this engine has no look-around"),
        ("regex", "(?<!a)b", "this engine has no look-around"),
        ("regex", r"(a)\1", "this engine has no backreferences"),
        ("regex", "a{1001}", "invalid repetition size"),
        ("regex", r"(\pL{1,50}){5}", "at most 20000 are run: repeat less"),
        ("regex", r"(\pL{1,50}){20}", "pattern too large"),
        ("regex", "a" * 4001, "at most 4000 are read"),
        ("regex", "\ud800", "half of a surrogate pair"),
    ],
)
def test_a_value_that_its_operator_cannot_use_is_a_mistake(op: str, value: Any, why: str) -> None:
    assert why in mistake(condition("args.x", op, value))


def test_rules_see_the_tool_the_upstream_the_grant_and_the_session() -> None:
    for path, value in [
        ("tool", "t"),
        ("upstream", "desk"),
        ("grant.id", "grt_1"),
        ("grant.label", "ci agent"),
        ("grant.owner", "olga@example.com"),
        ("session", "s-1"),
        ("args", {"a": 1}),
    ]:
        assert judged(condition(path, "eq", value), {"a": 1}, session="s-1") is True
    assert judged(condition("session", "exists", False), {}) is True
    assert judged(condition("grant.token", "exists", True), {}) is False


@given(json_values, json_values)
def test_equality_is_that_of_json(a: Any, b: Any) -> None:
    assert same(a, a)
    assert same(a, b) == same(b, a)
    assert judged(condition("args.x", "eq", a), {"x": b}) is same(a, b)
    assert judged(condition("args.x", "neq", a), {"x": b}) is not same(a, b)
    assert judged(condition("args.x", "in", [a]), {"x": b}) is same(a, b)
    assert judged(condition("args.x", "contains", a), {"x": [b]}) is same(a, b)
