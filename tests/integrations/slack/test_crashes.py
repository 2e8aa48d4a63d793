"""A broker that is killed leaves messages in Slack; the next one makes them true, and agents go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest

from broker.domain.approvals import State
from broker.domain.clock import SystemClock
from broker.stop_points import Point
from broker.store.writer import Store
from integrations.slack.choices import APPROVE
from tests.cli.conftest import Shell
from tests.crashes.house import ALICE, BOB, House, Running
from tests.servers.scripted import Scripted, Slow
from tests.servers.slack import APP_TOKEN, BOT_TOKEN, Message, Slack, running_slack
from tests.sqlite import new_file


@pytest.fixture
async def slack() -> AsyncGenerator[Slack]:
    """One that outlives its brokers, with the default channel."""
    async with running_slack() as made:
        made.channel("approvals", [made.person("Alice", ALICE.email), made.person("Bob", BOB.email)])
        yield made


@pytest.fixture
async def house(tmp_path: Path, server: Scripted, slack: Slack) -> AsyncGenerator[House]:
    """A house whose broker is in Slack, by Socket Mode."""
    url = new_file(tmp_path / "broker.db")
    store = Store(url, SystemClock())
    try:
        async with aiohttp.ClientSession() as http:
            house = House(Shell(tmp_path), store, server, http)
            await house.furnish(url)
            with (tmp_path / "broker.toml").open("a") as file:
                tokens = f'bot_token = "{BOT_TOKEN}"\napp_token = "{APP_TOKEN}"\n'
                file.write(f'[slack]\n{tokens}api_url = "{slack.api_url}"\n')
            yield house
    finally:
        store.close()


def of_approvals(slack: Slack) -> list[Message]:
    """The messages of approvals, oldest first: those that have or had buttons or a link to a card."""
    return [each for each in slack.messages("#approvals") if "/approvals/" in str(each.versions[0].blocks)]


async def connected(slack: Slack, broker: Running) -> Running:
    """The broker once Slack can tell it of clicks."""
    await slack.until(lambda: slack.sockets.open)
    return broker


async def test_a_crash_between_posting_and_storing_makes_one_more_message_and_a_click_on_either_counts(
    house: House, slack: Slack
) -> None:
    alice, bob = slack.named("#approvals").members
    caller = await house.caller()
    async with house.dying(Point.BEFORE_MESSAGE_IS_STORED) as broker:
        broker.asks(caller)
        await slack.until(lambda: of_approvals(slack))
    [orphan] = of_approvals(slack)
    async with house.broker() as broker:
        await connected(slack, broker)
        await slack.until(lambda: len(of_approvals(slack)) == 2)
        first, kept = of_approvals(slack)
        assert first is orphan
        call = broker.asks(caller)  # its client tries again
        await broker.approval(caller, State.PENDING)
        assert not (await slack.click(alice, orphan, APPROVE)).failed
        assert (await call)["status"] == "approved"
        await slack.until(lambda: not slack.buttons(kept))
        await slack.click(bob, orphan, APPROVE)
        [told] = await slack.until(lambda: slack.ephemerals(bob))
        assert ALICE.email in told.text
    assert len(of_approvals(slack)) == 2
    assert (await house.left(caller)).effects == 1


async def test_what_was_decided_or_cut_off_while_no_broker_ran_is_shown_by_the_next(
    house: House, slack: Slack, server: Scripted
) -> None:
    later, running = await house.caller(), await house.caller()
    slow = Slow(server)
    async with house.dying() as broker:
        broker.asks(later, "act_later")
        await slack.until(lambda: of_approvals(slack))
        broker.asks(running)
        await slack.until(lambda: len(of_approvals(slack)) == 2)
        await broker.approve(await broker.approval(running, State.PENDING))
        await asyncio.wait_for(slow.began.wait(), 20)
        await slack.go_down()
    slow.end.set()
    await slack.come_up()
    waits, ran = of_approvals(slack)
    assert slack.buttons(waits)
    async with house.broker() as broker:
        await slack.until(lambda: not slack.buttons(waits) and "Expired" in waits.text)
        await slack.until(lambda: "look at the effect" in ran.text)
        await broker.is_told_as_unknown(running)
    assert not slack.buttons(ran)
