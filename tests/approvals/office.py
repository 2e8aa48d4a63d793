"""An office: a desk whose approvals are told on a notice board, as tests of the outbox use it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Any

import aiohttp

from broker.approvals.feed import Feed
from broker.approvals.ledger import Rules
from broker.approvals.notices import ANNOUNCED, Channel, Notice
from broker.approvals.outbox import Outbox
from broker.approvals.sweeps import recover
from broker.approvals.troubles import RARELY
from broker.domain.approvals import Approval, Decision
from broker.domain.canonical import new_id
from broker.domain.people import Person
from broker.store import notices
from broker.store.writer import Store
from tests.approvals.desk import Desk, hold
from tests.servers import BOUND
from tests.servers.board import Board, BoardChannel, Message, running_board, shown

MAIN = "slack:#approvals"


def card(approval_id: str) -> str:
    """The address of a card."""
    return f"https://broker.example.com/approvals/{approval_id}"


@dataclass
class Office:
    """A desk, the board, and the outbox between them; nothing is told before the test says so.

    The channel has all the time that a test has, so that a busy machine is not taken for a channel that hangs.
    """

    desk: Desk
    board: Board
    channel: Channel
    outbox: Outbox
    _times: Iterator[int] = field(default_factory=count)

    @classmethod
    async def at(cls, desk: Desk, board: Board, channel: Channel) -> Office:
        """One with a new outbox."""
        desk.approvals = desk.service(rules=Rules(channels=frozenset({"web", channel.name})), channels=[channel])
        return cls(desk, board, channel, await cls.another_outbox(desk.store, channel))

    @staticmethod
    async def another_outbox(store: Store, channel: Channel, limit: float = BOUND) -> Outbox:
        """An outbox as another process has it when it has another store."""
        outbox = Outbox(channel, store, Feed(store), new_id("proc"), card, limit=limit)
        await outbox.begin()
        return outbox

    async def restart(self, limit: float = BOUND) -> None:
        """Let another process go on, whose channel has `limit` seconds for a message."""
        await recover(self.desk.approvals, alone=True)
        self.outbox = await self.another_outbox(self.desk.store, self.channel, limit)

    async def held(self, *channels: str, **requirement: Any) -> Approval:
        """A pending approval, of a call that no earlier one is like."""
        return await self.desk.held(hold(channels=channels, **requirement), self.desk.call(nth=next(self._times)))

    async def decided(self, approval: Approval, by: Person, decision: Decision = Decision.APPROVE) -> Approval:
        """A person's word."""
        return await self.desk.review(approval, by, decision)

    async def deliver(self) -> None:
        """Tell what is due."""
        await self.outbox.deliver()

    async def deliver_all(self) -> None:
        """Let time pass until everything is told."""
        for _ in range(40):
            await self.outbox.deliver()
            if not await self.waiting():
                return
            self.desk.clock.advance(RARELY)
        raise AssertionError("something is never told")

    async def wait(self, seconds: float) -> None:
        """Let time pass, and tell what is due then."""
        self.desk.clock.advance(timedelta(seconds=seconds))
        await self.outbox.deliver()

    async def waiting(self) -> set[str]:
        """The places where something is left to tell."""
        left = await self.desk.store.read(lambda session: notices.waiting(session, "slack", ANNOUNCED))
        return {place for place, _ in left}

    async def is_shown(self, approval: Approval, message: Message) -> bool:
        """Whether a message shows the approval as it is now."""
        now = await self.desk.approvals.get(approval.id)
        return message.text == shown(Notice(replace(now, sealed=None), card(approval.id)))

    def of(self, approval: Approval, place: str = MAIN) -> list[Message]:
        """The messages of an approval in a place, oldest first."""
        return [each for each in self.board.at(place) if each.text.get("approval") == approval.id]

    def the(self, approval: Approval, place: str = MAIN) -> Message:
        """Its one message there."""
        [message] = self.of(approval, place)
        return message


async def ended(running: asyncio.Future[None]) -> None:
    """Cancel an outbox that is at work, and see it end."""
    running.cancel()
    await asyncio.wait([running], timeout=BOUND)
    assert running.done()


@contextlib.asynccontextmanager
async def open_office(desk: Desk) -> AsyncGenerator[Office]:
    """An office with an empty board."""
    async with running_board() as board, aiohttp.ClientSession() as http:
        yield await Office.at(desk, board, BoardChannel(board.url, http))
