"""From a document of the broker's own language to the model.

What belongs here: what each key means, and combinations of keys that mean nothing. What does not: the shape
(`documents`), judging (`judging.decide`).
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from broker.domain.calls import Action, Escalation, Memory, Requirement, Scope
from broker.domain.paths import written
from broker.policy.language.documents import (
    ApprovalTerms,
    ConditionTerms,
    Document,
    EveryToolTerms,
    LimitTerms,
    ToolTerms,
)
from broker.policy.model import Condition, Entry, Expression, Limit, Mistake, Rule, Rulebook


def rulebook(document: Document) -> Rulebook:
    """What `document` means."""
    entries = {name: _entry(name, terms, document.all_tools) for name, terms in document.tools.items()}
    unlisted = Entry(document.default, "default")
    return Rulebook(unlisted, MappingProxyType(entries), tuple(document.hide), tuple(document.redact))


def contradictions(document: Document) -> Iterable[Mistake]:
    """Keys that each are legal and mean nothing together."""
    for name, terms in document.tools.items():
        settled = terms.action is not Action.ALLOW
        if terms.when is not None and settled:
            why = f"has no effect beside action {terms.action.value}, which goes for every call: take one of them out"
            yield Mistake(written("tools", name, "when"), why)
        may_hold = terms.action is Action.HOLD or terms.when or terms.approve_if or document.all_tools.approve_if
        if terms.approval is not None and (terms.action is Action.DENY or not may_hold):
            why = "has no effect, since calls of this tool are never held: write action: hold, approve_if or when"
            yield Mistake(written("tools", name, "approval"), why)


def _entry(name: str, terms: ToolTerms, every: EveryToolTerms) -> Entry:
    said = "action" in terms.model_fields_set
    return Entry(
        action=terms.action,
        rule=written("tools", name, "action") if said else written("tools", name),
        reason=terms.reason if terms.action is not Action.ALLOW else None,  # then it is that of `when`
        risk=terms.risk,
        rules=(*_rules(every, "all_tools"), *_rules(terms, "tools", name), *_when(name, terms)),
        limits=(*_limits(every.limits, "all_tools"), *_limits(terms.limits, "tools", name), *_rate_limit(name, terms)),
        requirement=requirement(terms.approval or ApprovalTerms.model_construct()),
    )


def _rules(terms: EveryToolTerms, *where: str) -> Iterable[Rule]:
    for key, conditions, then in (
        ("deny_if", terms.deny_if, Action.DENY),
        ("require", terms.require, Action.DENY),
        ("approve_if", terms.approve_if, Action.HOLD),
    ):
        for index, said in enumerate(conditions):
            at = written(*where, key, index)
            yield Rule(at, then, (_condition(said),), unless=key == "require", message=said.message)


def _condition(terms: ConditionTerms) -> Condition:
    return Condition(terms.path, terms.op, terms.value)


def _when(name: str, terms: ToolTerms) -> Iterable[Rule]:
    if terms.when is not None:
        at = written("tools", name, "when")
        yield Rule(at, Action.HOLD, (Expression(terms.when),), message=terms.reason)


def _limits(limits: list[LimitTerms], *where: str) -> Iterable[Limit]:
    for index, said in enumerate(limits):
        at = written(*where, "limits", index)
        yield Limit(at, said.counter, said.scope, said.window, said.max, said.on_deny, said.add or 1)


def _rate_limit(name: str, terms: ToolTerms) -> Iterable[Limit]:
    short = terms.rate_limit
    if short is not None:
        # A counter in a document is one word, so that none can be this one.
        at = written("tools", name, "rate_limit")
        yield Limit(at, f"rate_limit {name}", Scope.SESSION, short.window, short.max)


def requirement(terms: ApprovalTerms) -> Requirement:
    """Who must agree, by `terms`."""
    escalate, remember = terms.escalate, terms.remember
    return Requirement(
        tuple(terms.approvers),
        terms.quorum,
        terms.timeout,
        tuple(terms.channels),
        terms.allow_self,
        terms.allow_edit,
        Escalation(escalate.after, tuple(escalate.to)) if escalate is not None else None,
        Memory(tuple(remember.scopes), remember.max) if remember is not None else None,
    )
