"""Whatever becomes of a call, wherever and by whomever: its message says so, and its buttons go, within two seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from broker.domain.approvals import Decision
from broker.domain.people import Person, Role
from broker.store import people
from broker.store.people import CredentialKind
from integrations.slack.choices import APPROVE
from tests.cli.conftest import Shell
from tests.clock import MovableClock
from tests.gateway.scene import APPROVER, block
from tests.integrations.slack.stage import Held, Stage, furnished, opened, words
from tests.servers import BOUND
from tests.servers.scripted import Scripted, Slow

WITHIN = 2.0
ADMIN = Person("root@example.com", frozenset({Role.ADMIN}))


async def secret(stage: Stage, kind: CredentialKind) -> str:
    """A session or a token of the approver."""
    lifetime = timedelta(days=1)
    issue = people.issue
    new = await stage.scene.broker.store.write(
        lambda tx: issue(tx, "cli:test", kind, APPROVER.email, lifetime=lifetime)
    )
    return new.secret


async def in_the_browser(stage: Stage, held: Held) -> None:
    url = f"{stage.scene.broker.url}/approvals/{held.approval_id}"
    cookie = {"Cookie": f"broker_session={await secret(stage, CredentialKind.SESSION)}"}
    async with stage.scene.http.get(url, headers=cookie) as page:
        csrf = (await page.text()).split('name="csrf" value="')[1].split('"')[0]
    form = {"csrf": csrf, "decision": "approve"}
    async with stage.scene.http.post(f"{url}/decision", data=form, headers=cookie, allow_redirects=False) as answer:
        assert answer.status == 303, await answer.text()


async def through_the_api(stage: Stage, held: Held) -> None:
    url = f"{stage.scene.broker.url}/api/v1/approvals/{held.approval_id}/decision"
    token = {"Authorization": f"Bearer {await secret(stage, CredentialKind.TOKEN)}"}
    async with stage.scene.http.post(url, json={"decision": "reject", "reason": "no"}, headers=token) as answer:
        assert answer.status == 200


async def in_a_terminal(stage: Stage, held: Held) -> None:
    token = await secret(stage, CredentialKind.TOKEN)
    shell = Shell(Path.cwd())
    command = ("approvals", "approve", held.approval_id)
    ended = await asyncio.to_thread(shell.run, *command, BROKER_URL=stage.scene.broker.url, BROKER_TOKEN=token)
    assert ended.status == 0, ended


async def by_an_administrator(stage: Stage, held: Held) -> None:
    await stage.scene.person(ADMIN)
    await stage.scene.broker.approvals.reviews.withdraw(held.approval_id, ADMIN)


async def with_its_grant(stage: Stage, held: Held) -> None:
    await stage.scene.revoke(held.agent)


@pytest.mark.parametrize(
    ("happens", "status", "says"),
    [
        (in_the_browser, "approved", "Ran"),
        (through_the_api, "rejected", "Rejected"),
        (in_a_terminal, "approved", "Ran"),
        (by_an_administrator, "withdrawn", "Withdrawn"),
        (with_its_grant, "withdrawn", "Withdrawn"),
    ],
)
async def test_what_is_decided_elsewhere_is_shown_in_slack_at_once(
    http_stage: Stage, happens: Callable[[Stage, Held], Awaitable[None]], status: str, says: str
) -> None:
    held = await http_stage.held()
    assert http_stage.slack.buttons(held.message)
    before = monotonic()
    await happens(http_stage, held)
    await http_stage.over(held)
    assert monotonic() - before < WITHIN + 1, "the command and the pages take a part of it"
    assert block(await held.answer.message())["status"] == status
    await http_stage.slack.until(lambda: says in words(held.message))


async def test_what_is_decided_is_shown_at_once_while_slack_does_not_answer_to_a_new_message(http_stage: Stage) -> None:
    slack, ann, held = http_stage.slack, await http_stage.known("ann"), await http_stage.held()
    slack.order("late", "chat.postMessage")
    await http_stage.scene.agent()  # which is announced
    await slack.until(lambda: not slack.api.orders.waiting)
    before = monotonic()
    await slack.click(ann, held.message, APPROVE)
    await http_stage.over(held)
    assert monotonic() - before < WITHIN
    slack.api.release.set()
    assert block(await held.answer.message())["status"] == "approved"
    slack.api.release.clear()


async def test_what_expires_is_shown_at_once(tmp_path: Path, server: Scripted) -> None:
    async with furnished() as slack, opened(tmp_path, server, slack) as stage:
        held = await stage.held()
        stage.clock.advance(timedelta(minutes=16))
        before = monotonic()
        await stage.over(held)
        assert monotonic() - before < WITHIN
        assert "Expired" in words(held.message)
        assert block(await held.answer.message())["status"] == "expired"


async def test_an_agent_that_stopped_waiting_is_told_in_the_message_which_can_still_be_decided(
    http_stage: Stage,
) -> None:
    held = await http_stage.held()
    before = monotonic()
    held.answer.leave()
    await http_stage.slack.until(lambda: "stopped waiting" in words(held.message))
    assert monotonic() - before < WITHIN
    assert http_stage.slack.buttons(held.message)


async def test_a_call_whose_outcome_is_unknown_is_told_to_be_looked_at(http_stage: Stage, server: Scripted) -> None:
    held = await http_stage.held()
    slow = Slow(server)
    await http_stage.scene.decide(held.approval_id)
    await asyncio.wait_for(slow.began.wait(), BOUND)
    await http_stage.scene.revoke(held.agent)
    await http_stage.slack.until(lambda: "look at the effect" in words(held.message))
    assert http_stage.slack.buttons(held.message) == []
    slow.end.set()


@pytest.mark.parametrize("new_store_url", ["postgresql"], indirect=True)
async def test_two_brokers_post_a_call_once_and_what_one_decides_both_know(
    tmp_path: Path, server: Scripted, store_url: str
) -> None:
    folders, clock = [tmp_path / name for name in ("one", "other")], MovableClock()
    for folder in folders:
        folder.mkdir()
    more: dict[str, Any] = {"clock": clock, "store": store_url.replace("+psycopg", "")}
    async with (
        furnished() as slack,
        opened(folders[0], server, slack, **more) as one,
        opened(folders[1], server, slack, **more) as other,
    ):
        held = await one.held()
        before = monotonic()
        await other.scene.decide(held.approval_id, Decision.APPROVE)
        await one.over(held)
        assert monotonic() - before < WITHIN
        assert block(await held.answer.message())["status"] == "approved"
        told = [each for each in slack.posted if held.approval_id in str(each.versions[0].blocks)]
        assert told == [held.message]
        witnesses = [each for each in slack.messages("#approvals") if "Audit chain head" in words(each)]
        assert len(witnesses) == 1


async def test_what_happened_while_no_broker_ran_is_shown_by_the_next(tmp_path: Path, server: Scripted) -> None:
    clock = MovableClock()
    async with furnished() as slack:
        async with opened(tmp_path, server, slack, clock=clock) as stage:
            held = await stage.held()
            await slack.go_down()
        clock.advance(timedelta(hours=1))
        await slack.come_up()
        assert slack.buttons(held.message)
        async with opened(tmp_path, server, slack, clock=clock) as stage:
            before = monotonic()
            await stage.over(held)
            assert monotonic() - before < WITHIN
        assert "Expired" in words(held.message)
