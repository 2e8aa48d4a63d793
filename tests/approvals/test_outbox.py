"""Telling people when it fails: hanging, slow, refusing and lying channels, crashes, floods."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from broker.approvals.notices import Notice, Reference, Remark
from broker.approvals.outbox import TRIES
from broker.approvals.troubles import LATEST
from broker.domain.approvals import Decision
from tests.approvals.office import MAIN, Office, ended
from tests.clock import NOON
from tests.domain.values import ALICE, BOB
from tests.servers import BOUND
from tests.servers.board import BoardChannel

DESKTOP = "slack:#desktop"

pytestmark = pytest.mark.parametrize("new_store_url", ["sqlite"], indirect=True)  # what both have to do: test_notices


def limit_for(order: str) -> float:
    """Seconds for a message: few only where the test waits for their end."""
    return 0.5 if order in ("hang", "late") else BOUND


async def run_until(office: Office, what: Any) -> asyncio.Task[None]:
    """The outbox at work, once something is true of the board."""
    running = asyncio.ensure_future(office.outbox.run())
    async with asyncio.timeout(BOUND):
        await office.board.until(what)
    return running


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["500", "close", "hang", "429 1"])
async def test_a_message_that_failed_is_tried_again_and_hangs_there_once(office: Office, order: str) -> None:
    await office.restart(limit_for(order))
    approval = await office.held()
    office.board.orders.append(order)
    await office.deliver()
    assert office.of(approval) == []
    trouble = await office.outbox.trouble()
    assert trouble is not None
    assert trouble.sentence.startswith(f"{MAIN}: ")
    assert trouble.since == NOON
    await office.wait(1)
    assert await office.is_shown(approval, office.the(approval))
    assert await office.outbox.trouble() is None


@pytest.mark.parametrize("order", ["500", "close", "hang", "lost", "429 1"])
async def test_a_message_that_could_not_be_rewritten_is_rewritten_later(office: Office, order: str) -> None:
    approval = await office.held()
    await office.deliver()
    await office.restart(limit_for(order))
    await office.decided(approval, ALICE)
    office.board.orders.append(order)
    await office.deliver()
    await office.wait(1)
    assert await office.is_shown(approval, office.the(approval))
    assert [each["kind"] for each in office.the(approval).below] == ["approval.approved"]


@pytest.mark.parametrize("order", ["lost", "late"])
async def test_a_message_whose_answer_is_lost_hangs_there_twice_and_the_last_is_kept_true(
    office: Office, order: str
) -> None:
    await office.restart(limit_for(order))
    approval = await office.held()
    office.board.orders.append(order)
    await office.deliver()
    await office.wait(1)
    await office.decided(approval, ALICE)
    await office.deliver()
    first, second = office.of(approval)
    assert first.text["state"] == "pending"
    assert await office.is_shown(approval, second)


async def test_it_is_tried_less_and_less_often_but_never_given_up(office: Office) -> None:
    await office.held()
    office.board.orders.extend(["500"] * 1000)
    tried: list[int] = []
    for second in range(200):
        before = len(office.board.asked)
        await office.wait(1)
        tried.extend([second] * (len(office.board.asked) - before))
    gaps = [after - before for before, after in pairwise(tried)]
    assert gaps[0] <= 2
    assert 30 <= max(gaps) <= 61
    assert 7 <= len(tried) <= 16


async def test_a_place_that_asks_to_be_left_alone_is_and_the_others_are_not(office: Office) -> None:
    asked_first, other = await office.held(), await office.held(DESKTOP)
    office.board.orders.append("429 30")
    await office.deliver()
    assert (len(office.of(asked_first)), len(office.of(other, DESKTOP))) == (0, 1)
    later = await office.held()
    await office.decided(asked_first, ALICE)
    for seconds in (1, 10, 18.9):
        await office.wait(seconds)
        assert office.board.at(MAIN) == []
    await office.wait(0.2)
    assert await office.is_shown(asked_first, office.the(asked_first))
    assert await office.is_shown(later, office.the(later))


async def test_where_nothing_can_be_posted_is_told_once_and_tried_again_rarely(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.board.missing.add(DESKTOP)
    approval = await office.held(DESKTOP, "slack")
    for _ in range(10):
        await office.deliver()
        assert await office.is_shown(approval, office.the(approval))
        office.desk.clock.advance(timedelta(seconds=29))
    assert len(office.board.asked) == 2
    trouble = await office.outbox.trouble()
    assert trouble is not None
    assert trouble.sentence == f"{DESKTOP}: there is no such place. What is to be told there waits."
    await office.wait(60)
    await office.wait(301)
    assert len(office.board.asked) == 4
    told = [each.getMessage() for each in caplog.records if each.name.startswith("broker.approvals")]
    assert told == [trouble.sentence]
    office.board.missing.clear()
    await office.wait(301)
    assert await office.is_shown(approval, office.the(approval, DESKTOP))
    assert await office.outbox.trouble() is None


async def test_an_old_end_that_can_be_told_nowhere_is_dropped(office: Office) -> None:
    approval = await office.held(DESKTOP, "web")
    await office.deliver()
    await office.decided(approval, ALICE, Decision.REJECT)
    office.board.orders.extend(["404"] * 100)
    await office.wait(23 * 3600)
    assert await office.waiting() == {DESKTOP}
    await office.wait(3600)
    assert await office.waiting() == set()
    assert await office.outbox.trouble() is None


async def test_a_deleted_message_is_posted_anew_with_what_was_still_to_be_said(office: Office) -> None:
    approval = await office.held(quorum=2)
    await office.deliver()
    await office.decided(approval, ALICE)
    await office.deliver()
    office.board.delete(office.the(approval))
    await office.decided(approval, BOB)
    await office.deliver()
    await office.wait(1)
    assert await office.is_shown(approval, office.the(approval))
    assert [each["kind"] for each in office.the(approval).below] == ["approval.approved"]


async def test_a_message_that_is_deleted_before_a_remark_is_posted_anew_for_it(office: Office) -> None:
    approval = await office.held()
    await office.deliver()
    await office.decided(approval, ALICE)
    office.board.orders.append("done")
    office.board.orders.append("410")
    await office.deliver()
    office.board.delete(office.the(approval))
    await office.wait(1)
    assert [each["kind"] for each in office.the(approval).below] == ["approval.approved"]


async def test_a_deleted_message_of_what_is_over_stays_deleted(office: Office) -> None:
    approval = await office.held()
    await office.deliver()
    office.board.delete(office.the(approval))
    await office.decided(approval, ALICE, Decision.REJECT)
    await office.deliver_all()
    assert office.board.messages == {}


async def test_a_remark_that_failed_comes_before_the_next(office: Office) -> None:
    approval = await office.held(quorum=2)
    await office.deliver()
    await office.decided(approval, ALICE)
    office.board.orders.extend(["done", "500"])
    await office.deliver()
    await office.decided(approval, BOB)
    await office.deliver_all()
    assert [each["by"] for each in office.the(approval).below] == [ALICE.email, BOB.email]


# -- what is itself to blame ------------------------------------------------------------------------------------------


class Picky(BoardChannel):
    """A channel that stumbles over some approvals and remarks."""

    poison: frozenset[str] = frozenset()

    async def show(self, place: str, notice: Notice, reference: Reference | None) -> Reference:
        self._taste(notice.approval.id)
        return await super().show(place, notice, reference)

    async def say(self, place: str, remark: Remark, thread: Reference | None) -> None:
        self._taste(remark.row.kind.value)
        await super().say(place, remark, thread)

    def _taste(self, what: str) -> None:
        if what in self.poison:
            raise KeyError(what)


async def picky(office: Office) -> tuple[Office, Picky]:
    """The same office with a channel that stumbles."""
    assert isinstance(office.channel, BoardChannel)
    channel = Picky(office.board.url, office.channel.http)
    return await Office.at(office.desk, office.board, channel), channel


async def test_an_approval_that_a_channel_stumbles_over_blocks_no_other(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office, channel = await picky(office)
    poison = await office.held()
    channel.poison = frozenset({poison.id})
    others = [await office.held() for _ in range(3)]
    await office.deliver()
    assert office.board.posted == [other.id for other in others]
    for _ in range(TRIES):
        await office.wait(LATEST.total_seconds())
    assert next(each.exc_info for each in caplog.records if each.levelno == logging.WARNING) is not None
    assert await office.waiting() == set()
    channel.poison = frozenset()
    await office.decided(poison, ALICE)
    await office.deliver()
    assert await office.is_shown(poison, office.the(poison))


async def test_only_a_channel_that_stumbles_is_in_trouble(office: Office) -> None:
    office, channel = await picky(office)
    approval = await office.held()
    channel.poison = frozenset({approval.id})
    await office.deliver()
    trouble = await office.outbox.trouble()
    assert trouble is not None
    assert "a message could not be made (KeyError, see the log)" in trouble.sentence
    assert approval.id not in trouble.sentence


async def test_a_remark_that_a_channel_stumbles_over_is_left_out_and_the_later_ones_are_told(office: Office) -> None:
    office, channel = await picky(office)
    channel.poison = frozenset({"approval.approved"})
    approval = await office.held()
    await office.deliver()
    await office.decided(approval, ALICE)
    await office.desk.claim(approval)
    await office.desk.approvals.claims.finish(approval.id, failed=False)
    await office.deliver_all()
    assert [each["kind"] for each in office.the(approval).below] == ["approval.succeeded"]
    assert await office.is_shown(approval, office.the(approval))


async def test_an_approval_that_cannot_be_read_blocks_no_other(office: Office) -> None:
    broken, fine = await office.held(), await office.held()
    breaking = sa.text("UPDATE approvals SET requirement = '[' WHERE id = :id")
    await office.desk.store.write(lambda tx: tx.connection.execute(breaking, {"id": broken.id}))
    await office.deliver_all()
    assert office.board.posted == [fine.id]


class Rude(BoardChannel):
    """A channel that cancels whoever waits for it, and then does not let itself be cancelled."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        super().__init__(url, http)
        self.polite = asyncio.Event()
        self.times = 0

    async def show(self, place: str, notice: Notice, reference: Reference | None) -> Reference:
        self.times += 1
        if self.times == 1:
            raise asyncio.CancelledError
        while not self.polite.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.polite.wait()
        raise asyncio.CancelledError


