"""People decide in Slack, and the agent whose call waits hears of it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path

from broker.domain.approvals import State
from broker.domain.history import moment
from broker.domain.seen import seen_digest
from integrations.slack.choices import APPROVE, OPEN, REJECT
from tests.gateway.scene import block
from tests.integrations.slack.stage import Held, Stage, furnished, opened, words
from tests.servers.scripted import Scripted
from tests.servers.slack import Person

AT_ONCE = 1.5
"""Seconds that are far less than Slack gives a click, on a busy machine too."""


async def reject(stage: Stage, person: Person, held: Held, reason: str = "") -> None:
    """Click Reject and send the form."""
    assert not (await stage.slack.click(person, held.message, REJECT)).failed
    view = await stage.slack.until(lambda: stage.slack.modal(person))
    assert not (await stage.slack.submit(view, {"reason": reason} if reason else {})).failed
    assert not view.open


# -- both ways in -----------------------------------------------------------------------------------------------------


async def test_a_click_on_approve_lets_the_agents_call_go_on(stage: Stage) -> None:
    ann, held = await stage.known("ann"), await stage.held()
    clicked = await stage.slack.click(ann, held.message, APPROVE)
    assert not clicked.failed
    assert clicked.seconds < 3
    assert block(await held.answer.message())["status"] == "approved"
    await stage.over(held)
    assert stage.slack.ephemerals(ann) == []


async def test_a_click_on_reject_asks_for_a_reason_which_the_agent_is_told(stage: Stage) -> None:
    ann, held = await stage.known("ann"), await stage.held()
    await reject(stage, ann, held, "not on a Friday")
    told = block(await held.answer.message())
    assert (told["status"], told["reason"]) == ("rejected", "not on a Friday")
    assert "not on a Friday" in words(await stage.over(held))


async def test_of_two_who_must_approve_each_is_seen_in_the_message(stage: Stage) -> None:
    ann, bob, held = await stage.known("ann"), await stage.known("bob"), await stage.held("two")
    await stage.slack.click(ann, held.message, APPROVE)
    await stage.slack.until(lambda: f"1 of 2 approved: {ann.email}" in words(held.message))
    assert (await stage.get(held)).state is State.PENDING
    await stage.slack.click(bob, held.message, APPROVE)
    assert block(await held.answer.message())["status"] == "approved"


async def test_approvals_lists_what_waits_for_the_one_who_asks(stage: Stage) -> None:
    ann, bob, _ = [await stage.known(name, "night") for name in ("ann", "bob", "carol")]
    voted, waiting = await stage.held("night"), await stage.held("night")
    own = await stage.held("night", owner=ann.email)
    await stage.slack.click(ann, voted.message, APPROVE)
    await stage.scene.happened("approval.reviewed", voted.agent)
    elsewhere = stage.slack.channel(f"random{ann.id}", [ann, bob], has_bot=False)
    assert not (await stage.slack.command(ann, "/approvals", place=elsewhere)).failed
    [told] = await stage.slack.until(lambda: stage.slack.ephemerals(ann))
    listed = str(told.blocks)
    assert waiting.approval_id in listed
    assert voted.approval_id not in listed
    assert own.approval_id not in listed


# -- what is recorded -------------------------------------------------------------------------------------------------


async def test_the_record_says_where_it_was_decided_and_what_the_voter_was_shown(socket_stage: Stage) -> None:
    stage = socket_stage
    ann, held = await stage.known("ann"), await stage.held("elsewhere")
    await stage.slack.click(ann, held.message, APPROVE)
    await held.answer.message()
    approval = await stage.get(held)
    assert (approval.reviews[0].by, approval.reviews[0].channel) == (ann.email, "slack:#elsewhere")
    [row] = [row for row in await stage.rows(held) if row.kind == "approval.approved"]
    assert row.detail["channel"] == "slack:#elsewhere"
    assert row.detail["shown"] == seen_digest(approval) == stage.choice(held).shown


# -- twice, late, out of order ----------------------------------------------------------------------------------------


async def test_the_same_click_delivered_twice_is_one_vote_and_no_complaint(stage: Stage) -> None:
    ann, bob, held = await stage.known("ann"), await stage.known("bob"), await stage.held("two")
    click = stage.slack.press(ann, held.message, APPROVE)
    await asyncio.gather(stage.slack.send(click), stage.slack.send(click), return_exceptions=True)
    await stage.scene.happened("approval.reviewed", held.agent)
    await stage.slack.click(bob, held.message, APPROVE)
    await held.answer.message()
    assert [review.by for review in (await stage.get(held)).reviews] == [ann.email, bob.email]
    assert stage.slack.ephemerals(ann) == []


async def test_a_click_on_a_stale_message_tells_that_person_alone_who_decided_and_when(stage: Stage) -> None:
    ann, bob, held = await stage.known("ann"), await stage.known("bob"), await stage.held()
    await stage.scene.decide(held.approval_id)
    await stage.over(held)
    await stage.slack.click(ann, held.message, APPROVE, version=0)
    assert f"Already approved by boss@example.com at {moment(stage.clock.now())}" in await stage.told(ann)
    await stage.slack.click(ann, held.message, REJECT, version=0)
    assert "Already approved by boss@example.com" in await stage.told(ann, 2)
    assert stage.slack.modal(ann) is None
    assert stage.slack.ephemerals(bob) == []
    assert len((await stage.get(held)).reviews) == 1


async def test_of_clicks_that_overtake_each_other_the_first_that_arrives_counts(socket_stage: Stage) -> None:
    stage = socket_stage
    ann, held = await stage.known("ann"), await stage.held("two")
    await stage.slack.click(ann, held.message, REJECT)
    view = await stage.slack.until(lambda: stage.slack.modal(ann))
    await stage.slack.click(ann, held.message, APPROVE)
    await stage.scene.happened("approval.reviewed", held.agent)
    await stage.slack.submit(view, {})
    assert "already voted otherwise" in await stage.told(ann)
    assert (await stage.get(held)).state is State.PENDING


async def test_a_form_that_is_sent_after_the_decision_changes_nothing(socket_stage: Stage) -> None:
    stage = socket_stage
    ann, held = await stage.known("ann"), await stage.held()
    await stage.slack.click(ann, held.message, REJECT)
    view = await stage.slack.until(lambda: stage.slack.modal(ann))
    await stage.scene.decide(held.approval_id)
    await stage.slack.submit(view, {"reason": "too late"})
    assert "Already approved by boss@example.com" in await stage.told(ann)
    assert block(await held.answer.message())["status"] == "approved"


async def test_a_click_for_what_is_not_the_present_revision_decides_nothing(socket_stage: Stage) -> None:
    stage = socket_stage
    ann, held = await stage.known("ann"), await stage.held()
    await stage.slack.send(stage.forged(ann, held, replace(stage.choice(held), revision="0" * 64).encode()))
    assert "has changed since this message was posted. Nothing was decided" in await stage.told(ann)
    assert (await stage.get(held)).reviews == ()


async def test_the_link_to_the_card_is_acknowledged_and_nothing_else(stage: Stage) -> None:
    ann, held = await stage.known("ann"), await stage.held()
    assert not (await stage.slack.click(ann, held.message, OPEN)).failed
    assert (await stage.get(held)).reviews == ()


# -- where ------------------------------------------------------------------------------------------------------------


async def test_a_critical_call_is_shown_in_slack_with_a_link_and_no_crafted_click_decides_it(
    socket_stage: Stage,
) -> None:
    stage = socket_stage
    ann, held, other = await stage.known("ann"), await stage.held("critical"), await stage.held()
    assert [button.action_id for button in stage.slack.buttons(held.message)] == [OPEN]
    value = replace(stage.choice(other), approval_id=held.approval_id, revision=(await stage.get(held)).revision)
    click = stage.slack.press(ann, held.message, OPEN)
    click.payload["actions"] = [{"type": "button", "action_id": APPROVE, "value": value.encode()}]
    await stage.slack.send(click)
    told = await stage.told(ann)
    assert "critical call may not be decided here, but in the browser" in told
    assert (await stage.get(held)).reviews == ()


async def test_a_critical_call_whose_policy_lists_slack_is_decided_there(socket_stage: Stage) -> None:
    stage = socket_stage
    ann, held = await stage.known("ann"), await stage.held("listed")
    await stage.slack.click(ann, held.message, APPROVE)
    assert block(await held.answer.message())["status"] == "approved"


async def test_a_button_counts_only_on_the_message_that_stands_for_its_approval(socket_stage: Stage) -> None:
    stage = socket_stage
    ann, held, other = await stage.known("ann"), await stage.held("elsewhere"), await stage.held()
    await stage.slack.send(stage.forged(ann, other, stage.choice(held).encode()))
    assert "not known to the broker. Nothing was decided" in await stage.told(ann)
    assert (await stage.get(held)).reviews == ()


async def test_a_click_on_a_message_that_slack_has_not_confirmed_says_so_and_counts_later(
    tmp_path: Path, server: Scripted
) -> None:
    async with furnished() as slack, opened(tmp_path, server, slack) as stage:
        ann, held = await stage.known("ann"), await stage.held()
        slack.order("late", "chat.postMessage")
        answer = await held.agent.call("one", "act", {"again": True})
        message = await slack.until(lambda: next((each for each in slack.posted if "again" in str(each.blocks)), None))
        await slack.click(ann, message, APPROVE)
        assert "not confirmed to the broker yet that this message is there. Nothing was decided" in await stage.told(
            ann
        )
        slack.api.release.set()
        await slack.click(ann, message, APPROVE)
        assert block(await answer.message())["status"] == "approved"


# -- three seconds ----------------------------------------------------------------------------------------------------


async def test_a_click_is_acknowledged_while_slack_does_not_answer(stage: Stage) -> None:
    ann, held = await stage.known("ann"), await stage.held()
    stage.slack.order("late", "users.info")
    clicked = await stage.slack.click(ann, held.message, APPROVE)
    assert not clicked.failed
    assert clicked.seconds < AT_ONCE
    stage.slack.api.release.set()
    assert block(await held.answer.message())["status"] == "approved"
    stage.slack.api.release.clear()


async def test_a_click_is_acknowledged_while_the_store_is_locked_and_counts_then(stage: Stage) -> None:
    ann, held = await stage.known("ann"), await stage.held()
    with contextlib.closing(sqlite3.connect(stage.scene.broker.store.engine.url.database or "")) as other:
        other.execute("BEGIN IMMEDIATE")
        clicked = await stage.slack.click(ann, held.message, APPROVE)
        assert not clicked.failed
        assert clicked.seconds < AT_ONCE
        other.rollback()
    assert block(await held.answer.message())["status"] == "approved"
