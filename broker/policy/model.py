"""What a policy document means, whichever dialect it was written in: the one model that the judge is compiled from.

What belongs here: rules, limits and entries as plain values. What does not: how they are written (`documents` and
`native`, `intercept`), and judging by them (`decide`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from broker.domain.calls import Action, Requirement, Risk, Scope
from broker.domain.paths import Path


class Operator(StrEnum):
    """How a condition compares what it finds with its own value."""

    EQ = "eq"
    NEQ = "neq"
    IN = "in"
    NOT_IN = "not_in"
    LT = "lt"
    LTE = "lte"
    GT = "gt"
    GTE = "gte"
    REGEX = "regex"
    CONTAINS = "contains"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of what `path` leads to: in the call's `args`, its `tool`, `upstream`, `grant` or `session`.

    Args:
        at: where it stands in the document; None means where its rule stands.
    """

    path: Path
    op: Operator
    value: Any
    at: str | None = None


@dataclass(frozen=True, slots=True)
class Expression:
    """A test in the Common Expression Language (CEL); true or false, anything else is an error.

    Args:
        at: as in `Condition`.
    """

    source: str
    at: str | None = None


Test = Condition | Expression


@dataclass(frozen=True, slots=True)
class Rule:
    """Tests of one call, and what follows.

    Args:
        at: where it stands in the document, such as ``tools.pay.deny_if[0]``.
        then: what is done with the call when the rule applies: deny or hold, never allow.
        tests: the rule applies when all of them are true; with `unless`, when not all of them are. All of them are
            looked at, so that an error in any denies.
        message: to the agent (deny) or the reviewer (hold).
    """

    at: str
    then: Action
    tests: tuple[Test, ...]
    unless: bool = False
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """How much a counter admits in a window.

    Args:
        at: where it stands in the document.
        add: what one call counts: so many, or the number that a path leads to. Zero only looks at the counter.
        calendar: the window is the calendar's (UTC), not the time since each call.
        refund: a call that its server answered with an error is given back.
    """

    at: str
    counter: str
    scope: Scope
    window: timedelta
    max: int
    message: str | None = None
    add: int | Path = 1
    calendar: bool = False
    refund: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """What holds for the calls of some tools.

    Args:
        action: what is done with a call to which no rule applies.
        rule: where the document says so, such as ``tools.pay.action`` or ``default``.
        reason: to the agent (deny) or the reviewer (hold); None means a general sentence.
        rules: in the order in which they are looked at; those of all tools are among them.
        limits: in the order of the document; those of all tools are among them.
    """

    action: Action
    rule: str
    reason: str | None = None
    risk: Risk | None = None
    rules: tuple[Rule, ...] = ()
    limits: tuple[Limit, ...] = ()
    requirement: Requirement = field(default_factory=Requirement)


@dataclass(frozen=True, slots=True)
class Rulebook:
    """A whole policy.

    Args:
        unlisted: what holds for tools that no entry covers.
        entries: by a tool's exact name or by a glob; exactly one counts for a tool (see `broker.policy.judging.globs`).
        hide: names and globs of tools that leave `tools/list`.
        redact: what of a call is masked for everybody, once it was judged.
    """

    unlisted: Entry
    entries: Mapping[str, Entry] = field(default_factory=dict[str, Entry])
    hide: tuple[str, ...] = ()
    redact: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong at one place of a document.

    Args:
        at: the place, as `broker.domain.paths.written` writes it: ``tools.pay.deny_if[0].value``.
        message: what was expected, without a full stop.
    """

    at: str
    message: str


class Unfit(ValueError):
    """A rulebook that cannot be judged by; it carries every mistake."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("\n".join(f"{mistake.at}: {mistake.message}" for mistake in mistakes))
        self.mistakes = mistakes
