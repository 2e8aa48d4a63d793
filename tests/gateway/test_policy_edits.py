"""Edits of policy files while the broker runs: what the next call, the list of tools and waiting approvals get."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.domain.approvals import Cause, State
from broker.domain.audit import Row, verify
from broker.domain.searching import AuditFilter
from broker.policy.watch import LOOK_EVERY, InForce
from broker.store import audit, searching
from tests.gateway.scene import HOLD_ACT, Agent, Bare, Scene, block, modern, playing
from tests.servers import BOUND, PAUSE
from tests.servers.scripted import Scripted

WITHIN = 3.0  # a second, and what a busy machine takes
"""Seconds in which an edit reaches every process."""

DENY_ACT: dict[str, Any] = {"default": "allow", "tools": {"act": {"action": "deny", "reason": "not any more"}}}
ALLOW_ACT: dict[str, Any] = {"default": "allow", "tools": {"act": {}}}
HIDE_ACT: dict[str, Any] = {"default": "allow", "hide": ["act"]}


class Edited:
    """A scene of the test's own whose upstream `one` has a policy file."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.scene = scene
        self.path = folder / "one.policy.json"

    @property
    def in_force(self) -> InForce:
        return self.scene.broker.policies["one"]

    def write(self, document: dict[str, Any]) -> None:
        self.path.write_text(json.dumps({"version": "1", **document}))

    async def save(self, document: dict[str, Any]) -> None:
        """Return once it is in force."""
        before = self.in_force.policy.digest
        self.write(document)
        await self.until(lambda: self.in_force.policy.digest != before)

    async def spoil(self, text: str = "{") -> None:
        """Return once the file is refused; what the edit before it led to is done by then."""
        self.path.write_text(text)
        await self.until(lambda: self.in_force.trouble is not None)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(BOUND):
            while not holds():  # noqa: ASYNC110 - a policy that is in force tells nobody
                await asyncio.sleep(PAUSE)

    async def ready(self) -> tuple[int, dict[str, Any]]:
        """What `/readyz` says."""
        async with self.scene.http.get(f"{self.scene.broker.url}/readyz") as answer:
            return answer.status, await answer.json()

    async def rows(self, kind: str, many: int = 0) -> list[Row]:
        """What was recorded of this kind, oldest first, once so many are there: what is in force is recorded soon."""
        wanted, found = AuditFilter(kind=kind), list[Row]()
        async with asyncio.timeout(BOUND):
            while not found or len(found) < many:
                found = (await self.scene.broker.store.read(lambda session: searching.page(session, wanted))).rows
        return found[::-1]


@pytest.fixture
async def edited(tmp_path: Path, server: Scripted) -> AsyncGenerator[Edited]:
    """`act` is held at first, all else is allowed."""
    async with playing(tmp_path, {"one": {"url": server.url, "policy": HOLD_ACT}}) as scene:
        yield Edited(scene, tmp_path)


@asynccontextmanager
async def held(edited: Edited, agent: Agent) -> AsyncGenerator[tuple[str, Bare]]:
    """A held call: its approval's id, and its answer. In the end its caller goes away."""
    answer = await agent.call("one", "act")
    try:
        yield await edited.scene.submitted(agent), answer
    finally:
        answer.leave()


async def status(agent: Agent, tool: str) -> str:
    """What becomes of a call that nobody is asked about."""
    message = await (await agent.call("one", tool)).message()
    return block(message)["status"] if "_meta" in message["result"] else "ran"


async def tools(agent: Agent) -> set[str]:
    message = await (await agent.send("one", modern("tools/list"))).message()
    return {tool["name"] for tool in message["result"]["tools"]}


# -- the next call ----------------------------------------------------------------------------------------------------


async def test_the_next_call_is_judged_by_a_good_edit_within_a_second(edited: Edited) -> None:
    agent = await edited.scene.agent()
    for document, told in ((DENY_ACT, "denied"), (ALLOW_ACT, "ran")):
        async with asyncio.timeout(WITHIN):
            await edited.save(document)
        assert await status(agent, "act") == told


async def test_a_tool_that_is_hidden_now_leaves_the_list_and_comes_back(edited: Edited) -> None:
    agent = await edited.scene.agent()
    assert "act" in await tools(agent)
    await edited.save(HIDE_ACT)
    assert "act" not in await tools(agent)
    assert await status(agent, "act") == "denied"
    await edited.save(ALLOW_ACT)
    assert "act" in await tools(agent)


@pytest.mark.parametrize("text", ["", "{}", '{"version": "1", "default": "allwo"}', '{"version": "1", "default": "all'])
async def test_a_bad_edit_is_refused_and_the_old_policy_stays(edited: Edited, text: str) -> None:
    agent = await edited.scene.agent()
    await edited.save(DENY_ACT)
    await edited.spoil(text)
    assert await status(agent, "act") == "denied"
    assert await status(agent, "look") == "ran"


