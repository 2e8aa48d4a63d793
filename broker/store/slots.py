"""Limits: what calls count for the counters of the policy. Decided inside the commit that records the call.

What belongs here: taking and giving back, and how long what is taken counts. What does not: which bucket an instant
lies in (`broker.store.buckets`), what a held call keeps until it is dispatched (`broker.store.held`), what a call is
charged (`broker.policy`).

Calls of about the same time are counted together, in a bucket that is named by an instant, `until`. A bucket counts
for every window that reaches from now back to it. No call is dispatched after the `until` of its bucket: one that is
late takes anew. So the bound holds: of the calls that are dispatched in an interval as long as the window, let one be
the last to have taken, now. It is dispatched no earlier than now, so the interval began no earlier than a window ago;
the others were dispatched since then, so the `until` of each is within the window, and each took before. All of them
were counted, and with the last they were no more than the maximum. Whatever is rounded is rounded to a later `until`.
That `now` may be a moment before the commit in which it is looked and counted, one commit after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, text

from broker.domain.calls import UNIT, Charge
from broker.store.buckets import KEPT, LONGEST, MOST, SECOND, bucket, end_of, row, width_of
from broker.store.columns import EPOCH, MICROSECOND, micros
from broker.store.prepared import Prepared

MOST_CROWDED = 10_000
"""Counters that are remembered for having had no room."""

_COUNTED = Prepared(
    # In two parts, each of which stays within 64 bits whatever is added up.
    text(f"""
    SELECT sum(amount / {UNIT}), sum(amount % {UNIT}) FROM (
        SELECT amount FROM counts WHERE counter = :counter AND until >= :since
        UNION ALL
        SELECT amount FROM held_slots WHERE counter = :counter AND until IS NULL AND call_id <> :besides
    ) AS counted""")  # noqa: S608 - a number of ours
)
_LEAVING = Prepared(
    text("SELECT until, amount FROM counts WHERE counter = :counter AND until >= :since ORDER BY until")
)
ADDED_UP = f"""
    ON CONFLICT (counter, until) DO UPDATE SET amount =
        CASE WHEN counts.amount > {MOST} - excluded.amount THEN {MOST} ELSE counts.amount + excluded.amount END"""
"""How a row of `counts` joins the one that is there."""

_COUNT = Prepared(
    text(f"INSERT INTO counts (counter, until, amount, due) VALUES (:counter, :until, :amount, :due) {ADDED_UP}")  # noqa: S608 - numbers of ours
)
_GIVE_BACK = Prepared(
    text("""
    UPDATE counts SET amount = amount - :amount WHERE counter = :counter AND until =
        (SELECT min(until) FROM counts WHERE counter = :counter AND until >= :until AND amount >= :amount)""")
)
_DUE = Prepared(text("SELECT counter, until, amount FROM counts WHERE due <= :now"))
_FORGET = Prepared(text("DELETE FROM counts WHERE due <= :now"))


@dataclass(frozen=True, slots=True)
class Slot:
    """What a call counts for one counter, in the bucket that is named by `until`.

    Args:
        amount: in parts of `UNIT`.
        refund: whether it is given back when the server answers with an error.
    """

    counter: str
    amount: int
    until: int
    refund: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """What a call took when it was admitted, at the instant `at`.

    Args:
        tries: how often it took before in vain, because it could not be sent in time.
    """

    at: int
    slots: tuple[Slot, ...] = ()
    tries: int = 0

    def late(self, now: datetime) -> bool:
        """Whether it may not be sent any more with this; nor when the clock was set back, for it counts from `at`.

        Without a slot a call has as long as any: what was found out about it when it was admitted grows old too.
        """
        until = min((slot.until for slot in self.slots), default=self.at + (LONGEST << self.tries))
        return bool(self.at) and not self.at <= micros(now) <= until


@dataclass(frozen=True, slots=True)
class Room:
    """What has to be free for a call: of `counter` since an instant up to `most`, beside what it takes itself."""

    counter: str
    since: int
    most: int
    amount: int


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a call takes if there is room for it.

    Args:
        counts: rows to be added to those of the table `counts`.
    """

    taken: Taken
    rooms: tuple[Room, ...]
    counts: tuple[dict[str, Any], ...]


class Crowded:
    """Counters that had no room lately: whether they have now is better looked at than hoped for."""

    def __init__(self) -> None:
        self._until: dict[str, int] = {}

    def note(self, charges: Sequence[Charge], found: Taken | LimitReached, now: datetime) -> None:
        """What was found for these charges now."""
        if isinstance(found, LimitReached):
            if len(self._until) >= MOST_CROWDED:
                self._until.clear()
            self._until[_counter(found.charge)] = micros(found.free_at) if found.free_at else micros(now) + SECOND
        elif self._until:
            for charge in charges:
                self._until.pop(_counter(charge), None)

    def has(self, counter: str, at: int) -> bool:
        """Whether this is one of them, as far as time goes."""
        return self._until.get(counter, 0) > at


@dataclass(frozen=True, slots=True)
class LimitReached:
    """A limit is used up: which charge, and the first instant at which it fits, if only time has to pass."""

    charge: Charge
    free_at: datetime | None


def take(
    connection: Connection, charges: Sequence[Charge], now: datetime, *, besides: str = "", tries: int = 0
) -> Taken | LimitReached:
    """Count a call for every charge, or for none; once for a counter, however many charges name it.

    Args:
        besides: the id of a call whose reservations do not stand in the way, since they are this call's own.
        tries: doubles the time to the dispatch each, so that on a machine that is too slow for it calls still run.

    Returns:
        What it took, else the first charge that is used up.
    """
    at, counters = micros(now), by_counter(charges)
    if (reached := _full(connection, counters, at, besides)) is not None:
        return reached
    taken, counts = _counted(counters, at, tries)
    for count in counts:
        _COUNT.on(connection, count)
    return taken