async def test_a_channel_can_neither_end_nor_hold_up_the_outbox(office: Office) -> None:
    assert isinstance(office.channel, BoardChannel)
    channel = Rude(office.board.url, office.channel.http)
    office = await Office.at(office.desk, office.board, channel)
    await office.restart(limit_for("hang"))
    await office.held()
    async with asyncio.timeout(BOUND / 2):
        await office.deliver()
        await office.wait(1)
    trouble = await office.outbox.trouble()
    assert (channel.times, trouble is not None and trouble.failures) == (2, 2)
    channel.polite.set()


# -- many at a time ---------------------------------------------------------------------------------------------------


async def test_a_flood_in_one_place_keeps_no_other_place_waiting(office: Office) -> None:
    flood = [await office.held(DESKTOP) for _ in range(19)]
    other = await office.held()
    await office.deliver()
    assert office.board.posted.index(other.id) <= 1
    assert sorted(office.board.posted) == sorted(each.id for each in (*flood, other))


async def test_within_a_place_who_waits_longest_comes_first(office: Office) -> None:
    held = [await office.held() for _ in range(10)]
    await office.deliver()
    assert office.board.posted == [each.id for each in held]


async def test_what_is_not_true_any_more_is_rewritten_while_something_new_is_being_posted(office: Office) -> None:
    first = await office.held()
    await office.deliver()
    for _ in range(5):
        await office.held()
    office.board.orders.append("late")
    running = await run_until(office, lambda: len(office.board.posted) == 2)
    await office.decided(first, ALICE)
    async with asyncio.timeout(BOUND):
        await office.board.until(lambda: office.the(first).text["state"] == "approved")
    assert len(office.board.posted) == 2
    office.board.release.set()
    await ended(running)


