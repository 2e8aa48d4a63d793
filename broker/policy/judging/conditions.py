"""Conditions: one value of a call, compared.

What belongs here: what each operator means, and which values it may be written with. What does not: what follows from a
condition (`judge`), the Common Expression Language (`expressions`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from itertools import compress, repeat
from typing import Any, cast

from broker.domain.calls import Call
from broker.domain.paths import MISSING
from broker.policy.facts import Unjudged, finder, kind
from broker.policy.judging.patterns import compile_pattern
from broker.policy.model import Condition, Operator

Test = Callable[[Call, Mapping[str, Any]], bool]
"""Whether a call, whose arguments are given apart, passes; raises Unjudged when that cannot be said."""

Compare = Callable[[Any], bool]
"""The same of the value that was found; the message of its Unjudged fits after the value's path and "is" or ":"."""


def condition_test(condition: Condition) -> Test:
    """How calls are tested by `condition`.

    Raises:
        ValueError: the operator cannot be used with the condition's value; the message says what was expected.
    """
    find, path = finder(condition.path), str(condition.path)
    if condition.op is Operator.EXISTS:
        expected = condition.value
        _expect(isinstance(expected, bool), "true or false")
        return lambda call, args: (find(call, args) is not MISSING) is expected
    compare = _COMPARISONS[condition.op](condition.value)
    unless_found = condition.op in (Operator.NEQ, Operator.NOT_IN)

    def test(call: Call, args: Mapping[str, Any]) -> bool:
        value = find(call, args)
        if value is MISSING:
            return unless_found
        try:
            return compare(value)
        except Unjudged as error:
            raise Unjudged(f"{path}: {error}") from None

    return test


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values are equal: 1 is 1.0, and true is not 1."""
    return bool(a == b) and _same_types(a, b)


def _same_types(a: Any, b: Any) -> bool:
    """Whether values that are equal to Python, for which true is 1, are so in JSON."""
    match a:
        case bool():
            return isinstance(b, bool)
        case list():
            return all(map(_same_types, cast("list[Any]", a), b))
        case dict():
            return all(_same_types(member, b[key]) for key, member in cast("dict[str, Any]", a).items())
        case _:
            return not isinstance(b, bool)


def _expect(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(f"expected {what}")


def _equal(value: Any) -> Compare:
    if isinstance(value, str):
        return lambda found: bool(found == value)
    return lambda found: same(found, value)


def _unequal(value: Any) -> Compare:
    equal = _equal(value)
    return lambda found: not equal(found)


def _among(value: Any) -> Compare:
    _expect(isinstance(value, list), "a list of values")
    members = cast("list[Any]", value)
    texts = frozenset(member for member in members if isinstance(member, str))
    others = [member for member in members if not isinstance(member, str)]
    return lambda found: found in texts if isinstance(found, str) else _holds(others, found)


def _not_among(value: Any) -> Compare:
    among = _among(value)
    return lambda found: not among(found)


def _holds(items: list[Any], value: Any) -> bool:
    if value not in items:  # all but the last line in Python's own loops: an agent may send a million items
        return False
    match value:
        case None | str():
            return True
        case bool():
            return any(map(operator.is_, items, repeat(value)))
        case int() | float():
            return value in compress(items, map(operator.is_not, map(type, items), repeat(bool)))
        case _:
            return any(same(item, value) for item in items)


def _ordered(compare: Callable[[Any, Any], bool], name: str) -> Callable[[Any], Compare]:
    def build(value: Any) -> Compare:
        _expect(_is_number(value), "a number")

        def test(found: Any) -> bool:
            if not _is_number(found):
                raise Unjudged(f"it is {kind(found)}, and {name} compares numbers")
            return compare(found, value)

        return test

    return build


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # not NaN


def _regex(value: Any) -> Compare:
    _expect(isinstance(value, str), "a pattern, as text")
    pattern = compile_pattern(value)

    def test(found: Any) -> bool:
        if not isinstance(found, str):
            raise Unjudged(f"it is {kind(found)}, and regex looks into text")
        return pattern.found_in(found)[0]

    return test


def _contains(value: Any) -> Compare:
    def test(found: Any) -> bool:
        if isinstance(found, list):
            return _holds(cast("list[Any]", found), value)
        if not isinstance(found, str):
            raise Unjudged(f"it is {kind(found)}, and contains looks into text or a list")
        if not isinstance(value, str):
            raise Unjudged(f"it is text, which cannot contain {kind(value)}")
        return value in found

    return test


_COMPARISONS: Mapping[Operator, Callable[[Any], Compare]] = {
    Operator.EQ: _equal,
    Operator.NEQ: _unequal,
    Operator.IN: _among,
    Operator.NOT_IN: _not_among,
    Operator.LT: _ordered(operator.lt, "lt"),
    Operator.LTE: _ordered(operator.le, "lte"),
    Operator.GT: _ordered(operator.gt, "gt"),
    Operator.GTE: _ordered(operator.ge, "gte"),
    Operator.REGEX: _regex,
    Operator.CONTAINS: _contains,
}
