"""The roll call: whether those who have a stream open are still who they were when they asked for it.

What belongs here: looking all of them up at once, each beat. What does not: what a stream tells (`broker.web.events`),
who sent a request (`broker.web.identity`).

With hundreds of pages open that must not cost a look-up each: it costs two statements, whoever listens.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from broker.domain.people import Person
from broker.errors import StoreError
from broker.store import people
from broker.store.people import Proof
from broker.store.writer import Store

log = logging.getLogger(__name__)

BEAT = 2.0
"""Seconds between two roll calls, and after which a silent stream carries a beat."""


@dataclass(eq=False, slots=True)
class Present:
    """Somebody who has a stream open.

    Args:
        person: who they were when they opened it, which they showed with `proof`.
        seen: when they were last found to be the same, in seconds of `monotonic`.
        gone: done once they were not.
    """

    person: Person
    proof: Proof
    seen: float
    gone: asyncio.Future[None]


class RollCall:
    """Finds out who has changed, was removed or signed out, for as long as anybody has a stream open."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._present: set[Present] = set()
        self._called = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    @contextmanager
    def attended(self, person: Person, proof: Proof) -> Generator[Present]:
        """A context in which `person`, who was just found by `proof`, is called."""
        present = Present(person, proof, monotonic(), asyncio.get_running_loop().create_future())
        self._present.add(present)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        try:
            yield present
        finally:
            self._present.discard(present)
            self._rest()

    async def is_as_before(self, present: Present) -> bool:
        """Whether they may be told something: they were seen less than a beat ago, or are at the next roll call."""
        while not present.gone.done() and monotonic() - present.seen >= BEAT:
            await self._called.wait()
        return not present.gone.done()

    def _rest(self) -> None:
        if not self._present and self._running is not None:
            self._running.cancel()
            self._running = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            called = list(self._present)
            known = await self._known({each.proof for each in called})
            seen = monotonic()
            for each in called:
                if known.get(each.proof) == each.person:
                    each.seen = seen
                else:
                    each.gone.set_result(None)
                    self._present.discard(each)
            self._called.set()
            self._called = asyncio.Event()

    async def _known(self, proofs: set[Proof]) -> Mapping[Proof, Person]:
        now = self._store.now()
        try:
            return await self._store.read(lambda session: people.known(session, proofs, now))
        except StoreError:
            return {}  # cannot tell: the browsers come back and are asked again
        except Exception:  # a row that somebody altered, say
            log.exception("Who has a page open could not be looked up; all of them are asked again.")
            return {}
