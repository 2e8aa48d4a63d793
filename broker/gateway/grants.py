"""Finding the grant behind a bearer token, without a query for each request.

A known grant is looked at again after half a second, so a revocation reaches here within one; an unknown token is
always looked up, so a new grant works at once.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from broker.domain.canonical import token_hash
from broker.domain.clock import Clock
from broker.domain.people import Grant
from broker.store import grants
from broker.store.writer import Store

FRESH_FOR = timedelta(seconds=0.5)
MOST_KEPT = 10_000


class Grants:
    """Live grants by their tokens."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, tuple[datetime, Grant]] = {}

    async def by_token(self, token: str) -> Grant | None:
        """The live grant that `token` belongs to, or None.

        Raises:
            StoreError: it cannot be looked up.
        """
        key, now = token_hash(token), self._clock.now()
        known = self._known.get(key)
        if known is None or not timedelta(0) <= now - known[0] < FRESH_FOR:
            grant = await self._store.look_up(lambda session: grants.by_token(session, token))
            self._remember(key, now, grant)
        else:
            grant = known[1]
        return grant if grant is not None and grant.live(now) else None

    async def ended(self, ids: Collection[str]) -> frozenset[str]:
        """Those of `ids` whose grant is over; from now on their tokens are unknown.

        Raises:
            StoreError: they cannot be looked up.
        """
        now = self._clock.now()
        found = await self._store.look_up(lambda session: grants.by_ids(session, ids))
        over = frozenset(ids) - {grant.id for grant in found if grant.live(now)}
        if over:
            self._known = {key: known for key, known in self._known.items() if known[1].id not in over}
        return over

    def _remember(self, key: str, now: datetime, grant: Grant | None) -> None:
        self._known.pop(key, None)
        if grant is not None:
            if len(self._known) >= MOST_KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[key] = (now, grant)
