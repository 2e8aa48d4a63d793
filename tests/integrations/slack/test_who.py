"""Whose word does not count: each click by a person who may not decide, with a real call waiting at the other end."""

from __future__ import annotations

import pytest

from broker.domain.approvals import State
from broker.store import identities, people
from integrations.slack.choices import APPROVE, REJECT
from integrations.slack.directory import FRESH
from tests.gateway.scene import block
from tests.integrations.slack.stage import Held, Stage
from tests.servers.slack import Person


@pytest.fixture
def stage(socket_stage: Stage) -> Stage:
    """The way in makes no difference here."""
    return socket_stage


async def refused(stage: Stage, person: Person, held: Held) -> str:
    """What `person` is told who clicks Approve; nothing is decided by it."""
    before = len(stage.slack.ephemerals(person))
    assert not (await stage.slack.click(person, held.message, APPROVE)).failed
    told = await stage.told(person, before + 1)
    assert "Nothing was decided." in told
    approval = await stage.get(held)
    assert (approval.state, approval.reviews) == (State.PENDING, ())
    return told


# -- no person of the broker ------------------------------------------------------------------------------------------


async def test_who_is_unknown_hears_what_to_ask_for(stage: Stage) -> None:
    eve, held = stage.stranger("eve"), await stage.held()
    assert f"broker user add {eve.email} --role approver" in await refused(stage, eve, held)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"is_restricted": True}, "guest"),
        ({"is_ultra_restricted": True}, "guest"),
        ({"is_bot": True}, "bot"),
        ({"deleted": True}, "deactivated"),
        ({"is_stranger": True, "team_id": "T0OTHER01"}, "another workspace"),
        ({"team_id": "T0OTHER01"}, "another workspace"),
        ({"is_email_confirmed": False}, "no confirmed e-mail address"),
    ],
)
async def test_an_account_that_is_no_full_member_decides_nothing_under_an_approvers_address(
    stage: Stage, facts: dict[str, object], why: str
) -> None:
    mallory, held = await stage.known("mallory", **facts), await stage.held()
    assert why in await refused(stage, mallory, held)


async def test_an_account_that_takes_a_linked_approvers_address_decides_nothing(stage: Stage) -> None:
    ann, mallory = await stage.known("ann"), stage.stranger("mallory")
    first, held = await stage.held(), await stage.held()
    await stage.slack.click(ann, first.message, APPROVE)
    await first.answer.message()
    mallory.email, ann.email = ann.email, "married@example.com"
    assert f"broker user unlink {mallory.email}" in await refused(stage, mallory, held)
    await stage.slack.click(ann, held.message, APPROVE)
    await held.answer.message()
    assert (await stage.get(held)).reviews[0].by == mallory.email


async def test_an_agents_owner_who_takes_an_approvers_address_is_the_owner_still(stage: Stage) -> None:
    ann, mallory = await stage.known("ann"), await stage.known("mallory")
    own = mallory.email
    first, held = await stage.held(), await stage.held(owner=own)
    await stage.slack.click(mallory, first.message, APPROVE)
    await first.answer.message()
    mallory.email, ann.email = ann.email, "other@example.com"
    assert "This agent is yours" in await refused(stage, mallory, held)


async def test_who_is_unlinked_is_linked_anew_at_the_next_click(stage: Stage) -> None:
    ann, first, held = await stage.known("ann"), await stage.held(), await stage.held()
    email = str(ann.email)
    await stage.slack.click(ann, first.message, APPROVE)
    await first.answer.message()
    ann.deleted = True
    again = stage.stranger("ann")
    again.email = email
    assert "broker user unlink" in await refused(stage, again, held)
    await stage.scene.broker.store.write(lambda tx: identities.unlink(tx, "cli:root", email))
    await stage.slack.click(again, held.message, APPROVE)
    assert block(await held.answer.message())["status"] == "approved"


# -- no eligible one --------------------------------------------------------------------------------------------------


async def test_the_owner_of_the_agent_may_neither_approve_nor_reject_it(stage: Stage) -> None:
    ann = await stage.known("ann")
    held = await stage.held(owner=f" {str(ann.email).upper()}")
    assert "This agent is yours: somebody else has to decide." in await refused(stage, ann, held)
    await stage.slack.click(ann, held.message, REJECT)
    view = await stage.slack.until(lambda: stage.slack.modal(ann))
    await stage.slack.submit(view, {})
    assert "This agent is yours" in await stage.told(ann, 2)
    assert (await stage.get(held)).state is State.PENDING


async def test_who_is_not_in_the_group_hears_which_one(stage: Stage) -> None:
    boss, ann = await stage.known("boss", "desk"), await stage.known("ann")
    held = await stage.held("desk")
    assert f"Here you are {ann.email}: ask an administrator for the group desk" in await refused(stage, ann, held)
    await stage.slack.click(boss, held.message, APPROVE)
    assert block(await held.answer.message())["status"] == "approved"


async def test_who_joins_the_user_group_decides_and_who_leaves_it_does_not_any_more(stage: Stage) -> None:
    await stage.known("boss", "desk")
    ann = await stage.known("ann")
    first, held = await stage.held("desk"), await stage.held("desk")
    owners = stage.slack.groups[stage.owners_id]
    owners.users.append(ann)
    stage.clock.advance(FRESH)
    await stage.slack.click(ann, first.message, APPROVE)
    assert block(await first.answer.message())["status"] == "approved"
    owners.users.remove(ann)
    stage.clock.advance(FRESH)
    assert "the group desk" in await refused(stage, ann, held)


async def test_who_was_removed_decides_nothing_though_their_account_was_linked(stage: Stage) -> None:
    ann, first, held = await stage.known("ann"), await stage.held(), await stage.held()
    await stage.slack.click(ann, first.message, APPROVE)
    await first.answer.message()
    await stage.scene.broker.store.write(lambda tx: people.remove(tx, "cli:root", str(ann.email)))
    assert "broker user add" in await refused(stage, ann, held)


# -- when it cannot be told -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["500", "429 30", "close", "garbage", "user_not_found"])
async def test_when_slack_does_not_say_who_it_is_nothing_is_decided_and_the_browser_still_decides(
    stage: Stage, trouble: str
) -> None:
    ann, held = await stage.known("ann"), await stage.held()
    stage.slack.order(trouble, "users.info")
    assert "Slack did not say who you are" in await refused(stage, ann, held)
    await stage.scene.decide(held.approval_id)
    assert block(await held.answer.message())["status"] == "approved"


async def test_when_slack_does_not_say_who_is_in_the_groups_nothing_is_decided(stage: Stage) -> None:
    ann, held = await stage.known("ann"), await stage.held()
    stage.clock.advance(FRESH)
    stage.slack.order("500", "usergroups.list")
    assert "Slack did not say who you are" in await refused(stage, ann, held)


async def test_a_click_from_another_workspace_decides_nothing(stage: Stage) -> None:
    ann, held = await stage.known("ann"), await stage.held()
    click = stage.slack.press(ann, held.message, APPROVE)
    click.payload["team"] = {"id": "T0OTHER01", "domain": "other"}
    await stage.slack.send(click)
    assert "This workspace is not the broker's. Nothing was decided." in await stage.told(ann)
    assert (await stage.get(held)).reviews == ()


async def test_when_the_form_cannot_be_opened_the_person_hears_it(stage: Stage) -> None:
    ann, held = await stage.known("ann"), await stage.held()
    stage.slack.order("expired_trigger_id", "views.open")
    await stage.slack.click(ann, held.message, REJECT)
    assert "The form could not be opened. Nothing was decided." in await stage.told(ann)
