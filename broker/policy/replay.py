"""Judging calls of the past by another policy: what would differ.

Limits are counted along the recorded instants, starting empty: a call that would be held counts from when it was asked
for, and a call whose server answered with an error counts too. Long windows are counted in steps of 1/256 of their
length, which errs to the strict side.

What belongs here: judging, counting, and grouping what differs. What does not: reading the record (`broker.store`),
showing what came of it (`broker.cli`).
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from broker.domain.calls import UNIT, Action, Charge
from broker.domain.paths import Path
from broker.domain.recorded import Fate, RecordedCall
from broker.policy.decide import Policy, decide
from broker.policy.model import Condition, Entry, Expression

_EPOCH = datetime(1970, 1, 1)
_STEPS = 256


@dataclass(slots=True)
class Change:
    """Calls of one tool that would get another verdict, or the same by another rule.

    Args:
        example: the id of the first of them.
    """

    tool: str
    was: Fate
    would: Fate
    was_rule: str | None
    rule: str
    first: datetime
    last: datetime
    example: str
    calls: int = 0


@dataclass(slots=True)
class Replay:
    """What `policy` makes of recorded calls, which are given to `judge` in their order.

    Attributes:
        calls: how many were given.
        unjudged: how many cannot be judged, since a rule looks at what is not kept of them: by what that is, `args`
            for all arguments, or a masked path.
    """

    policy: Policy
    calls: int = 0
    unjudged: Counter[str] = field(default_factory=Counter[str])
    _changes: dict[tuple[str | None, ...], Change] = field(default_factory=dict[tuple[str | None, ...], Change])
    _limits: Limits = field(init=False)

    def __post_init__(self) -> None:
        self._limits = Limits(self.policy)

    @property
    def changes(self) -> list[Change]:
        """What differs: other verdicts first, and the more calls the earlier."""
        return sorted(self._changes.values(), key=lambda change: (change.was is change.would, -change.calls))

    @property
    def would(self) -> Counter[Fate]:
        """How many calls would get another verdict, by that verdict."""
        return sum((Counter({one.would: one.calls}) for one in self.changes if one.was is not one.would), Counter())

    @property
    def by_another_rule(self) -> int:
        """How many calls would get the same verdict by another rule."""
        return sum(change.calls for change in self.changes if change.was is change.would)

    @property
    def same(self) -> int:
        """How many calls would get the same verdict by the same rule."""
        return self.calls - self.unjudged.total() - sum(change.calls for change in self.changes)

    def judge(self, recorded: RecordedCall) -> None:
        """Judge the next call."""
        self.calls += 1
        missing = _missing(self.policy, recorded)
        if missing is not None:
            self.unjudged[missing] += 1
            return
        fate, rule = self._fate(recorded)
        if fate is not recorded.fate or rule != (recorded.rule or rule):
            self._note(recorded, fate, rule)

    def _fate(self, recorded: RecordedCall) -> tuple[Fate, str]:
        verdict = decide(self.policy, recorded.call)
        if verdict.action is Action.DENY:
            return Fate.DENY, verdict.rule
        reached = self._limits.take(verdict.charges, recorded.at)
        return (Fate.LIMITED, reached.rule) if reached is not None else (Fate(verdict.action), verdict.rule)

    def _note(self, recorded: RecordedCall, fate: Fate, rule: str) -> None:
        tool, was, was_rule, at = recorded.call.tool, recorded.fate, recorded.rule, recorded.at
        key = (tool, was, fate, was_rule, rule)
        fresh = Change(tool, was, fate, was_rule, rule, first=at, last=at, example=recorded.call.id)
        change = self._changes.setdefault(key, fresh)
        change.calls += 1
        change.last = at


def _missing(policy: Policy, recorded: RecordedCall) -> str | None:
    """What a rule for the call looks at and the record does not have, or None."""
    entry = policy.entry(recorded.call.tool)
    for looked_at in _looks_at(entry) if recorded.unknown else ():
        for unknown in recorded.unknown:
            shorter = min(len(looked_at.steps), len(unknown.steps))
            if looked_at.steps[:shorter] == unknown.steps[:shorter]:
                return str(unknown)
    return None


def _looks_at(entry: Entry) -> Iterable[Path]:
    """Every path that decides about a call; an expression may look anywhere below a name that it has."""
    for test in (test for rule in entry.rules for test in rule.tests):
        match test:
            case Condition(path=path):
                yield path
            case Expression(source=source):
                yield from (Path((name,)) for name in ("args", "session") if re.search(rf"\b{name}\b", source))
    yield from (limit.add for limit in entry.limits if isinstance(limit.add, Path))


class Limits:
    """The counters of a policy along a line of instants that never goes back."""

    def __init__(self, policy: Policy) -> None:
        self._windows: dict[str, set[tuple[timedelta, bool]]] = {}
        for entry in (policy.book.unlisted, *policy.book.entries.values()):
            for limit in entry.limits:
                self._windows.setdefault(limit.counter, set()).add((limit.window, limit.calendar))
        self._counters: dict[tuple[str, ...], dict[tuple[timedelta, bool], _Window]] = {}

    def take(self, charges: Iterable[Charge], at: datetime) -> Charge | None:
        """Charge a call of the instant `at`.

        Returns:
            None, or the first charge for which there is no room; then nothing was charged.
        """
        asked = [(charge, self._counter(charge)) for charge in charges]
        for charge, counter in asked:
            if counter[charge.window, charge.calendar].sum(at) + charge.amount > charge.max * UNIT:
                return charge
        for charge, counter in {id(counter): (charge, counter) for charge, counter in asked}.values():
            for window in counter.values():
                window.add(at, charge.amount)
        return None

    def _counter(self, charge: Charge) -> dict[tuple[timedelta, bool], _Window]:
        key = (charge.upstream, charge.counter, charge.scope, charge.scope_value)
        if key not in self._counters:
            self._counters[key] = {kind: _Window(*kind) for kind in self._windows[charge.counter]}
        return self._counters[key]


class _Window:
    """What was charged within one length of time before the present instant."""

    def __init__(self, length: timedelta, calendar: bool) -> None:
        self._length = length
        self._calendar = calendar
        self._charged: deque[tuple[datetime, datetime, int]] = deque()  # from, until, amount
        self._sum = 0

    def sum(self, at: datetime) -> int:
        since = at - (at.replace(tzinfo=None) - _EPOCH) % self._length if self._calendar else at - self._length
        while self._charged and self._charged[0][1] < since:
            self._sum -= self._charged.popleft()[2]
        return self._sum

    def add(self, at: datetime, amount: int) -> None:
        self._sum += amount
        begun, _, sum_so_far = self._charged[-1] if self._charged else (at, at, 0)
        if self._charged and at - begun < self._length / _STEPS:
            self._charged[-1] = (begun, at, sum_so_far + amount)
        else:
            self._charged.append((at, at, amount))
