"""The board: what changed in the queue, read and rendered once for all the pages of this process that show it.

What belongs here: following the feed for them, gathering what comes in bursts. What does not: which of it a page is
told (`broker.web.queue`), the row's markup (`rows`).

With hundreds of pages open a change must not cost a page each: it costs one query and one rendering, whoever listens.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlmodel import Session

from broker.approvals.feed import Feed
from broker.domain.approvals import State
from broker.errors import StoreError
from broker.store import approvals as stored
from broker.store import listed as lists
from broker.store.approvals import ApprovalFilter
from broker.store.listed import Listed
from broker.store.writer import Store
from broker.web.rows import row

log = logging.getLogger(__name__)

PAUSE = 0.2
"""Seconds after news in which more is gathered before it is told."""

BACKLOG = 50
"""How often a slow page may be behind; then it is cut off, and reads everything again."""


RowPlace = tuple[str | None, bool]
"""In which list of a page a row belongs, if in any, and whether it waits for the page's reader."""

Told = tuple[int | None, tuple[RowPlace, ...]]
"""What of some news differs from page to page: the total, and the places of what is listed."""


@dataclass(frozen=True, eq=False, slots=True)
class News:
    """What changed since the last news.

    Args:
        at: when it was read.
        listed: the approvals, as they are now.
        markup: their rows, as JSON strings, by id and by whether it waits for its reader.
        totals: how many match each filter that somebody listens with.
        events: as a stream tells it, by the total and the places of the rows: the same bytes for all who see the same.
    """

    at: datetime
    listed: list[Listed]
    markup: Mapping[tuple[str, bool], str]
    totals: Mapping[ApprovalFilter, int]
    events: dict[Told, bytes] = field(default_factory=dict[Told, bytes])


@dataclass(frozen=True, eq=False, slots=True)
class _Listener:
    wanted: ApprovalFilter
    news: asyncio.Queue[News | None]

    def cut_off(self) -> None:
        while self.news.full():
            self.news.get_nowait()
        self.news.put_nowait(None)


class Board:
    """Tells pages what changed, for as long as there are any."""

    def __init__(self, store: Store, feed: Feed) -> None:
        self._store = store
        self._feed = feed
        self._listeners: set[_Listener] = set()
        self._changed: set[str] = set()
        self._hint = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def follow(self, wanted: ApprovalFilter) -> AsyncGenerator[News]:
        """News from now on, with the total of `wanted`; ends when the page is too slow or the feed stops.

        The first is empty: who has it is told of whatever happens from then on.
        """
        listener = _Listener(wanted, asyncio.Queue(BACKLOG))
        self._listeners.add(listener)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        try:
            yield News(self._store.now(), [], {}, {})
            while (news := await listener.news.get()) is not None:
                yield news
        finally:
            self._listeners.discard(listener)
            self._rest()

    def _rest(self) -> None:
        if not self._listeners and self._running is not None:
            self._running.cancel()
            self._running = None

    async def _run(self) -> None:
        telling = asyncio.create_task(self._tell())
        try:
            async for changed in self._feed.follow():
                self._changed.add(changed.approval_id or "")
                self._hint.set()
            self._dismiss()
        finally:
            telling.cancel()

    async def _tell(self) -> None:
        while True:
            await self._hint.wait()
            self._hint.clear()
            changed, self._changed = self._changed, set()
            try:
                news = await self._news(changed)
            except StoreError as error:
                log.warning("%s Open queues are told to look again.", error)
                self._dismiss()
            except Exception:  # a row that somebody altered, say
                log.exception("Changes in the queue could not be shown; open queues are told to look again.")
                self._dismiss()
            else:
                self._hand_out(news)
            await asyncio.sleep(PAUSE)

    async def _news(self, changed: Collection[str]) -> News:
        filters = {listener.wanted for listener in self._listeners}

        def read(session: Session) -> tuple[list[Listed], dict[ApprovalFilter, int]]:
            return lists.by_ids(session, changed), {each: stored.count(session, each) for each in filters}

        listed, totals = await self._store.read(read)
        now = self._store.now()
        return News(now, listed, await asyncio.to_thread(_markup, listed, now), totals)

    def _hand_out(self, news: News) -> None:
        for listener in list(self._listeners):
            if listener.news.full():
                listener.cut_off()
            else:
                listener.news.put_nowait(news)

    def _dismiss(self) -> None:
        for listener in list(self._listeners):
            listener.cut_off()


def _markup(listed: Collection[Listed], now: datetime) -> dict[tuple[str, bool], str]:
    return {
        (each.approval.id, mine): json.dumps(row(each, now, mine=mine))
        for each in listed
        for mine in ((False, True) if each.approval.state is State.PENDING else (False,))
    }
