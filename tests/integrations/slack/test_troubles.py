"""When Slack fails, calls are held and decided elsewhere all the same, and people are told what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import pytest

from broker.domain.approvals import Decision
from broker.domain.people import Person
from broker.store import people
from broker.store.people import CredentialKind
from tests.gateway.scene import APPROVER, Bare, block
from tests.integrations.slack.stage import Stage, furnished, holding, opened, words
from tests.servers import BOUND, PAUSE
from tests.servers.scripted import Scripted
from tests.servers.slack import BOT_TOKEN, SIGNING_SECRET, Message, Slack

POLICIES = {
    "one": holding(),
    "two": holding(quorum=2),
    "nowhere": holding(channels=["slack:#nowhere"]),
    "outside": holding(channels=["slack:#outside", "slack"]),
    "elsewhere": holding(channels=["slack:#elsewhere"]),
    "ann": holding(approvers=[APPROVER.email]),
}
T = TypeVar("T")

AT_ONCE = 3.0
"""Seconds that are far less than Slack has for one answer, on a busy machine too."""


@dataclass
class Hall:
    """A Slack, and a broker that starts when the test says so; its clock stands still until the test moves it."""

    slack: Slack
    open: Any
    stack: AsyncExitStack

    async def start(self) -> Stage:
        """Start the broker."""
        return await self.stack.enter_async_context(self.open())


@pytest.fixture
async def hall(tmp_path: Path, server: Scripted) -> AsyncGenerator[Hall]:
    async with furnished() as slack, AsyncExitStack() as stack:
        more = {"policies": POLICIES, "server": {"stop_within": "4s"}}
        yield Hall(slack, partial(opened, tmp_path, server, slack, **more), stack)


async def asked(stage: Stage, upstream: str = "one") -> tuple[str, Bare]:
    """A new agent's call, held: the approval's id, and the answer that is to come."""
    agent = await stage.scene.agent()
    answer = await agent.call(upstream, "act")
    return await stage.scene.submitted(agent), answer


async def approved(stage: Stage, approval_id: str, answer: Bare) -> None:
    """It is decided outside of Slack, and the agent has its result at once."""
    before = monotonic()
    await stage.scene.decide(approval_id)
    assert block(await answer.message())["status"] == "approved"
    assert monotonic() - before < AT_ONCE


async def trouble(stage: Stage) -> str:
    """What `/readyz` and the queue page say is wrong, as soon as something is."""
    url, cookie = stage.scene.broker.url, await _session(stage)
    async with asyncio.timeout(BOUND):
        while True:
            told = await _ready(stage)
            if told["status"] != "ok":
                break
            await asyncio.sleep(PAUSE)
    assert told["status"] == "degraded"
    assert told["channels"]["slack"]["ok"] is False
    sentence: str = told["channels"]["slack"]["error"]
    async with stage.scene.http.get(url, headers={"Cookie": f"broker_session={cookie}"}) as page:
        assert 'class="trouble"' in await page.text()
    assert BOT_TOKEN not in sentence
    return sentence


async def as_time_passes(stage: Stage, what: Callable[[], T | None]) -> T:
    """What is true in the end, second after second."""
    async with asyncio.timeout(BOUND):
        while not (found := what()):
            stage.clock.advance(timedelta(seconds=1))
            await _ready(stage)
    return found


async def works(stage: Stage) -> None:
    """Return once nothing is wrong."""
    async with asyncio.timeout(BOUND):
        while (await _ready(stage))["status"] != "ok":  # noqa: ASYNC110
            await asyncio.sleep(PAUSE)


async def _ready(stage: Stage) -> dict[str, Any]:
    async with stage.scene.http.get(f"{stage.scene.broker.url}/readyz") as answer:
        assert answer.status == 200
        return await answer.json()


async def _session(stage: Stage) -> str:
    new = await stage.scene.broker.store.write(
        lambda tx: people.issue(tx, "cli:test", CredentialKind.SESSION, APPROVER.email, lifetime=timedelta(days=1))
    )
    return new.secret


async def posted(stage: Stage, approval_id: str) -> Message:
    """Its message, as soon as it is there."""
    return await stage.slack.until(lambda: stage.message_of(approval_id))


# -- from the start on ------------------------------------------------------------------------------------------------


async def test_a_broker_starts_and_works_while_slack_is_down_and_tells_there_what_still_waits_when_it_is_up(
    hall: Hall, caplog: pytest.LogCaptureFixture
) -> None:
    await hall.slack.go_down()
    stage = await hall.start()
    decided, answer = await asked(stage)
    assert "Slack cannot be reached" in await trouble(stage)
    await approved(stage, decided, answer)
    waits, answer = await asked(stage)
    said = [each.getMessage() for each in caplog.records if "Slack cannot be reached" in each.getMessage()]
    assert len([each for each in said if each.startswith("slack: ")]) == 1
    assert len([each for each in said if each.startswith("slack:#approvals: ")]) == 1
    assert not [each for each in caplog.records if each.exc_info]
    await hall.slack.come_up()
    message = await as_time_passes(stage, lambda: stage.message_of(waits))
    assert hall.slack.buttons(message)
    assert stage.message_of(decided) is None, "what is over matters to nobody there any more"
    await approved(stage, waits, answer)


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("invalid_auth", "it is wrong, or this machine's address is not allowed (invalid_auth)"),
        ("token_revoked", "it was revoked, or the app was removed (token_revoked)"),
        ("account_inactive", "the app or its workspace was removed (account_inactive)"),
    ],
)
async def test_a_token_that_slack_does_not_take_is_told_from_the_start_on_and_stops_nothing(
    hall: Hall, caplog: pytest.LogCaptureFixture, reason: str, why: str
) -> None:
    hall.slack.revoke(BOT_TOKEN, reason)
    stage = await hall.start()
    sentence = await trouble(stage)
    assert f"Slack does not take the token in slack.bot_token: {why}; install the app again, set the new" in sentence
    assert reason in caplog.text
    assert BOT_TOKEN not in caplog.text
    assert SIGNING_SECRET not in caplog.text
    await approved(stage, *await asked(stage))


# -- at work ----------------------------------------------------------------------------------------------------------


async def test_a_slack_that_hangs_delays_no_call_no_decision_and_no_stop(hall: Hall) -> None:
    stage = await hall.start()
    await hall.slack.until(lambda: hall.slack.messages("#approvals"))
    hall.slack.order("hang", times=100)
    await approved(stage, *await asked(stage))
    before = monotonic()
    await hall.stack.aclose()
    assert monotonic() - before < AT_ONCE


async def test_a_slack_that_is_slow_is_waited_for_and_nothing_is_posted_twice(hall: Hall) -> None:
    stage = await hall.start()
    hall.slack.order("slow 0.5", "chat.postMessage", times=100)
    approval_id, answer = await asked(stage)
    message = await posted(stage, approval_id)
    await approved(stage, approval_id, answer)
    await hall.slack.until(lambda: not hall.slack.buttons(message))
    told = [each for each in hall.slack.posted if approval_id in str(each.versions[0].blocks)]
    assert told == [message]


async def test_slack_is_left_alone_for_as_long_as_it_asks(hall: Hall) -> None:
    stage = await hall.start()
    await works(stage)
    hall.slack.order("429 90", "chat.postMessage")
    approval_id, answer = await asked(stage)
    assert "slack:#approvals: Slack asks for fewer messages" in await trouble(stage)
    stage.clock.advance(timedelta(seconds=89))
    elsewhere, _ = await asked(stage, "elsewhere")
    await posted(stage, elsewhere)
    assert stage.message_of(approval_id) is None
    assert [each.answer for each in hall.slack.asked("chat.postMessage")].count("429 90") == 1
    await as_time_passes(stage, lambda: stage.message_of(approval_id))
    await works(stage)
    await approved(stage, approval_id, answer)


async def test_a_token_that_is_revoked_while_a_call_waits_leaves_the_message_untrue_until_there_is_another(
    hall: Hall,
) -> None:
    stage = await hall.start()
    approval_id, answer = await asked(stage)
    message = await posted(stage, approval_id)
    hall.slack.revoke(BOT_TOKEN)
    await approved(stage, approval_id, answer)
    assert "(token_revoked)" in await trouble(stage)
    assert hall.slack.buttons(message)
    hall.slack.revoke(BOT_TOKEN, "")
    await as_time_passes(stage, lambda: not hall.slack.buttons(message) and "Ran" in words(message))


async def test_a_channel_that_is_missing_is_told_with_what_to_do_and_other_places_are_told(hall: Hall) -> None:
    stage = await hall.start()
    nowhere, _ = await asked(stage, "nowhere")
    sentence = await trouble(stage)
    assert "slack:#nowhere: Slack shows the app no such channel: is its name right? If so, run `/invite @" in sentence
    other, answer = await asked(stage)
    await posted(stage, other)
    await approved(stage, other, answer)
    hall.slack.channel("nowhere")
    stage.clock.advance(timedelta(minutes=5))
    message = await as_time_passes(stage, lambda: stage.message_of(nowhere))
    assert message.channel.name == "nowhere"
    await works(stage)


async def test_a_channel_that_the_app_is_not_in_is_told_with_the_words_to_type(hall: Hall) -> None:
    hall.slack.channel("outside", has_bot=False)
    stage = await hall.start()
    approval_id, _ = await asked(stage, "outside")
    assert "slack:#outside: the app is not in this channel: run `/invite @broker` there" in await trouble(stage)
    assert (await posted(stage, approval_id)).channel is stage.approvals


async def test_an_approver_whom_nobody_in_slack_is_is_told_elsewhere_and_that_is_said(hall: Hall) -> None:
    stage = await hall.start()
    approval_id, answer = await asked(stage, "ann")
    assert "slack:@boss@example.com: nobody in the workspace has this address" in await trouble(stage)
    assert (await posted(stage, approval_id)).channel is stage.approvals
    await approved(stage, approval_id, answer)


async def test_a_message_that_is_deleted_is_posted_anew_while_its_call_waits_and_not_after_that(hall: Hall) -> None:
    stage = await hall.start()
    ann = await stage.known("ann")
    held = await stage.held("two")
    held.message.deleted = True

    def messages() -> list[Message]:
        found = (each for each in hall.slack.messages("#approvals") if held.approval_id in str(each.versions[0].blocks))
        return [each for each in found if not each.deleted]

    by = Person(str(ann.email), APPROVER.roles)
    await stage.scene.broker.approvals.reviews.review(held.approval_id, by, Decision.APPROVE, channel="web")
    anew = await as_time_passes(stage, lambda: next((each for each in messages() if each is not held.message), None))
    assert hall.slack.buttons(anew)
    [said] = await hall.slack.until(lambda: hall.slack.thread(anew))
    assert str(ann.email) in words(said)
    anew.deleted = True
    await approved(stage, held.approval_id, held.answer)
    await works(stage)
    assert messages() == []
