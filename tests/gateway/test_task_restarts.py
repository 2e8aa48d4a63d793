"""Tasks outlive the broker, in whatever state they are."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from starlette.responses import JSONResponse, Response

from broker.domain.answers import META_KEY
from broker.domain.approvals import Decision
from tests.gateway.scene import HOLD_ACT, Agent, Scene, playing
from tests.gateway.tasking import TaskClient
from tests.servers.scripted import Message, Scripted, result, said

pytestmark = pytest.mark.timeout(60)


@contextlib.asynccontextmanager
async def broker(folder: Path, server: Scripted) -> AsyncGenerator[Scene]:
    """The broker of the test's folder, until the end of the block."""
    async with playing(folder, {"one": {"url": server.url, "policy": HOLD_ACT}}) as scene:
        yield scene


@contextlib.asynccontextmanager
async def with_another_secret(folder: Path, server: Scripted) -> AsyncGenerator[Scene]:
    """The same, but what was sealed before cannot be opened."""
    other = folder / "other"
    other.write_text("t" * 64)
    other.chmod(0o600)
    upstreams = {"one": {"url": server.url, "policy": HOLD_ACT}}
    async with playing(folder, upstreams, server={"secret": f"file:{other}"}) as scene:
        yield scene


async def begun(scene: Scene) -> tuple[TaskClient, str]:
    """A task, and its client."""
    client = TaskClient(await scene.agent())
    return client, (await client.begin())["taskId"]


def again(scene: Scene, client: TaskClient) -> TaskClient:
    """The same client at a broker that was started anew."""
    return TaskClient(Agent(scene.broker.url, client.agent.grant, client.agent.token, scene.http))


async def test_what_waits_for_people_waits_on_and_runs_when_they_say_so(tmp_path: Path, server: Scripted) -> None:
    async with broker(tmp_path, server) as scene:
        client, task = await begun(scene)
        before = await client.get(task)
    async with broker(tmp_path, server) as scene:
        client = again(scene, client)
        after = await client.get(task)
        for told in (before, after):
            del told["statusMessage"]  # the address is another one, and time went on
        assert after == before
        assert (await scene.broker.approvals.get(task)).caller == "task"
        await scene.decide(task)
        assert (await client.until(task, "completed"))["result"]["content"][0]["text"] == "done"
    assert len(server.calls) == 1


async def test_what_was_approved_runs_at_the_next_start_though_nobody_asks(tmp_path: Path, server: Scripted) -> None:
    async with broker(tmp_path, server) as scene:
        client, task = await begun(scene)

        async def away(_: Message) -> Response:
            return Response(status_code=503)

        server.on["tools/list"] = away
        await scene.decide(task)
    del server.on["tools/list"]
    assert server.calls == []
    async with broker(tmp_path, server) as scene:
        await scene.happened("approval.succeeded", client.agent)
        assert (await again(scene, client).get(task))["status"] == "completed"
    assert len(server.calls) == 1


async def test_what_asks_for_input_goes_on_with_it_after_a_restart(tmp_path: Path, server: Scripted) -> None:
    async def answer(message: Message) -> Response:
        request = {"method": "elicitation/create", "params": {"message": "?"}}
        asked = {"inputRequests": {"a": request, "b": request}, "requestState": "s"}
        done = len(server.calls) > 1
        return said(message) if done else result(message, {"resultType": "input_required", **asked})

    server.on["tools/call"] = answer
    async with broker(tmp_path, server) as scene:
        client, task = await begun(scene)
        await scene.decide(task)
        await client.until(task, "input_required")
        await client.update(task, {"1.a": {"n": 1}})
    async with broker(tmp_path, server) as scene:
        client = again(scene, client)
        assert list((await client.get(task))["inputRequests"]) == ["1.b"]
        await client.update(task, {"1.b": {"n": 2}})
        await client.until(task, "completed")
    brought = {"inputResponses": {"a": {"n": 1}, "b": {"n": 2}}, "requestState": "s"}
    assert {key: server.calls[1]["params"][key] for key in brought} == brought


@pytest.mark.parametrize("status", ["completed", "failed", "rejected", "cancelled"])
async def test_how_a_task_ended_is_told_after_a_restart(tmp_path: Path, server: Scripted, status: str) -> None:
    async def answer(message: Message) -> Response:
        error = {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32000, "message": "no"}}
        return said(message) if status == "completed" else JSONResponse(error)

    server.on["tools/call"] = answer
    async with broker(tmp_path, server) as scene:
        client, task = await begun(scene)
        if status == "cancelled":
            await client.cancel(task)
        else:
            await scene.decide(task, Decision.REJECT if status == "rejected" else Decision.APPROVE)
        before = await client.until(task, "completed" if status == "rejected" else status)
    async with broker(tmp_path, server) as scene:
        after = await again(scene, client).get(task)
        for told in (before, after):
            told.get("result", {}).get("_meta", {}).get(META_KEY, {}).pop("review_url", None)  # another address
        assert after == before


async def test_a_task_that_runs_when_the_broker_stops_is_interrupted_and_says_so(
    tmp_path: Path, server: Scripted
) -> None:
    began, end = asyncio.Event(), asyncio.Event()

    async def answer(message: Message) -> Response:
        began.set()
        await end.wait()
        return said(message)

    server.on["tools/call"] = answer
    upstreams = {"one": {"url": server.url, "policy": HOLD_ACT}}
    async with playing(tmp_path, upstreams, server={"stop_within": "1s"}) as scene:
        client, task = await begun(scene)
        await scene.decide(task)
        await began.wait()
    end.set()
    async with broker(tmp_path, server) as scene:
        told = await again(scene, client).get(task)
        assert told["result"]["_meta"][META_KEY]["status"] == "interrupted"
    assert len(server.calls) == 1


async def test_of_a_server_with_another_secret_nothing_that_was_sealed_can_be_had_and_nothing_runs(
    tmp_path: Path, server: Scripted
) -> None:
    async with broker(tmp_path, server) as scene:
        client, done = await begun(scene)
        await scene.decide(done)
        await client.until(done, "completed")
        waiting = (await client.begin())["taskId"]
    async with with_another_secret(tmp_path, server) as scene:
        client = again(scene, client)
        told = await client.get(done)
        assert (told["status"], told["result"]["isError"]) == ("completed", True)
        assert "cannot be given any more" in told["result"]["content"][0]["text"]
        await scene.decide(waiting)
        told = await client.until(waiting, "completed")  # and does not wait until its time is over
        facts = told["result"]["_meta"][META_KEY]
        assert (facts["status"], facts["cause"]) == ("withdrawn", "secret")
    assert len(server.calls) == 1


async def test_a_task_that_cannot_be_given_up_is_not_in_the_way_of_the_others(tmp_path: Path, server: Scripted) -> None:
    async with broker(tmp_path, server) as scene:
        client, earlier = await begun(scene)
        free, later = [(await client.begin())["taskId"] for _ in range(2)]
    with contextlib.closing(sqlite3.connect(tmp_path / "broker.db")) as store:
        stuck = f"OLD.id != '{free}' AND NEW.state = 'withdrawn'"
        refusal = "SELECT RAISE(ABORT, 'no')"
        store.execute(f"CREATE TRIGGER stuck BEFORE UPDATE ON approvals WHEN {stuck} BEGIN {refusal}; END")
    async with with_another_secret(tmp_path, server) as scene:
        for task in (earlier, later, free):
            await scene.decide(task)
        told = await again(scene, client).until(free, "completed")
        assert told["result"]["_meta"][META_KEY]["status"] == "withdrawn"
        assert (await scene.broker.approvals.get(earlier)).state == "approved"
