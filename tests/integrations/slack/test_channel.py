"""What of a call is told where in Slack: messages, threads, files, direct messages, mentions, announcements."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.responses import Response

from broker.domain.seen import seen_digest
from broker.store import notices
from integrations.slack.choices import APPROVE
from tests.cli.conftest import Shell
from tests.gateway.scene import APPROVER, block
from tests.integrations.slack.stage import POLICIES, Stage, furnished, holding, opened, words
from tests.servers.scripted import Message, Scripted, said
from tests.servers.slack import Message as Posted
from tests.servers.slack import Slack

# The stage's first person called ann, and its second called cat, have these addresses.
LATE = {"after": "5m", "to": ["desk", "cat1@example.com", "nobody@example.com", "night"]}


@pytest.fixture
async def slack() -> AsyncGenerator[Slack]:
    async with furnished() as made:
        yield made


@pytest.fixture
async def stage(tmp_path: Path, server: Scripted, slack: Slack) -> AsyncGenerator[Stage]:
    """One whose broker has these policies."""
    policies = {
        **POLICIES,
        "ann": holding(approvers=["ann0@example.com"], escalate=LATE),
        "direct": holding(approvers=["ann0@example.com"], channels=["slack:@ann0@example.com"]),
    }
    async with opened(tmp_path, server, slack, policies=policies) as made:
        yield made


async def test_what_leads_to_a_message_is_kept_with_the_digest_of_what_it_shows(http_stage: Stage) -> None:
    held = await http_stage.held(arguments={"where": "there"})
    await http_stage.slack.until(lambda: http_stage.slack.asked("chat.postMessage"))
    store = http_stage.scene.broker.store
    async with asyncio.timeout(20):
        while True:
            [(place, kept)] = await store.read(lambda session: notices.messages(session, "slack", held.approval_id))
            if kept is not None:
                break
    digest = seen_digest(await http_stage.get(held))
    assert (place, kept) == (
        "slack:#approvals",
        {"channel": held.message.channel.id, "ts": held.message.ts, "shown": digest},
    )
    assert http_stage.choice(held).shown == digest


async def test_a_message_is_sent_so_that_slack_parses_and_unfolds_nothing(http_stage: Stage) -> None:
    held = await http_stage.held(arguments={"text": "<!channel> https://evil.example.com @here"})
    await http_stage.scene.decide(held.approval_id)
    await http_stage.over(held)
    asked = held.message.asked
    assert (asked["parse"], asked["unfurl_links"], asked["unfurl_media"]) == ("none", "false", "false")
    changed = [each for each in http_stage.slack.asked("chat.update") if each.arguments["ts"] == held.message.ts]
    assert {each.arguments["parse"] for each in changed} == {"none"}


async def test_what_a_message_shortens_is_whole_in_its_thread_as_a_file(http_stage: Stage) -> None:
    long = "".join(f"{number}," for number in range(9000))
    held, short = await http_stage.held(arguments={"numbers": long}), await http_stage.held()
    assert "8999," not in words(held.message)
    [shared] = await http_stage.slack.until(lambda: http_stage.slack.thread(held.message))
    [file] = shared.files
    assert file.content is not None
    assert long in file.content.decode()
    await http_stage.scene.decide(short.approval_id)
    told = await http_stage.slack.until(lambda: http_stage.slack.thread(short.message))
    assert not [each for each in told if each.files]


@pytest.mark.parametrize("reason", ["file_uploads_disabled", "storage_limit_reached"])
async def test_a_workspace_that_takes_no_files_hears_the_rest(stage: Stage, reason: str) -> None:
    stage.slack.order(reason, "files.getUploadURLExternal", times=100)
    held = await stage.held(arguments={"numbers": "1," * 9000})
    await stage.slack.until(lambda: stage.slack.asked("files.getUploadURLExternal"))
    await stage.scene.decide(held.approval_id)
    await stage.over(held)
    while not stage.slack.thread(held.message):
        stage.clock.advance(timedelta(seconds=10))
        await stage.scene.broker.store.read(lambda session: None)
    assert block(await held.answer.message())["status"] == "approved"


async def test_the_thread_tells_who_decided_and_what_the_call_returned(http_stage: Stage, server: Scripted) -> None:
    async def answer(message: Message) -> Response:
        return said(message, "moved *3* <!here>")

    server.on["tools/call"] = answer
    held = await http_stage.held()
    await http_stage.scene.decide(held.approval_id)
    await http_stage.slack.until(lambda: len(http_stage.slack.thread(held.message)) == 2)
    decided, returned = http_stage.slack.thread(held.message)
    assert APPROVER.email in words(decided)
    assert "moved *3* <!here>" in words(returned)


async def test_approvers_who_are_named_get_a_direct_message_which_follows_the_call_too(stage: Stage) -> None:
    ann = await stage.known("ann")
    held = await stage.held("ann")
    [direct] = await stage.slack.until(lambda: stage.slack.messages(ann))
    [public] = await stage.slack.until(
        lambda: [
            each for each in stage.slack.messages("#approvals") if held.approval_id in str(each.versions[0].blocks)
        ]
    )
    assert not (await stage.slack.click(ann, direct, APPROVE)).failed
    assert block(await held.answer.message())["status"] == "approved"
    for message in (public, direct):
        await stage.slack.until(lambda each=message: not stage.slack.buttons(each))


async def test_what_only_goes_to_one_person_is_told_nowhere_else(stage: Stage) -> None:
    ann = await stage.known("ann")
    held = await stage.held("direct")
    assert held.message.channel is stage.slack.direct(ann)
    assert not [each for each in stage.slack.messages("#approvals") if held.approval_id in str(each.blocks)]


async def test_an_escalation_mentions_the_people_and_groups_whom_slack_knows(stage: Stage) -> None:
    ann, cat = await stage.known("ann"), await stage.known("cat")
    held = await stage.held("ann")
    await stage.slack.until(lambda: stage.slack.messages(ann))
    stage.clock.advance(timedelta(minutes=6))
    escalated = await stage.slack.until(
        lambda: next((each for each in stage.slack.thread(held.message) if cat.id in str(each.blocks)), None)
    )
    assert mentioned(escalated) == [stage.owners_id, cat.id]


def mentioned(message: Posted) -> list[str]:
    """The ids of the people and groups that a message calls, in their order."""
    return re.findall(r"<(?:@|!subteam\^)([US]\w+)>", str(message.blocks))


async def test_the_head_of_the_record_is_announced_with_the_command_that_checks_it(
    stage: Stage, tmp_path: Path
) -> None:
    announced = await stage.slack.until(
        lambda: next((each for each in stage.slack.messages("#approvals") if "Audit chain head" in words(each)), None)
    )
    [command] = re.findall(r"broker (audit verify --head \d+:[0-9a-f]{64})", words(announced))
    (tmp_path / "broker.toml").write_text("")
    assert (await asyncio.to_thread(Shell(tmp_path).run, *command.split())).status == 0
    broken = command[:-1] + ("0" if command[-1] != "0" else "1")
    ended = await asyncio.to_thread(Shell(tmp_path).run, *broken.split())
    assert (ended.status, "noted" in ended.stderr) == (1, True)
    stage.clock.advance(timedelta(days=1, minutes=1))
    await stage.slack.until(
        lambda: len([each for each in stage.slack.messages("#approvals") if "Audit chain head" in words(each)]) == 2
    )


async def test_who_gives_away_power_does_it_in_the_sight_of_the_channel(stage: Stage) -> None:
    agent = await stage.scene.agent(owner="owner@example.com")
    await stage.slack.until(
        lambda: [each for each in stage.slack.messages("#approvals") if "made a grant for agent" in words(each)]
    )
    await stage.scene.revoke(agent)
    await stage.slack.until(
        lambda: [
            each for each in stage.slack.messages("#approvals") if f"revoked grant {agent.grant.id}" in words(each)
        ]
    )
