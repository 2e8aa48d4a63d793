"""One entry of a policy, compiled: what it says of a call, and why.

What belongs here: the order of severity among the rules of one entry, the words of its reasons, the steps of an
explanation. What does not: which entry counts (`decide`), single tests (`conditions`, `expressions`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from broker.domain.calls import Action, Call, Charge, Said, Step, Verdict
from broker.domain.paths import Path
from broker.policy.facts import Unjudged, shown
from broker.policy.judging.conditions import Test, condition_test
from broker.policy.judging.expressions import CompiledExpression
from broker.policy.judging.limits import Charging, Finest, charging, described
from broker.policy.model import Condition, Entry, Limit, Mistake, Rule

_SAYS = {Action.ALLOW: Said.ALLOWS, Action.DENY: Said.DENIES, Action.HOLD: Said.HOLDS}


@dataclass(frozen=True, slots=True)
class _CompiledRule:
    """A rule as it is applied.

    Args:
        applies: whether it does.
        otherwise: what it says of a call to which it does not apply.
        reason: what is told of a call to which it applies.
        show: what it sees of a call, for people.
    """

    at: str
    then: Action
    applies: Test
    otherwise: Said
    reason: str
    show: Callable[[Call, Mapping[str, Any]], str]

    def step(self, call: Call, args: Mapping[str, Any]) -> Step:
        """What the rule says of a call."""
        saw = self.show(call, args)
        try:
            if self.applies(call, args):
                return Step(self.at, _SAYS[self.then], saw, self.reason)
        except Unjudged as error:
            return Step(self.at, Said.ERROR, saw, _unjudged(error))
        except RecursionError:
            return Step(self.at, Said.ERROR, saw, _unjudged("the call is nested too deep"))
        return Step(self.at, self.otherwise, saw)


@dataclass(frozen=True, slots=True)
class Judge:
    """What one entry says of calls.

    Args:
        entry: the entry.
        first: the steps that led to it, and its own.
        redact: what of a call is masked.
        rules: compiled, in the order of the document.
        limits: each with how it is charged.
    """

    entry: Entry
    first: tuple[Step, ...]
    redact: tuple[Path, ...]
    rules: tuple[_CompiledRule, ...]
    limits: tuple[tuple[Limit, Charging], ...]

    def allowed(self, call: Call) -> Verdict | None:
        """The verdict, when nothing is said against the call; otherwise None, and `explained` says what."""
        entry, args = self.entry, call.arguments
        if entry.action is not Action.ALLOW:
            return None
        try:
            for rule in self.rules:
                if rule.applies(call, args):
                    return None
            charges = tuple([charge(call, args) for _, charge in self.limits])
        except (Unjudged, RecursionError):
            return None
        return Verdict(Action.ALLOW, entry.rule, entry.reason, entry.risk, entry.requirement, charges, self.redact)

    def explained(self, call: Call) -> Verdict:
        """The verdict with every step on the way to it."""
        entry, args = self.entry, call.arguments
        steps, charges = list(self.first), list[Charge]()
        if entry.action is not Action.DENY:
            steps += [rule.step(call, args) for rule in self.rules]
            for limit, charge in self.limits:
                steps.append(_counted(limit, charge, call, args, charges))
        decisive = _decisive(steps)
        action = _ACTIONS[decisive.said]
        if action is Action.DENY:  # it counts for nothing
            steps, charges = [step for step in steps if step.said is not Said.COUNTS], []
        return Verdict(
            action,
            decisive.rule,
            decisive.why,
            entry.risk,
            entry.requirement,
            tuple(charges),
            self.redact,
            tuple(steps),
        )


_ACTIONS = {Said.ERROR: Action.DENY, Said.DENIES: Action.DENY, Said.HOLDS: Action.HOLD, Said.ALLOWS: Action.ALLOW}


def _decisive(steps: list[Step]) -> Step:
    """The first of the most severe steps."""
    for group in ((Said.DENIES, Said.ERROR), (Said.HOLDS,), (Said.ALLOWS,)):
        for step in steps:
            if step.said in group:
                return step
    raise AssertionError("an entry says at least what its action is")


def _counted(limit: Limit, charge: Charging, call: Call, args: Mapping[str, Any], charges: list[Charge]) -> Step:
    try:
        charges.append(charge(call, args))
    except Unjudged as error:
        return Step(f"{limit.at}.add", Said.ERROR, None, _unjudged(error))
    return Step(limit.at, Said.COUNTS, described(limit))


def _unjudged(why: Unjudged | str) -> str:
    return f"the policy cannot judge this call, so it is refused: {why}; change the call or ask the operator"


def compile_judge(
    entry: Entry, before: tuple[Step, ...], redact: tuple[Path, ...], finest: Finest, mistakes: list[Mistake]
) -> Judge:
    """The judge of `entry`, to which the steps `before` have led. What cannot be compiled is added to `mistakes`."""
    first = (*before, Step(entry.rule, _SAYS[entry.action], None, entry.reason))
    rules = [_compiled(rule, redact, mistakes) for rule in entry.rules]
    limits = tuple((limit, charging(limit, finest)) for limit in entry.limits)
    return Judge(entry, first, redact, tuple(rules), limits)


def _compiled(rule: Rule, redact: tuple[Path, ...], mistakes: list[Mistake]) -> _CompiledRule:
    tests: list[Test] = []
    seen: dict[Path, None] = {}
    for said in rule.tests:
        at = said.at or rule.at
        try:
            if isinstance(said, Condition):
                seen[said.path] = None
                tests.append(condition_test(said))
            else:
                expression = CompiledExpression(said.source)
                seen.update(dict.fromkeys(expression.references))
                tests.append(expression.test)
        except ValueError as error:
            mistakes.append(Mistake(f"{at}.value" if isinstance(said, Condition) else at, str(error)))
    shows = [shown(path, redact) for path in seen]
    return _CompiledRule(
        rule.at,
        rule.then,
        _applies(tests, rule.unless),
        Said.MET if rule.unless else Said.NOTHING,
        rule.message or _general(rule, seen),
        lambda call, args: ", ".join(show(call, args) for show in shows),
    )


def _applies(tests: list[Test], unless: bool) -> Test:
    """Whether all of `tests` pass, or not all of them. Each is looked at, for an error in any is one of the rule."""
    if len(tests) == 1:
        [test] = tests
        return (lambda call, args: not test(call, args)) if unless else test

    def applies(call: Call, args: Mapping[str, Any]) -> bool:
        passed = [test(call, args) for test in tests]
        return all(passed) is not unless

    return applies


def _general(rule: Rule, seen: Iterable[Path]) -> str:
    """What is told of a call to which `rule`, which has no message, applies."""
    paths = " and ".join(map(str, seen))
    because = f" because of {paths}" if paths else ""
    if rule.then is Action.HOLD:
        return f"A rule of the policy holds this call{because}."
    if rule.unless:
        return f"the policy requires something else of {paths or 'this call'}; change that or ask the operator"
    return f"the policy refuses this call{because}; change that or ask the operator"
