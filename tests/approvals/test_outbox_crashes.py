"""Telling people from several processes, some of which die."""

from __future__ import annotations

import asyncio
import sys

import pytest
import sqlalchemy as sa

from broker.approvals.notices import Notice, Reference
from broker.store.writer import Store
from tests.approvals.office import Office, ended
from tests.domain.values import ALICE
from tests.servers import BOUND, ROOT
from tests.servers.board import BoardChannel


async def test_of_two_processes_one_tells(office: Office, other_store: Store) -> None:
    held = [await office.held() for _ in range(5)]
    other = await Office.another_outbox(other_store, office.channel)
    await asyncio.gather(office.deliver(), other.deliver())
    await asyncio.gather(office.deliver(), other.deliver())
    assert sorted(office.board.posted) == sorted(each.id for each in held)


async def test_a_process_that_never_comes_back_is_waited_for_a_minute(office: Office, other_store: Store) -> None:
    await office.deliver()
    other = await Office.another_outbox(other_store, office.channel)
    await other.deliver()
    approval = await office.held()
    office.board.orders.append("hang")
    hanging = asyncio.ensure_future(other.deliver())
    async with asyncio.timeout(BOUND):
        await office.board.until(lambda: office.board.asked)
    await office.wait(59)
    assert office.of(approval) == []
    await office.wait(2)
    assert await office.is_shown(approval, office.the(approval))
    await ended(hanging)


@pytest.mark.parametrize("new_store_url", ["sqlite"], indirect=True)
async def test_a_crash_between_posting_and_storing_makes_one_duplicate_and_the_second_is_kept(
    office: Office, store_url: str
) -> None:
    approval, other = await office.held(), await office.held()
    command = [sys.executable, "-m", "tests.approvals.poster", store_url, office.board.url]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    assert await asyncio.wait_for(process.wait(), BOUND) == -9
    assert office.board.posted == [approval.id]
    await office.restart()
    await office.deliver()
    await office.decided(approval, ALICE)
    await office.deliver_all()
    first, second = office.of(approval)
    assert first.text["state"] == "pending"
    assert first.below == []
    assert await office.is_shown(approval, second)
    assert [each["kind"] for each in second.below] == ["approval.approved"]
    assert await office.is_shown(other, office.the(other))


class Breaking(BoardChannel):
    """A channel while whose first message is posted the store breaks."""

    store: Store | None = None

    async def show(self, place: str, notice: Notice, reference: Reference | None) -> Reference:
        found = await super().show(place, notice, reference)
        if (store := self.store) is not None:
            self.store = None
            await rename(store, "notices", "gone")
            asyncio.get_running_loop().call_later(0.1, lambda: asyncio.ensure_future(rename(store, "gone", "notices")))
        return found


async def rename(store: Store, old: str, new: str) -> None:
    await store.write(lambda tx: tx.connection.execute(sa.text(f"ALTER TABLE {old} RENAME TO {new}")))


async def test_what_is_posted_while_the_store_breaks_is_kept_when_it_works_again(office: Office) -> None:
    assert isinstance(office.channel, BoardChannel)
    channel = Breaking(office.board.url, office.channel.http)
    channel.store = office.desk.store
    office = await Office.at(office.desk, office.board, channel)
    approval = await office.held()
    await office.deliver()
    await office.decided(approval, ALICE)
    await office.deliver()
    assert await office.is_shown(approval, office.the(approval))