async def test_where_no_more_may_be_posted_for_a_while_messages_are_still_rewritten(office: Office) -> None:
    first = await office.held()
    await office.deliver()
    later = await office.held()
    office.board.orders.append("429 30")
    await office.deliver()
    await office.decided(first, ALICE)
    await office.deliver()
    assert await office.is_shown(first, office.the(first))
    assert office.of(later) == office.the(first).below == []
    trouble = await office.outbox.trouble()
    assert trouble is not None
    await office.wait(30)
    assert await office.is_shown(later, office.the(later))
    assert len(office.the(first).below) == 1
    assert await office.outbox.trouble() is None


async def test_a_place_that_hangs_keeps_the_others_waiting_for_one_limit_at_most(office: Office) -> None:
    await office.restart(limit_for("hang"))
    for _ in range(5):
        await office.held(DESKTOP)
    others = [await office.held() for _ in range(3)]
    office.board.orders.append("hang")
    await office.deliver()
    assert office.board.posted[1:] == [each.id for each in others]


# -- while it is told -------------------------------------------------------------------------------------------------


async def test_what_changes_while_it_is_posted_is_told_next(office: Office) -> None:
    approval = await office.held()
    office.board.orders.append("late")
    running = await run_until(office, lambda: office.board.messages)
    await office.decided(approval, ALICE)
    office.board.release.set()
    async with asyncio.timeout(BOUND):
        await office.board.until(lambda: office.the(approval).below)
    assert await office.is_shown(approval, office.the(approval))
    await ended(running)


async def test_it_stops_at_once_when_a_channel_hangs_and_goes_on_afterwards(office: Office) -> None:
    approval = await office.held()
    office.board.orders.append("hang")
    running = await run_until(office, lambda: office.board.asked)
    async with asyncio.timeout(BOUND / 2):
        await office.outbox.end(0.1)
        await ended(running)
    await office.restart()
    await office.deliver()
    assert await office.is_shown(approval, office.the(approval))


async def test_a_message_that_is_being_posted_may_be_ended_and_kept(office: Office) -> None:
    approval = await office.held()
    office.board.orders.append("late")
    running = await run_until(office, lambda: office.board.messages)
    ending = asyncio.ensure_future(office.outbox.end(BOUND))
    office.board.release.set()
    await ending
    await ended(running)
    await office.restart()
    await office.decided(approval, ALICE)
    await office.deliver()
    assert await office.is_shown(approval, office.the(approval))
