"""From a document of the Intercept dialect to the model.

What belongs here: what each key of the dialect means, and the mistakes that only the whole document shows. What does
not: the shape (`intercept_documents`), judging (`judging.decide`), counting (`broker.store`).

Source: the engine and the proxy of PolicyLayer's Intercept, version 1.1. A rule denies unless all its conditions hold;
a counter belongs to its tool (that of ``*`` to all tools together), whoever calls; the rule that counts compares it as
the call would leave it, any other rule as the call finds it. Where that engine compares loosely (a number equals its
own text, an argument that is null does not exist) so does this; where an approval there ignores what it cannot compare,
the call is denied here, as everywhere in the broker.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, product
from types import MappingProxyType
from typing import Any

from broker.domain.calls import Action, Requirement, Scope
from broker.domain.paths import Path, written
from broker.policy.language.intercept_documents import InterceptCondition, InterceptDocument, InterceptRule
from broker.policy.model import Condition, Entry, Limit, Mistake, Operator, Rule, Rulebook, Unfit

__all__ = ["InterceptDocument", "rulebook"]

_EVERY = "*"
_SCALARS = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?")


@dataclass(frozen=True, slots=True)
class _Counted:
    """A counter of a rule: what it is called, and what a call adds to it in which window."""

    name: str
    window: timedelta
    add: int | Path


@dataclass(frozen=True, slots=True)
class _Said:
    """A rule with its place, and the counter that is its own."""

    at: str
    terms: InterceptRule
    counted: _Counted | None


def rulebook(document: InterceptDocument) -> Rulebook:
    """What `document` means.

    Raises:
        Unfit: it counts what it never compares, compares what it never counts, or counts the same twice.
    """
    said = {tool: [_said(tool, *rule) for rule in enumerate(terms.rules)] for tool, terms in document.tools.items()}
    if mistakes := tuple(_mistakes(said)):
        raise Unfit(mistakes)
    counters = {own.name: own for rule in chain(*said.values()) if (own := rule.counted)}
    every = said.pop(_EVERY, [])
    entries = {tool: _entry(written("tools", tool), [*rules, *every], counters) for tool, rules in said.items()}
    denied = document.default == "deny"
    unlisted = Entry(Action.DENY, "default") if denied else _entry("default", every, counters)
    return Rulebook(unlisted, MappingProxyType(entries), tuple(document.hide))


def _said(tool: str, index: int, terms: InterceptRule) -> _Said:
    return _Said(written("tools", tool, "rules", index), terms, _counted("_global" if tool == _EVERY else tool, terms))


def _counted(tool: str, terms: InterceptRule) -> _Counted | None:
    if terms.rate_limit is not None:
        return _Counted(f"{tool}._rate_{terms.rate_limit.unit}", terms.rate_limit.window, 1)
    if (state := terms.state) is None:
        return None
    add = _path(state.increment_from) if state.increment_from else state.increment or 1
    return _Counted(f"{tool}.{state.counter}", state.window, add)


def _mistakes(said: dict[str, list[_Said]]) -> Iterator[Mistake]:
    known = {rule.counted.name for rule in chain(*said.values()) if rule.counted}
    for rules in said.values():
        yield from _counted_twice(rules)
        for rule in rules:
            yield from _counted_in_vain(rule)
            yield from _compared_in_vain(rule, known)


def _counted_twice(rules: list[_Said]) -> Iterator[Mistake]:
    first: dict[str, str] = {}
    for rule in rules:
        if rule.counted and (at := first.setdefault(rule.counted.name, rule.at)) != rule.at:
            why = f"counts {rule.counted.name}, as {at} does: give one of them another counter or window"
            yield Mistake(rule.at, why)


def _counted_in_vain(rule: _Said) -> Iterator[Mistake]:
    own = rule.counted
    if own and rule.terms.state and all(said.counter != own.name for said in rule.terms.conditions):
        yield Mistake(
            f"{rule.at}.state",
            f"counts what no condition of this rule compares, so it limits nothing: add a condition on "
            f"state.{own.name} with lt or lte, or take state out",
        )


def _compared_in_vain(rule: _Said, known: set[str]) -> Iterator[Mistake]:
    for index, said in enumerate(rule.terms.conditions):
        if said.counter is not None and said.counter not in known:
            at = f"{rule.at}.conditions[{index}]"
            yield Mistake(at, f"no rule counts {said.path}: add a state block with that counter to a rule of the tool")


def _entry(at: str, rules: Iterable[_Said], counters: dict[str, _Counted]) -> Entry:
    rules = list(rules)
    patience = [said.terms.approval_timeout for said in rules if said.terms.approval_timeout is not None]
    return Entry(
        Action.ALLOW,
        at,
        rules=tuple(chain.from_iterable(_rules(said) for said in rules)),
        limits=tuple(chain.from_iterable(_limits(said, counters) for said in rules)),
        requirement=Requirement(timeout=min(patience, default=None)),
    )


def _rules(said: _Said) -> Iterator[Rule]:
    name, conditions = said.terms.name, [each for each in said.terms.conditions if each.counter is None]
    match said.terms.action:
        case "deny":
            yield Rule(said.at, Action.DENY, (), message=said.terms.on_deny or f'the rule "{name}" denies every call')
        case "require_approval":
            message = said.terms.on_deny or f'The rule "{name}" holds this call.'
            for tests in product(*map(_alternatives, conditions)):
                yield Rule(said.at, Action.HOLD, tuple(chain(*tests)), message=message)
        case "evaluate":
            yield from _evaluated(said, conditions, said.terms.on_deny or f'the rule "{name}" denies this call')


def _evaluated(said: _Said, conditions: list[InterceptCondition], message: str) -> Iterator[Rule]:
    """Denied unless every condition holds: those with one way to hold together, each that must not exist by itself."""
    absent = [each for each in conditions if each.op is Operator.EXISTS and not each.value]
    tests = [test for each in conditions if each not in absent for test in _alternatives(each)[0]]
    if tests:
        yield Rule(said.at, Action.DENY, tuple(tests), unless=True, message=message)
    for each in absent:
        yield Rule(said.at, Action.DENY, _present(_path(each.path)), message=message)


def _alternatives(said: InterceptCondition) -> list[tuple[Condition, ...]]:
    """The ways in which a condition on an argument may hold: in each, all of its tests do."""
    path, op, value = _path(said.path), said.op, said.value
    match op:
        case Operator.EXISTS if value:
            return [_present(path)]
        case Operator.EXISTS:
            return [(Condition(path, Operator.EXISTS, False),), (Condition(path, Operator.EQ, None),)]
        case Operator.EQ | Operator.IN:
            return [(Condition(path, Operator.IN, _alike(op, value)),)]
        case Operator.NEQ | Operator.NOT_IN:
            found = Condition(path, Operator.EXISTS, True)
            return [(found, Condition(path, Operator.NOT_IN, _alike(op, value)))]
        case _:
            return [(Condition(path, op, value),)]


def _present(path: Path) -> tuple[Condition, ...]:
    return Condition(path, Operator.EXISTS, True), Condition(path, Operator.NEQ, None)


def _alike(op: Operator, value: Any) -> list[Any]:
    """The values that equal `value`, or one of a list of them: the dialect compares a scalar with its text, too."""
    listed = value if op in (Operator.IN, Operator.NOT_IN) else [value]
    return [alike for item in listed for alike in _twins(item)]


def _twins(value: Any) -> tuple[Any, ...]:
    match value:
        case bool():
            return value, str(value).lower()
        case int() | float():
            return value, repr(value).removesuffix(".0")
        case "true" | "false":
            return value, value == "true"
        case str() if _SCALARS.fullmatch(value):
            return value, float(value) if "." in value else int(value)
        case _:
            return (value,)


def _limits(said: _Said, counters: dict[str, _Counted]) -> Iterator[Limit]:
    rate, own = said.terms.rate_limit, said.counted
    if rate is not None and own is not None:
        yield _limit(said.at, own, rate.max, said.terms.on_deny, own.add)
    most: dict[str, int] = {}
    for each in said.terms.conditions:
        if (name := each.counter) is not None:
            most[name] = min(each.most, most.get(name, each.most))
    for name, largest in most.items():
        mine = own is not None and own.name == name
        yield _limit(said.at, counters[name], largest, said.terms.on_deny, counters[name].add if mine else 0)


def _limit(at: str, counted: _Counted, most: int, message: str | None, add: int | Path) -> Limit:
    return Limit(at, counted.name, Scope.UPSTREAM, counted.window, most, message, add, calendar=True, refund=True)


def _path(dotted: str) -> Path:
    return Path(tuple(dotted.split(".")))
