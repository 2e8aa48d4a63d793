"""Limits: which calls hold a slot of which counter. Decided inside the commit that records the call.

A slot counts from the moment the call is admitted, for as long as the limit's window. A held call's slot counts while
it is held and is stamped again when the call is dispatched. It is given back only when the call provably never ran.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import BigInteger, Connection, bindparam, delete, func, insert, or_, select, type_coerce, update

from broker.domain.calls import Charge
from broker.store.tables import MICROSECOND, SlotRow, table_of

_slots = table_of(SlotRow)

# Made once: building a statement costs more than running it.
_MINE = _slots.c.counter == bindparam("counter")
_INSIDE = _slots.c.at >= bindparam("since")
_TAKEN = select(func.count()).where(_MINE, or_(_INSIDE, _slots.c.at.is_(None)))
_LEAVING = select(_slots.c.at).where(_MINE, _INSIDE).order_by(_slots.c.at).offset(bindparam("over")).limit(1)
_TAKE = insert(_slots)

KEEP_AT_LEAST = timedelta(days=1)
"""An edited policy may ask for a longer window than the slot was taken under."""


@dataclass(frozen=True, slots=True)
class LimitReached:
    """No slot was free: which charge, and the first instant at which one will be, if only time has to pass."""

    charge: Charge
    free_at: datetime | None


def take(
    connection: Connection, call_id: str, charges: Sequence[Charge], now: datetime, *, held: bool = False
) -> LimitReached | None:
    """Take one slot for every charge, or none at all.

    Args:
        held: the slots count until they are stamped or given back.

    Returns:
        None when all were taken, else the first charge that has no slot free.
    """
    for charge in charges:
        if (reached := _check(connection, charge, now)) is not None:
            return reached
    counters: dict[str, timedelta] = {}
    for charge in charges:
        counter = _counter(charge)
        counters[counter] = max(charge.window, counters.get(counter, KEEP_AT_LEAST))
    if counters:
        connection.execute(
            _TAKE,
            [
                {"call_id": call_id, "counter": counter, "at": None if held else now, "keep_until": now + window}
                for counter, window in counters.items()
            ],
        )
    return None


def stamp(connection: Connection, call_id: str, now: datetime, *, held_since: datetime) -> None:
    """The call that was held since it took its slots is dispatched now: they count, and are kept, from here."""
    later = type_coerce(_slots.c.keep_until, BigInteger) + (now - held_since) // MICROSECOND
    connection.execute(update(_slots).where(_slots.c.call_id == call_id).values(at=now, keep_until=later))


def hold_again(connection: Connection, call_id: str) -> None:
    """The dispatched call provably never reached its upstream, and may still run: its slots count as held."""
    connection.execute(update(_slots).where(_slots.c.call_id == call_id).values(at=None))


def give_back(connection: Connection, call_id: str) -> None:
    """The call provably never reached its upstream: it used no slot."""
    connection.execute(delete(_slots).where(_slots.c.call_id == call_id))


def forget_old(connection: Connection, now: datetime) -> None:
    """Remove slots that no window reaches any more."""
    connection.execute(delete(_slots).where(_slots.c.keep_until < now, _slots.c.at.is_not(None)))


def _check(connection: Connection, charge: Charge, now: datetime) -> LimitReached | None:
    # An interval as long as the window holds both its ends, so a slot exactly one window old still counts.
    counted = {"counter": _counter(charge), "since": now - charge.window}
    taken = connection.execute(_TAKEN, counted).scalar_one()
    if taken < charge.max:
        return None
    leaving = counted | {"over": taken - charge.max}
    oldest: datetime | None = connection.execute(_LEAVING, leaving).scalar() if charge.max else None
    return LimitReached(charge, oldest + charge.window + MICROSECOND if oldest is not None else None)


def _counter(charge: Charge) -> str:
    return json.dumps([charge.upstream, charge.counter, charge.scope, charge.scope_value])
