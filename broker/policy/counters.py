"""Limits counted in memory along instants of the past, for a replay.

Counters begin empty. A call that would be held counts from when it was asked for, and one whose server answered with an
error counts too: the record of the past does not say what would have come of them. Windows are counted in steps of
1/256 of their length, which errs to the strict side and keeps them small.

What belongs here: one line of instants. What does not: the counters of calls that really run (`broker.store.slots`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from broker.domain.calls import UNIT, Charge
from broker.policy.judging.decide import Policy

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STEPS = 256


class Counters:
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
        asked = list(charges)
        amounts: dict[tuple[str, ...], int] = {}
        for charge in asked:
            amounts[_key(charge)] = max(charge.amount, amounts.get(_key(charge), 0))
        for charge in asked:
            counted = self._counter(charge)[charge.window, charge.calendar].sum(at)
            if counted + amounts[_key(charge)] > charge.max * UNIT:
                return charge
        for key, amount in amounts.items():
            for window in self._counters[key].values():
                window.add(at, amount)
        return None

    def _counter(self, charge: Charge) -> dict[tuple[timedelta, bool], _Window]:
        key = _key(charge)
        if key not in self._counters:
            self._counters[key] = {kind: _Window(*kind) for kind in self._windows[charge.counter]}
        return self._counters[key]


def _key(charge: Charge) -> tuple[str, ...]:
    return charge.upstream, charge.counter, charge.scope_value


class _Window:
    """What was charged within one length of time before the present instant."""

    def __init__(self, length: timedelta, calendar: bool) -> None:
        self._length = length
        self._calendar = calendar
        self._charged: deque[tuple[datetime, datetime, int]] = deque()  # from, until, amount
        self._sum = 0

    def sum(self, at: datetime) -> int:
        since = at - (at - _EPOCH) % self._length if self._calendar else at - self._length
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
