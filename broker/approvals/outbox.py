"""The outbox: tells what people outside are owed, one channel each, for as long as the broker runs.

What belongs here: when something is told, for how long that is tried, and what becomes of failures. What does not: what
is told and where (`broker.approvals.notices`), what is owed (`broker.store.notices`).

Nobody waits for an outbox: a change marks in its own transaction what it makes untrue, and that is all it does for
people outside. What is untrue is rewritten beside what is posted, so that it waits for no message and for no place
that asks for fewer of them: vendors limit posting far more than rewriting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from sqlmodel import Session

from broker import stop_points
from broker.approvals.feed import Feed
from broker.approvals.hints import LOOK_EVERY, Hint
from broker.approvals.notices import ANNOUNCED, ANSWERED, Channel, Notice, Remark, to_remark, worth_posting
from broker.approvals.troubles import Trouble, Troubles, Way, delay, is_of_place
from broker.domain.approvals import Approval
from broker.domain.audit import Row
from broker.errors import MessageGone, StoreError
from broker.stop_points import Point
from broker.store import approvals, audit
from broker.store import notices as stored
from broker.store.notices import Owed
from broker.store.writer import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

LIMIT = 10.0
"""Seconds that a channel has for one message."""

LEASE = timedelta(seconds=60)
"""How long nobody else tells what one process is telling."""

TRIES = 6
"""How often a message is tried that is itself to blame for its failures; what else fails is tried without an end."""

OLD = timedelta(days=1)
"""How long after its decision an approval that is over does not matter any more where nothing can be told."""


@dataclass(frozen=True, slots=True)
class _Next:
    """What is to be told first of what is owed: an approval as it stands, or a remark. `more` comes after it."""

    what: Notice | Remark | None = None
    more: bool = False


class Outbox:
    """Tells in one channel what is owed there.

    Args:
        process: who tells it, of several processes.
        card: the address of an approval's card, by its id.
        limit: the seconds that the channel has for one message.
    """

    def __init__(
        self,
        channel: Channel,
        store: Store,
        feed: Feed,
        process: str,
        card: Callable[[str], str],
        *,
        limit: float = LIMIT,
    ) -> None:
        self.channel = channel
        self._process = process
        self._store = store
        self._feed = feed
        self._card = card
        self._limit = limit
        self._troubles = Troubles()
        self._served: dict[Way, int] = {}
        self._ending = False
        self._ended = asyncio.Event()
        self._hints = {untrue: Hint() for untrue in (True, False)}

    async def begin(self) -> None:
        """From the first time on, what is to be announced is.

        Raises:
            StoreError: the store cannot be written.
        """
        await self._store.write(lambda tx: stored.begin(tx.session, self.channel.name, self.channel.default))

    async def run(self) -> None:
        """Tell what is owed until `end`, or until cancelled. A store that cannot be used is tried again."""
        listening = asyncio.ensure_future(self._listen())
        try:
            await asyncio.gather(*(self._go_on(untrue, hint) for untrue, hint in self._hints.items()))
        finally:
            listening.cancel()
            self._ended.set()

    async def end(self, within: float) -> None:
        """Begin nothing new; return when what is being told is told, after `within` seconds at the latest."""
        self._ending = True
        self._give_hints()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._ended.wait()

    async def deliver(self) -> None:
        """Tell all that is due: what is untrue, and then what is new.

        Raises:
            StoreError: the store cannot be used.
        """
        while any([await self._deliver(untrue) for untrue in self._hints]):
            pass

    async def trouble(self) -> Trouble | None:
        """What is in the way of what is owed now, the longest trouble first; None when nothing is.

        Raises:
            StoreError: the store cannot be read.
        """
        waiting = await self._store.read(lambda session: stored.waiting(session, self.channel.name, ANNOUNCED))
        return self._troubles.longest(waiting)

    # -- what is next -------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        while True:  # a feed that stumbles cuts its followers off
            async for _ in self._feed.follow():
                self._give_hints()

    def _give_hints(self) -> None:
        for hint in self._hints.values():
            hint.give()

    async def _go_on(self, untrue: bool, hint: Hint) -> None:
        while not self._ending:
            try:
                await self._deliver(untrue)
            except StoreError as error:
                self._warn(error)
            except Exception:  # whatever it was, the other messages have to come
                log.exception("%s: somebody may be told too late.", self.channel.name)
            await hint.wait()

    async def _deliver(self, untrue: bool) -> bool:
        """Tell what is due of what is untrue, or of the rest, one message after the other; returns whether any was."""
        told = False
        while not self._ending and (owed := await self._take(untrue)) is not None:
            told = True
            await self._attempt(owed)
        return told

    async def _take(self, untrue: bool) -> Owed | None:
        """Take what is to be told next, each place in its turn."""
        now, name = self._store.now(), self.channel.name
        looking = partial(stored.first_of_each_place, channel=name, announced=ANNOUNCED, untrue=untrue, now=now)
        due = await self._store.look_up(looking)
        for first in sorted(due, key=self._turn):
            if self._troubles.resting(_way(first), now):
                continue
            taking = partial(stored.take, owed_id=first.id, holder=self._process, lease=LEASE)
            if (owed := await self._store.write(lambda tx, take=taking: take(tx.session, now=tx.now))) is not None:
                self._served[_way(owed)] = max(self._served.values(), default=0) + 1
                return owed
        return None

    def _turn(self, owed: Owed) -> tuple[int, int]:
        return self._served.get(_way(owed), 0), owed.id

    def _next(self, owed: Owed, session: Session) -> _Next:
        if owed.approval_id is None:
            row = audit.next_about_no_call(session, ANNOUNCED, owed.told)
            return _Next(Remark(row) if row is not None else None)
        approval = approvals.get(session, owed.approval_id)
        if approval is None or (owed.reference is None and not worth_posting(approval)):
            return _Next()
        notice = Notice(replace(approval, sealed=None), self._card(approval.id))
        remarks = to_remark(approval, audit.history(session, None, approval.id), owed.told)
        if owed.reference is None or owed.outdated:
            return _Next(notice, more=bool(remarks))
        if not remarks:
            return _Next()
        return _Next(Remark(remarks[0], notice, _answer(session, approval, remarks[0])), more=len(remarks) > 1)

    # -- telling it ---------------------------------------------------------------------------------------------------

    async def _attempt(self, owed: Owed) -> None:
        """Tell one message, and keep what came of it."""
        found = _Next()
        try:
            found = await self._store.look_up(partial(self._next, owed))
            after = await self._tell(owed, found.what)
        except StoreError as error:
            self._warn(error)
            await self._try_again(owed)
        except MessageGone:
            await self._try_again(replace(owed, reference=None))
        except Exception as error:  # noqa: BLE001 - it is told, logged and counted
            self._troubles.failed(_way(owed), error, self._store.now())
            if self._is_hopeless(owed, found.what, error):
                await self._leave_out(owed, found.what)
            else:
                await self._try_again(owed)
        else:
            if found.more:
                await self._settle(after, self._store.now())
            else:
                await self._settle(replace(after, attempts=0), None)

    async def _tell(self, owed: Owed, what: Notice | Remark | None) -> Owed:
        """Returns how far it is told then. Raises whatever the channel raised, or TimeoutError."""
        match what:
            case Notice():
                reference = await self._within_limit(self.channel.show(owed.place, what, owed.reference))
                stop_points.reached(Point.BEFORE_MESSAGE_IS_STORED)
                after = replace(owed, reference=reference, shown=owed.wanted)
            case Remark():
                await self._within_limit(self.channel.say(owed.place, what, owed.reference))
                after = replace(owed, told=what.row.seq, attempts=0)
            case None:
                return replace(owed, shown=owed.wanted)
        self._troubles.worked(_way(owed))
        return after

    async def _within_limit(self, telling: Awaitable[T]) -> T:
        """What the channel returns. One that does not even end when it is cancelled is not waited for."""
        task = asyncio.ensure_future(telling)
        try:
            await asyncio.wait({task}, timeout=self._limit)
        finally:
            task.cancel()
        if not task.done() or task.cancelled():
            raise TimeoutError(f"no answer within {self._limit:g} s")
        return task.result()

    # -- what came of it ----------------------------------------------------------------------------------------------

    def _is_hopeless(self, owed: Owed, what: Notice | Remark | None, error: Exception) -> bool:
        if not is_of_place(error):
            return owed.attempts + 1 >= TRIES
        notice = what.notice if isinstance(what, Remark) else what
        if notice is None or not notice.approval.state.final or notice.approval.resolution is None:
            return False
        return self._store.now() >= notice.approval.resolution.at + OLD

    async def _leave_out(self, owed: Owed, what: Notice | Remark | None) -> None:
        """Tell it no more, and then what comes after it; a message is tried again when its approval changes."""
        if isinstance(what, Remark):
            await self._settle(replace(owed, told=what.row.seq, attempts=0), self._store.now())
        else:
            await self._settle(replace(owed, shown=owed.wanted, attempts=0), None)

    async def _try_again(self, owed: Owed) -> None:
        failures = owed.attempts + 1
        await self._settle(replace(owed, attempts=failures), self._store.now() + delay(failures))

    async def _settle(self, owed: Owed, due: datetime | None) -> None:
        """Keep it, however long that takes: what is told and not kept would be told twice."""
        while True:
            try:
                await self._store.write(lambda tx: stored.settle(tx.session, owed, due, tx.now))
            except StoreError as error:
                self._warn(error)
                await asyncio.sleep(LOOK_EVERY)
            else:
                break
        self._give_hints()  # whoever tells the other kind of message may have this one next

    def _warn(self, error: StoreError) -> None:
        log.warning("%s %s: nobody is told anything until it can.", error, self.channel.name)


def _way(owed: Owed) -> Way:
    return owed.place, owed.outdated


def _answer(session: Session, approval: Approval, row: Row) -> Any:
    """What the server answered, where `row` notes that it did."""
    if row.kind not in ANSWERED:
        return None
    kept = audit.contents(session, approval.call.id)
    return kept.get("result") if "redacted" not in kept else None
