"""Limits: from what a policy says to the charges of one call.

What belongs here: which counter a call is charged to, whose, and how much. What does not: counting, which needs the
record (`broker.store`) and is decided in the commit that admits the call.
"""

from __future__ import annotations

from broker.domain.calls import Call, Charge, Scope
from broker.policy.model import Limit


def charge(limit: Limit, call: Call) -> Charge:
    """What `call` is charged under `limit`."""
    return Charge(
        call.upstream,
        limit.counter,
        limit.scope,
        scope_value(limit.scope, call),
        limit.window,
        limit.max,
        limit.at,
        limit.message,
    )


def scope_value(scope: Scope, call: Call) -> str:
    """Whose counter `call` is charged to: its session's (else its grant's), its grant's, or the upstream's."""
    if scope is Scope.UPSTREAM:
        return call.upstream
    return (scope is Scope.SESSION and call.session) or call.grant.id
