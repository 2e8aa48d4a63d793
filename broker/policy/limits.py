"""Limits: from what a document says to the slots that one call takes.

What belongs here: which counter a call is charged to, and whose. What does not: counting, which needs the record
(`broker.store`) and is decided in the commit that admits the call.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from broker.domain.calls import Call, Charge, Scope
from broker.policy.documents import ToolTerms, path


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of one tool, ready to be charged."""

    counter: str
    scope: Scope
    window: timedelta
    max: int
    rule: str
    message: str | None = None

    def charge(self, call: Call) -> Charge:
        """The slot that `call` takes."""
        owner = scope_value(self.scope, call)
        return Charge(call.upstream, self.counter, self.scope, owner, self.window, self.max, self.rule, self.message)


def scope_value(scope: Scope, call: Call) -> str:
    """Whose slots `call` takes: its session's (the grant's when it has none), its grant's, or the upstream's."""
    if scope is Scope.UPSTREAM:
        return call.upstream
    return (scope is Scope.SESSION and call.session) or call.grant.id


def limits_of(tool: str, terms: ToolTerms) -> tuple[Limit, ...]:
    """Every limit that `terms` put on `tool`, in the order of the document."""
    listed = [
        Limit(said.counter, said.scope, said.window, said.max, path("tools", tool, "limits", index), said.on_deny)
        for index, said in enumerate(terms.limits)
    ]
    short = terms.rate_limit
    if short is not None:
        # A counter in a document is one word, so that none can be this one.
        counter = f"rate_limit {tool}"
        listed.append(Limit(counter, Scope.SESSION, short.window, short.max, path("tools", tool, "rate_limit")))
    return tuple(listed)
