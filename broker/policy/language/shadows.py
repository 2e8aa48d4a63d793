"""Entries that stand before a broader glob and are milder than it.

What belongs here: which glob an entry takes a tool from, and in what it is milder. What does not: judging by the most
exact entry (`judging.decide`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from broker.domain.calls import Action, Requirement
from broker.domain.paths import written
from broker.policy.judging.globs import is_glob, parse_glob
from broker.policy.model import Entry, Limit, Rule, Rulebook

_SEVERITY = (Action.ALLOW, Action.HOLD, Action.DENY)
_DONE = {Action.ALLOW: "allowed", Action.HOLD: "held", Action.DENY: "denied"}
_STAR = "*" * 100
"""What a glob covers of another glob's `*`: a `?` of its own must not do for it."""


def covers(glob: str, name: str) -> bool:
    """Whether every tool that `name`, a name or a glob, stands for is one that `glob` stands for."""
    return parse_glob(glob).matches(name.replace("*", _STAR)) if is_glob(glob) else glob == name


def shadows(book: Rulebook) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Each entry that is milder than the glob that would count without it, that glob, and in what it is milder."""
    globs = sorted(filter(is_glob, book.entries), key=_rank)
    for name, entry in book.entries.items():
        broader = next((glob for glob in globs if _rank(glob) > _rank(name) and covers(glob, name)), None)
        if broader is not None and (how := list(_milder(entry, book.entries[broader], broader))):
            yield name, broader, how


def _rank(name: str) -> tuple[bool, tuple[int, int]]:
    """Lower is closer; an exact name is closest."""
    return (True, parse_glob(name).rank) if is_glob(name) else (False, (0, 0))


def _milder(entry: Entry, broader: Entry, glob: str) -> Iterator[str]:
    if _SEVERITY.index(entry.action) < _SEVERITY.index(broader.action):
        yield f"{_DONE[entry.action]}, not {_DONE[broader.action]}"
    if Action.DENY in (entry.action, broader.action):
        return  # of the one nothing is left to be milder in, and of the other all is said
    missing = [*_missing_rules(entry, broader), *_missing_limits(entry.limits, broader.limits)]
    if missing:
        yield f"without {', '.join(at.removeprefix(written('tools', glob)).lstrip('.') for at in missing)}"
    yield from _larger_limits(entry.limits, broader.limits)
    if entry.action is broader.action is Action.HOLD:
        yield from _easier(entry.requirement, broader.requirement)


def _missing_rules(entry: Entry, broader: Entry) -> Iterator[str]:
    present = {_meaning(rule) for rule in entry.rules}
    for rule in broader.rules:
        held_anyway = rule.then is Action.HOLD is entry.action
        if not held_anyway and _meaning(rule) not in present:
            yield rule.at


def _meaning(rule: Rule) -> str:
    return repr((rule.then, rule.tests, rule.unless))  # a condition's value may be a list, which has no hash


def _missing_limits(limits: Iterable[Limit], broader: Iterable[Limit]) -> Iterator[str]:
    present = {_counted(limit) for limit in limits}
    return (limit.at for limit in broader if _counted(limit) not in present)


def _larger_limits(limits: Iterable[Limit], broader: Iterable[Limit]) -> Iterator[str]:
    present = {_counted(limit): limit.max for limit in broader}
    for limit in limits:
        if (least := present.get(_counted(limit), limit.max)) < limit.max:
            yield f"{limit.max} in {limit.window.total_seconds():.0f} s, not {least}"


def _counted(limit: Limit) -> tuple[object, ...]:
    short = limit.at.endswith(".rate_limit")  # a counter of each entry's own
    return short or limit.counter, limit.scope, limit.window, limit.add, limit.calendar


def _easier(requirement: Requirement, broader: Requirement) -> Iterator[str]:
    if requirement.quorum < broader.quorum:
        yield f"approved by {requirement.quorum}, not {broader.quorum}"
    if broader.approvers and not requirement.approvers:
        yield f"approved by every approver, not only {', '.join(broader.approvers)}"
    if requirement.allow_self and not broader.allow_self:
        yield "approved by the agent's owner too"
