"""How many wrong proofs of who somebody is are listened to, in a minute: from one address, and from all together.

What belongs here: counting, in this process alone. What does not: judging a proof.

A secret of 256 bits is not guessed, however often one tries. So a right link or token always counts, whoever else at
the same address tries wrong ones: who counts must not be a way to lock people out. What wrong ones get is an answer
that costs nothing more. Where it takes a provider to judge, who asks is counted before; there an address that has not
failed itself is never refused for the others.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address

from broker.domain.clock import Clock
from broker.errors import TooManyAttempts

MINUTE = timedelta(minutes=1)


class Attempts:
    """Failed attempts of the present minute.

    Args:
        each: how many one address has.
        together: how many all have; then an address that failed once has no more.
        addresses: how many are remembered, those that failed last.
    """

    def __init__(self, clock: Clock, *, each: int = 20, together: int = 300, addresses: int = 10_000) -> None:
        self._clock = clock
        self._each = each
        self._together = together
        self._addresses = addresses
        self._since = clock.now()
        self._failed: OrderedDict[str, int] = OrderedDict()
        self._total = 0

    def check(self, address: str) -> None:
        """Raise when `address` has used its attempts up.

        Raises:
            TooManyAttempts: says when to try again.
        """
        now = self._begin()
        mine = self._failed.get(_network(address), 0)
        if mine >= (self._each if self._total < self._together else 1):
            raise TooManyAttempts(max(1, round((self._since + MINUTE - now).total_seconds())))

    def failed(self, address: str) -> None:
        """Count one that was wrong.

        Raises:
            TooManyAttempts: there were too many before.
        """
        self.check(address)
        mine = _network(address)
        self._total += 1
        self._failed[mine] = self._failed.pop(mine, 0) + 1
        if len(self._failed) > self._addresses:
            self._failed.popitem(last=False)

    def _begin(self) -> datetime:
        now = self._clock.now()
        if not self._since <= now < self._since + MINUTE:
            self._since, self._total = now, 0
            self._failed.clear()
        return now


def _network(address: str) -> str:
    """What one machine can have of addresses: a /64 of IPv6 is one."""
    try:
        known = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return known.exploded[:19] if isinstance(known, IPv6Address) and known.ipv4_mapped is None else str(known)
