"""A small world with one counter: calls that are admitted, held, sent late, given back, under policies that change.

What belongs here: doing these things to the store and noting what was sent when, and when a call has to be admitted.
What does not: any statement about it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from broker.domain.calls import UNIT, Charge
from broker.domain.canonical import new_id
from broker.store import held, slots
from broker.store.columns import EPOCH, MICROSECOND
from broker.store.slots import LimitReached, Taken
from tests.clock import NOON

SECOND = timedelta(seconds=1)


def tolerance(window: timedelta) -> timedelta:
    """How long a call may be on its way to its upstream before it counts anew."""
    return min(max(window / 256, timedelta(milliseconds=50)), SECOND)


def blur(window: timedelta) -> timedelta:
    """How much longer than a whole window from its commit a call may count."""
    return tolerance(window) + max(window / 256, timedelta(microseconds=3125))


@dataclass
class Sending:
    """A call under way, or sent, as it was decided last."""

    charge: Charge
    amount: int
    era: int
    taken: Taken
    decided: datetime
    held: bool
    sent: datetime | None = None

    def may_count(self, now: datetime, window: timedelta) -> bool:
        """Whether it may still count for a window: buckets are joined as they age, to 1/256 of their age."""
        last = self.decided + blur(self.charge.window) + tolerance(self.charge.window) * (2**self.taken.tries - 1)
        return last + max(now - last, timedelta()) / 256 >= now - window


@dataclass
class World:
    """One counter on a connection whose changes are undone."""

    connection: Connection
    charge: Charge
    now: datetime = NOON
    era: int = 0
    reserved: dict[str, int] = field(default_factory=dict[str, int])
    calls: dict[str, Sending] = field(default_factory=dict[str, Sending])
    policies: list[Charge] = field(default_factory=list[Charge])
    told: datetime | None = None

    def __post_init__(self) -> None:
        self.policies.append(self.charge)

    def edit(self, charge: Charge) -> None:
        """Another policy from now on."""
        self.era += 1
        self.charge = charge
        self.policies.append(charge)

    def arrive(self, amount: int, *, hold: bool) -> bool:
        """A call asks; returns whether it was admitted."""
        call_id, charge = new_id("call"), self._charging(amount)
        must = self._fits(amount)
        if hold:
            admitted = held.reserve(self.connection, call_id, [charge], self.now) is None
            if admitted:
                self.reserved[call_id] = amount
        else:
            taken = slots.take(self.connection, [charge], self.now)
            admitted = self._note(call_id, charge, taken, held=False)
        assert admitted or not must, "it fits, and was refused"
        return admitted

    def claim(self, call_id: str) -> None:
        """A held call is approved: its slot is stamped by the present policy."""
        charge, must = self._charging(self.reserved[call_id]), self._fits(self.reserved[call_id], besides=call_id)
        taken = held.stamp(self.connection, call_id, [charge], self.now)
        assert self._note(call_id, charge, taken, held=True) or not must
        if isinstance(taken, Taken):
            del self.reserved[call_id]

    def release(self, call_id: str) -> None:
        """A claimed call could not be sent: it is held again."""
        held.hold_again(self.connection, call_id)
        self.reserved[call_id] = self.calls.pop(call_id).amount

    def give_back(self, call_id: str) -> None:
        """A call was never sent."""
        if call_id in self.reserved:
            held.give_back(self.connection, call_id)
            del self.reserved[call_id]
            return
        call = self.calls.pop(call_id)
        if call.held:
            held.give_back(self.connection, call_id)
        else:
            slots.give_back(self.connection, call.taken.slots)

    def send(self, call_id: str) -> None:
        """A call is sent, or is not when it is late and the limit is used up meanwhile."""
        call = self.calls[call_id]
        if call.taken.late(self.now):
            if call.held:
                tries = call.taken.tries + 1
                taken = held.stamp(self.connection, call_id, [call.charge], self.now, tries=tries)
            else:
                taken = slots.take_anew(self.connection, call.taken, [call.charge], self.now)
            if isinstance(taken, LimitReached):
                del self.calls[call_id]
                if call.held:
                    self.reserved[call_id] = call.amount
                return
            call.taken, call.decided = taken, self.now
        call.sent = self.now

    @property
    def waiting(self) -> list[str]:
        """Calls that are admitted and not sent."""
        return [call_id for call_id, call in self.calls.items() if call.sent is None]

    def pass_to_the_edge(self, number: int) -> None:
        """Time passes until the last instant at which a call may be sent as it is, or the first at which one fits."""
        ends = [EPOCH + call.taken.slots[0].until * MICROSECOND for call in self.calls.values() if call.sent is None]
        edges = [edge for edge in (*ends, self.told) if edge is not None and edge > self.now]
        if edges:
            self.now = edges[number % len(edges)]

    def check(self) -> None:
        """In no interval as long as a policy's window were more sent than it admits, of what was decided under it."""
        for era, charge in enumerate(self.policies):
            sent = [(call.sent, call.amount) for call in self.calls.values() if call.sent and call.era == era]
            for at, _ in sent:
                together = sum(amount for other, amount in sent if at <= other <= at + charge.window)
                assert together <= charge.max * UNIT

    def _charging(self, amount: int) -> Charge:
        it = self.charge
        return Charge(
            it.upstream, it.counter, it.scope, it.scope_value, it.window, it.max, it.rule, None, amount, it.calendar
        )

    def _note(self, call_id: str, charge: Charge, taken: Taken | LimitReached, *, held: bool) -> bool:
        if isinstance(taken, LimitReached):
            self.told = taken.free_at
            return False
        self.calls[call_id] = Sending(charge, charge.amount, self.era, taken, self.now, held)
        return True

    def _fits(self, amount: int, besides: str = "") -> bool:
        """Whether it has to be admitted, however buckets are drawn."""
        counting = [call.amount for call in self.calls.values() if call.may_count(self.now, self.charge.window)]
        reserved = [reserved for call_id, reserved in self.reserved.items() if call_id != besides]
        return sum(counting) + sum(reserved) + amount <= self.charge.max * UNIT