async def test_a_file_that_disappears_leaves_its_policy_and_is_loaded_when_it_is_back(edited: Edited) -> None:
    agent = await edited.scene.agent()
    await edited.save(DENY_ACT)
    edited.path.unlink()
    await edited.until(lambda: edited.in_force.trouble is not None)
    assert "is gone. The policy loaded at " in (edited.in_force.error or "")
    assert await status(agent, "act") == "denied"
    await edited.save(ALLOW_ACT)
    assert edited.in_force.trouble is None
    assert await status(agent, "act") == "ran"


async def test_an_endless_burst_of_saves_counts_within_a_second(edited: Edited) -> None:
    agent = await edited.scene.agent()
    new = edited.path.with_suffix(".new")

    async def keep_saving() -> None:
        for number in itertools.count():
            new.write_text(json.dumps({"version": "1", **DENY_ACT, "description": str(number)}))
            new.replace(edited.path)
            await edited.ready()

    saving = asyncio.ensure_future(keep_saving())
    try:
        async with asyncio.timeout(WITHIN):
            await edited.until(lambda: edited.in_force.policy.book.entries["act"].action == "deny")
        assert await status(agent, "act") == "denied"
    finally:
        saving.cancel()


async def test_each_upstream_is_judged_by_its_own_file(tmp_path: Path, server: Scripted) -> None:
    upstream: dict[str, Any] = {"url": server.url, "policy": HOLD_ACT}
    async with playing(tmp_path, {"one": upstream, "two": upstream, "bare": {"url": server.url}}) as scene:
        edited = Edited(scene, tmp_path)
        await edited.save(DENY_ACT)
        assert scene.broker.policies["two"].policy.book.entries["act"].action == "hold"
        assert scene.broker.policies["bare"].policy.source == "no policy"


# -- open approvals ---------------------------------------------------------------------------------------------------


async def test_a_waiting_call_that_is_denied_now_is_withdrawn_and_its_caller_is_told(edited: Edited) -> None:
    agent = await edited.scene.agent()
    async with held(edited, agent) as (approval_id, answer):
        await edited.save(DENY_ACT)
        told = block(await answer.message())
        assert (told["status"], told["cause"], told["approval_id"]) == ("withdrawn", "policy", approval_id)
    row = await edited.scene.happened("approval.withdrawn", agent)
    assert row.actor == "broker"
    assert (row.detail["rule"], row.detail["cause"]) == ("tools.act.action", "policy")
    assert row.detail["policy"] == edited.in_force.policy.digest


async def test_a_call_of_a_tool_that_is_hidden_now_is_withdrawn(edited: Edited) -> None:
    agent = await edited.scene.agent()
    async with held(edited, agent) as (_, answer):
        await edited.save(HIDE_ACT)
        assert block(await answer.message())["status"] == "withdrawn"


async def test_an_approval_that_waits_for_its_caller_is_withdrawn_too(edited: Edited) -> None:
    agent, scene = await edited.scene.agent(), edited.scene
    async with held(edited, agent) as (approval_id, _):
        pass
    await scene.happened("approval.abandoned", agent)
    await scene.decide(approval_id)
    await edited.save(DENY_ACT)
    await scene.happened("approval.withdrawn", agent)
    withdrawn = await scene.broker.approvals.get(approval_id)
    assert withdrawn.state is State.WITHDRAWN
    assert withdrawn.resolution is not None
    assert withdrawn.resolution.cause is Cause.POLICY


@pytest.mark.parametrize(
    "document",
    [ALLOW_ACT, {"default": "hold"}, {"default": "allow", "tools": {"act": {"action": "hold", "risk": "low"}}}],
)
async def test_a_waiting_call_that_is_allowed_or_held_now_keeps_what_it_was_held_for(
    edited: Edited, document: dict[str, Any]
) -> None:
    agent = await edited.scene.agent()
    async with held(edited, agent) as (approval_id, answer):
        before = await edited.scene.broker.approvals.get(approval_id)
        await edited.save(document)
        await edited.spoil()
        assert await edited.scene.broker.approvals.get(approval_id) == before
        await edited.scene.decide(approval_id)
        assert block(await answer.message())["status"] == "approved"


async def test_a_call_that_is_approved_while_the_file_is_bad_still_runs(edited: Edited) -> None:
    agent = await edited.scene.agent()
    async with held(edited, agent) as (approval_id, answer):
        await edited.spoil()
        await edited.scene.decide(approval_id)
        assert block(await answer.message())["status"] == "approved"


