"""Runs tasks with nobody connected: what was approved, and what has the input that its tool asked for.

What belongs here: finding what can go on, and when it is tried again. What does not: the one way on which an approval
leads to an execution (`execution`), requests about tasks (`tasks`).

The store is the queue: a task that waits costs a row, and any process may find it when it can go on, also after a
restart. Of several that do, one claims it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from broker.approvals.feed import Feed
from broker.approvals.hints import Hint
from broker.approvals.service import Approvals
from broker.domain.audit import Kind
from broker.domain.tasks import Errand
from broker.errors import StoreError
from broker.gateway.asker import Asker
from broker.gateway.inbound import Inbound

log = logging.getLogger(__name__)

RETRY_AFTER, LONGEST_RETRY = 1.0, 30.0
"""Seconds until what could not be sent is tried again; twice as long each time."""

_NEWS = frozenset({Kind.APPROVAL_APPROVED, Kind.APPROVAL_RESUMED, Kind.APPROVAL_ASKED})
"""What may let a task go on."""


class Nobody(Asker):
    """Who asks when a task runs: what is said on the way goes nowhere, and nobody hangs up."""

    __slots__ = ("_called_off",)

    def __init__(self, inbound: Inbound) -> None:
        super().__init__(inbound, lambda: None)
        self.line.end()
        self._called_off = False

    def call_off(self) -> None:
        """The agent cancelled its task."""
        self._called_off = True
        self.news.set()

    @property
    def cancelled(self) -> bool:
        """Whether the agent cancelled its task."""
        return self._called_off


@dataclass(slots=True)
class _Attempts:
    made: int = 0
    next_at: float = 0.0


Start = Callable[[Errand], tuple[Nobody, asyncio.Task[None]] | None]
"""Begins to run an errand; None when nothing new runs any more."""


class Errands:
    """All that this process runs with nobody connected; `feed` tells it, and who else has to know, what happens."""

    def __init__(self, approvals: Approvals, feed: Feed) -> None:
        self._approvals = approvals
        self.feed = feed
        self._starts: dict[str, Start] = {}
        self._running: dict[str, Nobody] = {}
        self._attempts: dict[tuple[str, int], _Attempts] = {}
        self._hint = Hint()

    def serve(self, upstream: str, start: Start) -> None:
        """Tasks of this upstream are run by `start`."""
        self._starts[upstream] = start

    def nudge(self) -> None:
        """Something was just committed that may let a task go on, or end it: look now."""
        self._hint.give()

    async def run(self) -> None:
        """Look for what can go on, and run it, until cancelled. A store that cannot be read is tried again."""
        listening = asyncio.ensure_future(self._listen())
        try:
            while True:
                try:
                    await self._look()
                except StoreError as error:
                    log.warning("%s Tasks that can go on wait until it can.", error)
                except Exception:  # whatever it was, tasks have to run
                    log.exception("A task that can go on may be run too late.")
                await self._hint.wait()
        finally:
            listening.cancel()

    async def _listen(self) -> None:
        while True:  # a feed that stumbles cuts its followers off
            async for row in self.feed.follow():
                if row.kind in _NEWS:
                    self._hint.give()

    async def _look(self) -> None:
        for task_id in await self._approvals.tasks.called_off(list(self._running)):
            if (asker := self._running.get(task_id)) is not None:
                asker.call_off()
        due = await self._approvals.tasks.due()
        self._attempts = {key: self._attempts.get(key, _Attempts()) for key in map(_key, due)}
        for errand in due:
            try:
                await self._attend(errand)
            except StoreError as error:
                log.warning("%s Task %s waits until it can.", error, errand.approval.id)
            except Exception:  # whatever it was, the other tasks have to run
                log.exception("Task %s may be run or ended too late.", errand.approval.id)

    async def _attend(self, errand: Errand) -> None:
        if errand.lost:
            await self._approvals.tasks.give_up(errand.approval.id)
        else:
            self._begin(errand, self._attempts[_key(errand)])

    def _begin(self, errand: Errand, attempts: _Attempts) -> None:
        task_id, now = errand.approval.id, asyncio.get_running_loop().time()
        start = self._starts.get(errand.approval.call.upstream)
        if start is None or task_id in self._running or now < attempts.next_at:
            return
        attempts.next_at = now + min(RETRY_AFTER * 2**attempts.made, LONGEST_RETRY)
        attempts.made += 1
        if (begun := start(errand)) is not None:
            self._running[task_id], task = begun
            task.add_done_callback(partial(self._ended, task_id))

    def _ended(self, task_id: str, _: asyncio.Task[None]) -> None:
        del self._running[task_id]
        self.nudge()


def _key(errand: Errand) -> tuple[str, int]:
    """What is tried: the task, and how often its tool has asked for input."""
    return errand.approval.id, errand.approval.rounds