def foresee(charges: Sequence[Charge], now: datetime, crowded: Crowded) -> Foreseen | None:
    """What `take` would do and return now if there is room; None where that is not to be expected."""
    at, counters = micros(now), by_counter(charges)
    rooms = tuple(
        Room(counter, _since(charge, at), charge.max * UNIT, charge.amount)
        for counter, mine in counters.items()
        for charge in mine
    )
    if any(room.amount > room.most or crowded.has(room.counter, at) for room in rooms):
        return None
    taken, counts = _counted(counters, at, 0)
    return Foreseen(taken, rooms, counts)


def take_anew(connection: Connection, taken: Taken, charges: Sequence[Charge], now: datetime) -> Taken | LimitReached:
    """The call could not be sent in time: it counts from now instead, or for nothing when a limit is used up.

    Within the window it finds room: what it took counted until now, so all the others saw it.
    """
    give_back(connection, taken.slots)
    return take(connection, charges, now, tries=taken.tries + 1)


def full(connection: Connection, charges: Sequence[Charge], at: int, *, besides: str = "") -> LimitReached | None:
    """The first charge that does not fit at the instant `at`, if there is one."""
    return _full(connection, by_counter(charges), at, besides)


def _full(
    connection: Connection, counters: Mapping[str, Sequence[Charge]], at: int, besides: str
) -> LimitReached | None:
    for counter, mine in counters.items():
        for charge in mine:
            if (reached := _check(connection, counter, charge, at, besides)) is not None:
                return reached
    return None


def give_back(connection: Connection, slots: Iterable[Slot]) -> None:
    """The call provably never reached its upstream, or its charge is refunded: it counts no more."""
    for slot in slots:
        # Its bucket may be part of a wider one by now. What lies at or before that one errs strict.
        _GIVE_BACK.on(connection, {"counter": slot.counter, "until": slot.until, "amount": slot.amount})


def forget_old(connection: Connection, now: datetime) -> None:
    """Join buckets to wider ones as they age, and forget those that no window reaches any more.

    One is still at most 1/256 as wide as it is old, so as every window that reaches back to it.
    """
    at = micros(now)
    joined: dict[tuple[str, int], tuple[int, int]] = {}
    for counter, until, amount in _DUE.on(connection, {"now": at}).fetchall():
        if amount and until + KEPT > at:
            width = width_of(at - until)
            later = end_of(until, width)
            joined[counter, later] = (width, min(MOST, joined.get((counter, later), (0, 0))[1] + amount))
    _FORGET.on(connection, {"now": at})
    _COUNT.on_each(connection, [row(*name, amount, width) for name, (width, amount) in joined.items()])


def by_counter(charges: Sequence[Charge]) -> dict[str, list[Charge]]:
    """The charges on each counter, by its key; all with what the call counts there, the most that any of them says."""
    counters: dict[str, list[Charge]] = {}
    for charge in charges:
        counters.setdefault(_counter(charge), []).append(charge)
    return {counter: _levelled(mine) if len(mine) > 1 else mine for counter, mine in counters.items()}


def _counter(charge: Charge) -> str:
    # Windows of the calendar are counted apart: a bucket of theirs does not reach into the next one.
    return _key(charge.upstream, charge.counter, charge.scope_value, *(("calendar",) if charge.calendar else ()))


@lru_cache(1024)
def _key(*names: str) -> str:
    return json.dumps(names)


def _levelled(charges: Sequence[Charge]) -> list[Charge]:
    most = max(charge.amount for charge in charges)
    return [charge if charge.amount == most else replace(charge, amount=most) for charge in charges]


# -- whether it fits --------------------------------------------------------------------------------------------------


def _check(connection: Connection, counter: str, charge: Charge, at: int, besides: str) -> LimitReached | None:
    most, window = charge.max * UNIT, charge.window // MICROSECOND
    if charge.amount > most:
        return LimitReached(charge, None)
    looked = {"counter": counter, "since": _since(charge, at)}
    units, parts = _COUNTED.on(connection, {**looked, "besides": besides}).fetchone()
    excess = int(units or 0) * UNIT + int(parts or 0) + charge.amount - most
    if excess <= 0:
        return None
    for until, amount in _LEAVING.on(connection, looked).fetchall():
        excess -= amount
        if excess <= 0:
            leaves = end_of(until, window) if charge.calendar else until + window
            return LimitReached(charge, EPOCH + timedelta(microseconds=leaves + 1))
    return LimitReached(charge, None)


def _since(charge: Charge, at: int) -> int:
    # An interval as long as the window holds both its ends, so what is exactly one window old still counts.
    window = charge.window // MICROSECOND
    return at - at % window if charge.calendar else at - window


# -- what it takes -----------------------------------------------------------------------------------------------------


def _counted(counters: Mapping[str, Sequence[Charge]], at: int, tries: int) -> tuple[Taken, tuple[dict[str, Any], ...]]:
    """What a call for which there is room takes, and the rows of that."""
    taken: list[Slot] = []
    counts: list[dict[str, Any]] = []
    for counter, mine in counters.items():
        if amount := mine[0].amount:
            width, until = bucket(mine, at, tries)
            taken.append(Slot(counter, amount, until, all(charge.refund for charge in mine)))
            counts.append(row(counter, until, amount, width))
    return Taken(at, tuple(taken), tries), tuple(counts)
