"""Brief works of an event loop on PostgreSQL: sent from the loop as one message, and what gathers meanwhile goes next.

What belongs here: which works go together, and what becomes of them. What does not: what is sent
(`broker.store.drafts`), the connection (`broker.store.pipeline`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from math import inf
from typing import Any

import psycopg
from sqlalchemy import Engine

from broker.domain.clock import Clock
from broker.store.commits import Item, unwritten
from broker.store.drafts import Draft, statements
from broker.store.engine import first_line
from broker.store.pipeline import Pipeline
from broker.store.slots import Crowded

log = logging.getLogger(__name__)

MOST = 256
"""Works in one transaction, which other processes wait for."""

AGAIN = 1.0
"""Seconds after which a connection that could not be opened is tried again."""


class Flow:
    """The works of the one loop that came first, one transaction after the other.

    Args:
        crowded: counters for which it is not hoped that there is room.
        hand_over: takes what cannot be written here.
        threads: in one of which a connection is opened.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        crowded: Crowded,
        hand_over: Callable[[Item[Any]], None],
        threads: Executor,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._crowded = crowded
        self._hand_over = hand_over
        self._threads = threads
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pipeline: Pipeline | None = None
        self._opening = self._closed = False
        self._try_at = 0.0
        self._waiting: list[Item[Any]] = []
        self._sent: list[Item[Any]] = []
        self._due: asyncio.Handle | None = None
        self._at = inf

    def take(self, item: Item[Any], within: float) -> bool:
        """Write it in so many seconds, 0 at the end of this turn; returns whether that can be done from its loop."""
        self._loop = self._loop or item.loop
        if item.loop is not self._loop:
            return False
        if self._pipeline is None:
            self._open(item.loop)
            return False
        self._waiting.append(item)
        at = item.loop.time() + within if within else 0.0
        if at < self._at and not self._sent:
            self._forget()
            self._at = at
            self._due = item.loop.call_at(at, self._send) if within else item.loop.call_soon(self._send)
        return True

    def close(self) -> None:
        """Hear what came of the works that were sent, and hand over those that were not."""
        self._closed = True
        self._forget()
        self._hand_over_waiting()
        while self._sent and self._pipeline is not None:
            try:
                self._pipeline.wait()
            except psycopg.Error as error:
                self._lost(error)
            else:
                self._heard()
        self._drop()

    # -- the connection -----------------------------------------------------------------------------------------------

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._opening and loop.time() >= self._try_at:
            self._opening = True
            self._try_at = loop.time() + AGAIN
            self._threads.submit(self._opened, loop)

    def _opened(self, loop: asyncio.AbstractEventLoop) -> None:
        """In another thread."""
        pipeline: Pipeline | None = None
        try:
            pipeline = Pipeline(self._engine)
        except Exception as error:  # noqa: BLE001 - works go to the writer, which tells them what is wrong
            log.warning("The record has no connection of its own: %s", first_line(error))
        try:
            loop.call_soon_threadsafe(self._use, pipeline)
        except RuntimeError:  # the loop is closed
            if pipeline is not None:
                pipeline.close()

    def _use(self, pipeline: Pipeline | None) -> None:
        self._opening = False
        if pipeline is not None and self._closed:
            pipeline.close()
        elif pipeline is not None and self._loop is not None:
            self._pipeline = pipeline
            self._try_at = 0.0
            self._loop.add_reader(pipeline, self._heard)

    def _drop(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None and self._loop is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(pipeline)
                self._loop.remove_writer(pipeline)
            pipeline.close()

    # -- a transaction ------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        self._due, self._at = None, inf
        while (pipeline := self._pipeline) is not None and self._waiting and not self._sent:
            try:
                pipeline.check()  # before anything is lost with it
                if drafts := self._drafted():
                    pipeline.send(statements(drafts))
                    self._write(pipeline)
            except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits
                self._lost(error)

    def _drafted(self) -> list[Draft]:
        """What the next works write, as far as it can be foreseen; the others are handed over."""
        now = self._clock.now()
        items, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        drafts: list[Draft] = []
        for item in items:
            draft = Draft(now, self._crowded)
            try:
                item.result = item.work(draft)
                draft.finish()
            except Exception:  # noqa: BLE001 - it is told where the work is run with the database
                self._hand_over(item)
            else:
                drafts.append(draft)
                self._sent.append(item)
        return drafts

    def _write(self, pipeline: Pipeline) -> None:
        if self._loop is None:
            return
        if pipeline.sent():
            self._loop.remove_writer(pipeline)
        else:
            self._loop.add_writer(pipeline, self._heard)

    def _heard(self) -> None:
        """Something came, or more can be written."""
        if (pipeline := self._pipeline) is None:
            return
        try:
            pipeline.heard()
            if not self._sent:
                return
            self._write(pipeline)
            over = pipeline.over()
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits
            self._lost(error)
            return
        if over:
            self._over(pipeline.failed)

    def _over(self, failed: str | None) -> None:
        items, self._sent = self._sent, []
        if failed is None:
            for item in items:
                item.settle()
        else:  # nothing of it was done
            log.debug("Works are run with the database: %s", failed.strip())
            for item in items:
                self._hand_over(item)
        self._send()

    def _lost(self, error: Exception) -> None:
        """Nobody knows whether what was sent is written: those who wait for it hear that it is not."""
        items, self._sent = self._sent, []
        if items:
            log.error("A commit failed: %s", first_line(error))
        for item in items:
            item.error = unwritten(error)
            item.settle()
        self._forget()
        self._hand_over_waiting()
        self._drop()

    def _hand_over_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for item in waiting:
            self._hand_over(item)

    def _forget(self) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due, self._at = None, inf
