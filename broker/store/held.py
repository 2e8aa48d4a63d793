"""What held calls count for the counters of the policy: reserved while they wait, counted when they are dispatched.

What belongs here: the way of a held call's slots, by the call's id. What does not: counting (`broker.store.slots`).

A reservation counts for every window, and becomes a count in the commit that claims the call, so there is no instant
in between at which it does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, text

from broker.domain.calls import Charge
from broker.store import slots
from broker.store.prepared import Prepared
from broker.store.slots import LimitReached, Slot, Taken

_KEEP = Prepared(
    text(
        "INSERT INTO held_slots (call_id, counter, amount, until, refund) "
        "VALUES (:call_id, :counter, :amount, :until, :refund)"
    )
)
_COUNTED = Prepared(
    text("SELECT counter, amount, until, refund FROM held_slots WHERE call_id = :call_id AND until IS NOT NULL")
)
_RESERVE_AGAIN = Prepared(text("UPDATE held_slots SET until = NULL WHERE call_id = :call_id"))
_FORGET = Prepared(text("DELETE FROM held_slots WHERE call_id = :call_id"))


def reserve(connection: Connection, call_id: str, charges: Sequence[Charge], now: datetime) -> LimitReached | None:
    """The call is held: it counts until it is stamped or given back.

    Returns:
        None when there is room for every charge, else the first that is used up, and nothing is reserved.
    """
    if (reached := slots.full(connection, charges, slots.micros(now))) is not None:
        return reached
    for counter, mine in slots.by_counter(charges).items():
        values = {"call_id": call_id, "counter": counter, "amount": mine[0].amount, "until": None, "refund": False}
        _KEEP.on(connection, values)
    return None


def stamp(
    connection: Connection, call_id: str, charges: Sequence[Charge], now: datetime, *, tries: int = 0
) -> Taken | LimitReached:
    """The held call is dispatched now, and counts from here, as the present policy charges it.

    What it has stays reserved when that does not fit, which is so only when the policy was changed, or when a dispatch
    came so late that others were admitted meanwhile.
    """
    hold_again(connection, call_id)
    taken = slots.take(connection, charges, now, besides=call_id, tries=tries)
    if isinstance(taken, Taken):
        _FORGET.on(connection, {"call_id": call_id})
        for slot in taken.slots:
            values = {"counter": slot.counter, "amount": slot.amount, "until": slot.until, "refund": slot.refund}
            _KEEP.on(connection, {"call_id": call_id, **values})
    return taken


def hold_again(connection: Connection, call_id: str) -> None:
    """The dispatched call provably never reached its upstream, and may still run: it is reserved as before."""
    slots.give_back(connection, _counted(connection, call_id))
    _RESERVE_AGAIN.on(connection, {"call_id": call_id})


def give_back(connection: Connection, call_id: str) -> None:
    """The call ended, and provably never reached its upstream: it counts no more."""
    slots.give_back(connection, _counted(connection, call_id))
    _FORGET.on(connection, {"call_id": call_id})


def settle(connection: Connection, call_id: str, *, errored: bool) -> None:
    """The call ended, and may have run: it counts on, except for what is refunded when the server answered an error."""
    if errored:
        slots.give_back(connection, (slot for slot in _counted(connection, call_id) if slot.refund))
    _FORGET.on(connection, {"call_id": call_id})


def _counted(connection: Connection, call_id: str) -> list[Slot]:
    found = _COUNTED.on(connection, {"call_id": call_id}).fetchall()
    return [Slot(counter, amount, until, bool(refund)) for counter, amount, until, refund in found]