async def test_the_calls_of_other_upstreams_wait_on(tmp_path: Path, server: Scripted) -> None:
    upstream: dict[str, Any] = {"url": server.url, "policy": HOLD_ACT}
    async with playing(tmp_path, {"one": upstream, "two": upstream}) as scene:
        edited, agent, other = Edited(scene, tmp_path), await scene.agent(), await scene.agent()
        elsewhere = await other.call("two", "act")
        waits = await scene.submitted(other)
        async with held(edited, agent) as (_, answer):
            await edited.save(DENY_ACT)
            assert block(await answer.message())["status"] == "withdrawn"
        assert (await scene.broker.approvals.get(waits)).state is State.PENDING
        elsewhere.leave()


async def test_what_was_denied_while_the_broker_was_down_is_withdrawn_at_its_start(
    tmp_path: Path, server: Scripted
) -> None:
    async with playing(tmp_path, {"one": {"url": server.url, "policy": HOLD_ACT}}) as scene:
        agent = await scene.agent()
        async with held(Edited(scene, tmp_path), agent) as (approval_id, _):
            pass
        await scene.happened("approval.abandoned", agent)
    async with playing(tmp_path, {"one": {"url": server.url, "policy": DENY_ACT}}) as scene:
        assert (await scene.broker.approvals.get(approval_id)).state is State.WITHDRAWN


# -- what is told of it -----------------------------------------------------------------------------------------------


async def test_the_record_says_which_policy_is_in_force_from_where_and_which_before(edited: Edited) -> None:
    first = edited.in_force.policy.digest
    await edited.save(DENY_ACT)
    started, swapped = await edited.rows("policy.loaded", 2)
    assert (started.actor, started.upstream) == ("broker", "one")
    assert started.detail == {"digest": first, "source": str(edited.path), "before": None}
    assert swapped.detail == {"digest": edited.in_force.policy.digest, "source": str(edited.path), "before": first}
    store = edited.scene.broker.store
    await store.read(lambda session: verify(audit.stream(session), audit.head(session)))


async def test_a_refused_document_is_recorded_with_its_mistakes_bounded(edited: Edited) -> None:
    tools = {f"tool_{number}": {"action": "x" * 1000} for number in range(100)}
    await edited.spoil(json.dumps({"version": "1", "default": "deny", "tools": tools}))
    (row,) = await edited.rows("policy.refused")
    assert (row.actor, row.upstream, row.detail["in_force"]) == ("broker", "one", edited.in_force.policy.digest)
    assert (len(row.detail["mistakes"]), row.detail["left_out"]) == (20, 80)
    assert "tools.tool_0.action: " in row.detail["mistakes"][0]
    assert all(len(mistake) <= 300 for mistake in row.detail["mistakes"])


async def test_the_log_tells_each_change_and_each_mistake_once(
    edited: Edited, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "broker.approvals.policies")
    await edited.spoil('{"version": "1", "default": "allwo", "hdie": []}')
    edited.path.touch()
    looked_at = asyncio.get_running_loop().time() + 4 * LOOK_EVERY
    await edited.until(lambda: asyncio.get_running_loop().time() > looked_at)
    await edited.save(DENY_ACT)
    await edited.until(lambda: sum(one.name == "broker.approvals.policies" for one in caplog.records) == 2)
    refused, swapped = [one.getMessage() for one in caplog.records if one.name == "broker.approvals.policies"]
    head, *mistakes = refused.splitlines()
    assert head.startswith(f"one: {edited.path} has 2 mistakes. The policy loaded at ")
    assert ["default: " in mistakes[0], "hdie: " in mistakes[1]] == [True, True]
    assert swapped == f"one: {edited.path} is in force now (1 tool, default allow)"


async def test_readiness_says_what_is_in_force_and_what_is_wrong(edited: Edited) -> None:
    code, told = await edited.ready()
    policy = edited.in_force.policy
    assert (code, told["status"]) == (200, "ok")
    assert told["policies"]["one"] | {"loaded_at": None} == {
        "source": str(edited.path),
        "digest": policy.digest,
        "loaded_at": None,
        "error": None,
        "mistakes": [],
    }
    await edited.spoil('{"version": "1", "default": "allow", "hdie": []}')
    code, told = await edited.ready()
    assert (code, told["status"]) == (200, "degraded")
    assert told["policies"]["one"]["digest"] == policy.digest
    (mistake,) = told["policies"]["one"]["mistakes"]
    assert mistake.endswith("hdie: unknown key; did you mean hide?")
    assert mistake in told["policies"]["one"]["error"]
    await edited.save(DENY_ACT)
    code, told = await edited.ready()
    assert (code, told["status"], told["policies"]["one"]["error"]) == (200, "ok", None)


async def test_a_file_that_is_again_what_is_in_force_is_no_trouble_and_no_row(edited: Edited) -> None:
    await edited.save(DENY_ACT)
    await edited.spoil()
    edited.write(DENY_ACT)
    await edited.until(lambda: edited.in_force.trouble is None)
    assert len(await edited.rows("policy.loaded")) == 2
    assert len(await edited.rows("policy.refused")) == 1
