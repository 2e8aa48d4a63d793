"""Brief works of an event loop, committed in its own thread: on SQLite handing them over would cost more than they do.

What belongs here: gathering those of one turn of the loop. What does not: the commit (`commits`), everything that
waits for a disk or for others: that is the writer's (`writer`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any

from broker.store.commits import Busy, Commits, Item, commit

CHECKPOINT_EVERY = 256
"""Commits. Each leaves a handful of pages in SQLite's log, which is as long as it is by default then."""


class Turn:
    """The works of the one loop that came first.

    Args:
        commits: which do not wait.
        hand_over: takes what cannot be committed here because somebody else writes.
        checkpoint: called now and then, to bring SQLite's log into the file elsewhere.
    """

    def __init__(
        self, commits: Commits, hand_over: Callable[[Item[Any]], None], checkpoint: Callable[[], None]
    ) -> None:
        self._commits = commits
        self._hand_over = hand_over
        self._checkpoint = checkpoint
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[Item[Any]] = []
        self._due: asyncio.Handle | None = None
        self._at = inf
        self._made = 0

    def take(self, item: Item[Any], within: float) -> bool:
        """Commit it in so many seconds, 0 at the end of this turn; returns whether that can be done in its loop."""
        self._loop = self._loop or item.loop
        if item.loop is not self._loop:
            return False
        self._waiting.append(item)
        at = item.loop.time() + within if within else 0.0
        if at < self._at:
            self._forget()
            self._at = at
            self._due = item.loop.call_at(at, self._commit) if within else item.loop.call_soon(self._commit)
        return True

    def close(self) -> None:
        """Hand over what waits."""
        self._forget()
        for item in self._taken():
            self._hand_over(item)
        self._commits.close()

    def _commit(self) -> None:
        items = self._taken()
        try:
            commit(self._commits, items)
        except Busy:
            for item in items:
                self._hand_over(item)
            return
        for item in items:
            item.settle()
        self._made += 1
        if self._made % CHECKPOINT_EVERY == 0:
            self._checkpoint()

    def _taken(self) -> list[Item[Any]]:
        taken, self._waiting, self._due, self._at = self._waiting, [], None, inf
        return taken

    def _forget(self) -> None:
        if self._due is not None:
            self._due.cancel()
