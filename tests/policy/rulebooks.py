"""Rulebooks for the tests of the judge, and how their mistakes and judgements are looked at."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from broker.domain.calls import Action, Call, Verdict
from broker.domain.paths import parse_path
from broker.policy.judging.decide import Policy, compile_policy, decide
from broker.policy.model import Condition, Entry, Expression, Limit, Operator, Rule, Rulebook, Test, Unfit
from tests.policy.calls import call

T = TypeVar("T")

QUICK = 0.3
"""Seconds of CPU time that no judgement takes; the worst takes a tenth."""


def condition(path: str, op: str, value: Any) -> Condition:
    return Condition(parse_path(path), Operator(op), value)


def compiled(*rules: Rule, limits: tuple[Limit, ...] = (), redact: tuple[str, ...] = ()) -> Policy:
    """A policy whose one listed tool, `t`, has these rules."""
    entry = Entry(Action.ALLOW, "tools.t", rules=rules, limits=limits)
    book = Rulebook(Entry(Action.DENY, "default"), {"t": entry}, (), tuple(map(parse_path, redact)))
    return compile_policy(book, "test", "0" * 64)


def denying(*tests: Test, redact: tuple[str, ...] = ()) -> Policy:
    """A policy that denies calls of `t` which pass all of `tests`."""
    return compiled(Rule("tools.t.deny_if[0]", Action.DENY, tests), redact=redact)


def judged(test: Test, arguments: Any, **facts: Any) -> bool | str:
    """Whether the call passes `test`, or the reason why that cannot be said."""
    verdict = decide(denying(test), call("t", arguments=arguments, **facts))
    if verdict.action is Action.ALLOW:
        return False
    reason = str(verdict.reason)
    return reason if reason.startswith("the policy cannot judge") else True


def said(expression: str, arguments: Any, **facts: Any) -> bool | str:
    """What an expression says of the arguments (see `judged`)."""
    return judged(Expression(expression), arguments, **facts)


def mistake(test: Test) -> str:
    """Why a policy with `test` does not load."""
    with pytest.raises(Unfit) as refused:
        denying(test)
    [found] = refused.value.mistakes
    return found.message


def quickly(policy: Policy, asked: Call) -> Verdict:
    """What the policy says of a call, which it says quickly."""
    return timed(lambda: decide(policy, asked))


def timed(work: Callable[[], T]) -> T:
    """The result of `work`, which costs little CPU time."""
    start = time.process_time()
    result = work()
    assert time.process_time() - start < QUICK
    return result
