"""Limits: from what a policy says to the charges of one call.

What belongs here: which counter a call is charged to, whose, and how much. What does not: counting, which needs the
record (`broker.store`) and is decided in the commit that admits the call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import Any

from broker.domain.calls import UNIT, Call, Charge, Scope
from broker.domain.durations import in_words
from broker.domain.paths import MISSING, Path
from broker.policy.facts import Unjudged, finder, kind
from broker.policy.model import Limit

Charging = Callable[[Call, Mapping[str, Any]], Charge]
"""From a call and its arguments to what it is charged; raises Unjudged when its sum cannot be taken."""

Finest = Mapping[tuple[str, bool], timedelta]
"""The shortest window that a policy puts on each counter: by its name, and whether it is that of the upstream.

Without a session, the counter of a session is that of its grant.
"""

_WHOSE = {Scope.SESSION: "each session", Scope.GRANT: "each grant", Scope.UPSTREAM: "all together"}


def finest_windows(limits: Iterable[Limit]) -> Finest:
    """The shortest window on each counter among all the limits of a policy."""
    finest: dict[tuple[str, bool], timedelta] = {}
    for limit in limits:
        key = (limit.counter, limit.scope is Scope.UPSTREAM)
        finest[key] = min(finest.get(key, limit.window), limit.window)
    return finest


def charging(limit: Limit, finest: Finest) -> Charging:
    """How calls are charged under `limit`."""
    shortest = finest[limit.counter, limit.scope is Scope.UPSTREAM]
    amount = _amount(limit)

    @lru_cache(maxsize=256)  # making one takes longer than all the rest
    def made(upstream: str, whose: str, parts: int) -> Charge:
        return Charge(
            upstream,
            limit.counter,
            limit.scope,
            whose,
            limit.window,
            limit.max,
            limit.at,
            limit.message,
            parts,
            limit.calendar,
            limit.refund,
            None if shortest == limit.window else shortest,
        )

    return lambda call, args: made(call.upstream, scope_value(limit.scope, call), amount(call, args))


def described(limit: Limit) -> str:
    """What `limit` admits, for people: ``10 in a minute for each grant``."""
    added = f" of {limit.add}" if isinstance(limit.add, Path) else ""
    calendar = " of the calendar (UTC)" if limit.calendar else ""
    return f"{limit.max:,}{added} in {in_words(limit.window)}{calendar} for {_WHOSE[limit.scope]}"


def scope_value(scope: Scope, call: Call) -> str:
    """Whose counter `call` is charged to: its session's (else its grant's), its grant's, or the upstream's."""
    if scope is Scope.UPSTREAM:
        return call.upstream
    return (scope is Scope.SESSION and call.session) or call.grant.id


def units(value: Any, most: int) -> int:
    """`value`, a JSON number that is not negative, in parts of UNIT, rounded up; all above `most` is `most` + 1 part.

    Exact: a sum of floats would forget small numbers beside large ones.

    Raises:
        Unjudged: it is no such number; the message fits after "is".
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unjudged(kind(value))
    if isinstance(value, float) and not math.isfinite(value):
        raise Unjudged("not finite")
    if value < 0:
        raise Unjudged("negative")
    if value > most:
        return most * UNIT + 1
    if isinstance(value, int):
        return value * UNIT
    return int((Decimal(repr(value)) * UNIT).to_integral_value(ROUND_CEILING))


def _amount(limit: Limit) -> Callable[[Call, Mapping[str, Any]], int]:
    add = limit.add
    if isinstance(add, int):
        fixed = add * UNIT
        return lambda _call, _args: fixed
    find = finder(add)

    def amount(call: Call, args: Mapping[str, Any]) -> int:
        value = find(call, args)
        try:
            return units(value, limit.max)
        except Unjudged as error:
            why = "missing" if value is MISSING else str(error)
            raise Unjudged(f"{add} is {why}, and the policy adds it up: give a number that is not negative") from None

    return amount
