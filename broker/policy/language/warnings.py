"""What is legal in a policy document and probably wrong.

What belongs here: few warnings that are true, each with its place. What does not: what is refused
(`documents`, `native`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from broker.domain.calls import Action, Requirement
from broker.domain.durations import written_duration
from broker.domain.paths import written
from broker.domain.people import GrantRef, Permission, Person, normal_email
from broker.domain.reviewers import eligible_people
from broker.errors import Finding
from broker.policy.language.shadows import covers, shadows
from broker.policy.language.tree import Tree
from broker.policy.model import Limit, Rulebook

_NOT_YET = ("remember", "allow_edit")
_RULES = ("limits", "rate_limit", "require", "deny_if", "approve_if")
_NOBODY = GrantRef("", "", "")  # an agent whose owner is none of the people


def warnings(tree: Tree, book: Rulebook, people: Sequence[Person] | None = None) -> list[Finding]:
    """What is probably wrong with a document that has no mistakes, in the order of the text.

    Args:
        book: what the document means.
        people: all who are known to the broker; None when that is not known itself.
    """
    found = [*_without_effect(tree), *_hidden(tree, book), *_shadows(tree, book), *_counters(tree, book)]
    found += _late(tree, book)
    if people is not None:
        found += _people(tree, book, people)
    return sorted(found, key=lambda one: (one.line or 0, one.column or 0))


def asks_for_people(book: Rulebook) -> bool:
    """Whether it depends on the people what is wrong with a policy."""
    asked = [entry.requirement for entry in book.entries.values()]
    return any(one.approvers or one.quorum > 1 or one.escalate is not None for one in asked)


def _tools(tree: Tree) -> Mapping[str, Mapping[str, Any]]:
    return tree.value.get("tools", {})


def _without_effect(tree: Tree) -> Iterator[Finding]:
    if tree.value.get("all_tools") and not _tools(tree):
        yield tree.finding("has no effect, since no tool is listed", ("all_tools",), key=True)
    for name, terms in _tools(tree).items():
        settled = {"deny": _RULES, "hold": ("approve_if",)}.get(terms.get("action", "allow"), ())
        for key in filter(terms.get, settled):
            why = f"has no effect, since {terms['action']} goes for every call of this tool"
            yield tree.finding(why, ("tools", name, key), key=True)
        for key in filter(terms.get("approval", {}).get, _NOT_YET):
            why = "is accepted, and this version does not act on it yet"
            yield tree.finding(why, ("tools", name, "approval", key), key=True)


def _hidden(tree: Tree, book: Rulebook) -> Iterator[Finding]:
    for index, pattern in enumerate(book.hide):
        names = [name for name in book.entries if covers(pattern, name)]
        if names:
            several = "these entries have" if len(names) > 1 else "this entry has"
            yield tree.finding(f"hides {_some(names)}: {several} no effect", ("hide", index))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"


def _shadows(tree: Tree, book: Rulebook) -> Iterator[Finding]:
    for name, glob, how in shadows(book):
        if any(covers(pattern, name) for pattern in book.hide):
            continue
        why = f"is milder than {written('tools', glob)}, which does not count for it: {'; '.join(how)}"
        yield tree.finding(why, ("tools", name), key=True)


# -- counters ---------------------------------------------------------------------------------------------------------


def _counters(tree: Tree, book: Rulebook) -> Iterator[Finding]:
    """A counter is what the tools that name it share: it counts one thing, and is full for all of them at once."""
    counting = [entry for entry in book.entries.values() if entry.action is not Action.DENY]
    limits = {limit.at: limit for entry in counting for limit in entry.limits}
    firsts: dict[tuple[object, ...], Limit] = {}
    for limit in limits.values():
        counter = (limit.counter, limit.scope)
        first = firsts.setdefault(counter, limit)
        if first.add != limit.add:
            why = f"the counter {limit.counter} adds {_unit(limit)} here and {_unit(first)} at {first.at}"
            yield tree.finding(why, limit.at)
            continue
        same = firsts.setdefault((*counter, limit.window, limit.calendar), limit)
        if same.max != limit.max:
            why = f"the counter {limit.counter} has max {limit.max} here and {same.max} at {same.at}: both count in it"
            yield tree.finding(why, limit.at)


def _unit(limit: Limit) -> str:
    return "one for each call" if limit.add == 1 else str(limit.add)


# -- time -------------------------------------------------------------------------------------------------------------


def _late(tree: Tree, book: Rulebook) -> Iterator[Finding]:
    for at, requirement in _approvals(tree, book):
        late, timeout = requirement.escalate, requirement.timeout
        if late is not None and timeout is not None and late.after >= timeout:
            why = f"is not before the timeout of {written_duration(timeout)}: nobody else is asked"
            yield tree.finding(why, (*at, "escalate", "after"))


def _approvals(tree: Tree, book: Rulebook) -> Iterator[tuple[tuple[str, ...], Requirement]]:
    """Who is asked, wherever the document says it of calls that may be held."""
    for name, entry in book.entries.items():
        at = ("tools", name, "approval")
        if entry.action is not Action.DENY and at in tree.places:
            yield at, entry.requirement


# -- people -----------------------------------------------------------------------------------------------------------


def _people(tree: Tree, book: Rulebook, people: Sequence[Person]) -> Iterator[Finding]:
    for at, requirement in _approvals(tree, book):
        late = requirement.escalate.to if requirement.escalate is not None else ()
        for key, names in ((("approvers",), requirement.approvers), (("escalate", "to"), late)):
            for index, name in enumerate(names):
                if (why := _unknown(name, people)) is not None:
                    yield tree.finding(why[0], (*at, *key, index), nearest=why[1])
        yield from _quorum(tree, at, requirement, people)


def _quorum(tree: Tree, at: tuple[str, ...], requirement: Requirement, people: Sequence[Person]) -> Iterator[Finding]:
    able = len(eligible_people(requirement, _NOBODY, people))
    if requirement.quorum > max(able, 1):
        who = f"{able} {'person is' if able == 1 else 'people are'} able to decide"
        yield tree.finding(f"{requirement.quorum} people must approve, and {who}", (*at, "quorum"))


def _unknown(approver: str, people: Sequence[Person]) -> tuple[str, str | None] | None:
    """Why `approver`, a group or an address, is nobody who decides, and what is like it; None when somebody is."""
    deciders = [person for person in people if person.may(Permission.DECIDE)]
    if eligible_people(Requirement((approver,)), _NOBODY, people):
        return None
    if "@" in approver:
        if any(person.email == normal_email(approver) for person in people):
            return "may not decide: give them the role approver", None
        return _with_nearest("there is no such person", approver, [person.email for person in deciders])
    groups = sorted({group for person in deciders for group in person.groups})
    return _with_nearest("nobody who may decide is in this group", approver, groups)


def _with_nearest(why: str, given: str, known: Sequence[str]) -> tuple[str, str | None]:
    near = difflib.get_close_matches(given, known, n=1)
    return (f"{why}; did you mean {near[0]}?", near[0]) if near else (why, None)
