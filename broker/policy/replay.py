"""Judging calls of the past by another policy: what would differ.

What belongs here: judging, and grouping what differs. What does not: counting for limits (`broker.policy.counters`),
reading the record (`broker.store`), showing what came of it (`broker.cli`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product

from broker.domain.calls import Action
from broker.domain.paths import Path
from broker.domain.recorded import Fate, RecordedCall
from broker.policy.counters import Counters
from broker.policy.judging.cel_text import read_expression
from broker.policy.judging.decide import Policy, decide
from broker.policy.model import Condition, Entry


@dataclass(slots=True)
class Change:
    """Calls of one tool that would get another verdict, or the same by another rule.

    Args:
        example: the id of the first of them.
    """

    tool: str
    was: Fate
    would_be: Fate
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
    _looked_at: dict[str, tuple[Path, ...]] = field(default_factory=dict[str, tuple[Path, ...]])
    _counters: Counters = field(init=False)

    def __post_init__(self) -> None:
        self._counters = Counters(self.policy)

    @property
    def changes(self) -> list[Change]:
        """What differs: other verdicts first, and the more calls the earlier."""
        return sorted(self._changes.values(), key=lambda change: (change.was is change.would_be, -change.calls))

    @property
    def would_be(self) -> Counter[Fate]:
        """How many calls would get another verdict, by that verdict."""
        found = Counter[Fate]()
        for change in self.changes:
            found[change.would_be] += change.calls if change.was is not change.would_be else 0
        return found

    @property
    def by_another_rule(self) -> int:
        """How many calls would get the same verdict by another rule."""
        return sum(change.calls for change in self.changes if change.was is change.would_be)

    @property
    def same(self) -> int:
        """How many calls would get the same verdict by the same rule."""
        return self.calls - self.unjudged.total() - sum(change.calls for change in self.changes)

    def judge(self, recorded: RecordedCall) -> None:
        """Judge the next call."""
        self.calls += 1
        missing = self._missing(recorded)
        if missing is not None:
            self.unjudged[missing] += 1
            return
        fate, rule = self._fate(recorded)
        if fate is not recorded.fate or rule != (recorded.rule or rule):
            self._note(recorded, fate, rule)

    def _missing(self, recorded: RecordedCall) -> str | None:
        """What a rule for the call looks at and the record does not have, or None."""
        tool = recorded.call.tool
        if tool not in self._looked_at:
            self._looked_at[tool] = tuple(_looks_at(self.policy.judge(tool).entry))
        pairs = product(self._looked_at[tool], recorded.unknown)
        return next((str(unknown) for looked_at, unknown in pairs if looked_at.overlaps(unknown)), None)

    def _fate(self, recorded: RecordedCall) -> tuple[Fate, str]:
        verdict = decide(self.policy, recorded.call)
        if verdict.action is Action.DENY:
            return Fate.DENY, verdict.rule
        reached = self._counters.take(verdict.charges, recorded.at)
        return (Fate.LIMITED, reached.rule) if reached is not None else (Fate(verdict.action), verdict.rule)

    def _note(self, recorded: RecordedCall, fate: Fate, rule: str) -> None:
        tool, was, was_rule, at = recorded.call.tool, recorded.fate, recorded.rule, recorded.at
        key = (tool, was, fate, was_rule, rule)
        fresh = Change(tool, was, fate, was_rule, rule, first=at, last=at, example=recorded.call.id)
        change = self._changes.setdefault(key, fresh)
        change.calls += 1
        change.last = at


def _looks_at(entry: Entry) -> Iterable[Path]:
    """Every path that decides about a call by `entry`; none when it is refused whatever it carries."""
    if entry.action is Action.DENY:
        return
    for test in (test for rule in entry.rules for test in rule.tests):
        yield from (test.path,) if isinstance(test, Condition) else read_expression(test.source).references
    yield from (limit.add for limit in entry.limits if isinstance(limit.add, Path))
