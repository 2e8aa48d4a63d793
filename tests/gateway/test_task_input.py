"""Tasks whose tool asks for input: the agent is told what, brings it in parts if it likes, and the call goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from broker.approvals.sweeps import sweep
from broker.domain.answers import META_KEY
from broker.domain.moves import MOST_ROUNDS
from tests.clock import MovableClock
from tests.gateway.scene import HOLD_ACT, Scene, modern, playing
from tests.gateway.tasking import TaskClient
from tests.servers.scripted import Message, Scripted, result, said

pytestmark = pytest.mark.timeout(60)

YES: dict[str, Any] = {"action": "accept", "content": {"x": 1}}


def question(*keys: str, state: Any = "s") -> dict[str, Any]:
    """A result that asks for input."""
    requests = {key: {"method": "elicitation/create", "params": {"message": f"{key}?"}} for key in keys}
    asked = {"inputRequests": requests} if keys else {}
    return {"resultType": "input_required", **asked, **({"requestState": state} if state is not None else {})}


class Asking:
    """A tool that asks each of `questions` in turn, and then is done."""

    def __init__(self, server: Scripted, *questions: dict[str, Any]) -> None:
        self.server = server
        self.questions = questions
        server.on["tools/call"] = self.answer

    async def answer(self, message: Message) -> Response:
        """Ask, or be done."""
        nth = len(self.server.calls)
        return result(message, self.questions[nth - 1]) if nth <= len(self.questions) else said(message)


@pytest.fixture
async def client(small: Scene) -> TaskClient:
    return TaskClient(await small.agent())


async def begun(scene: Scene, client: TaskClient) -> str:
    """A task that was approved."""
    task = (await client.begin(arguments={"n": 1}))["taskId"]
    await scene.decide(task)
    return task


async def test_a_task_goes_on_with_the_input_that_its_tool_asked_for(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    Asking(server, question("a", "b", state="s1"), question("a", state=None))
    task = await begun(small, client)
    asked = await client.until(task, "input_required")
    assert asked["inputRequests"] == {f"1.{key}": question(key)["inputRequests"][key] for key in ("a", "b")}
    assert asked["statusMessage"] == "Approved; the tool asks for input before it goes on."
    await client.update(task, {"1.a": YES, "1.b": {"action": "decline"}})
    asked = await client.until(task, "input_required")
    assert list(asked["inputRequests"]) == ["2.a"]  # no key is used twice
    await client.update(task, {"2.a": YES})
    told = await client.until(task, "completed")
    assert told["result"]["_meta"][META_KEY]["status"] == "approved"
    first, second, third = [{**call["params"], "_meta": None} for call in server.calls]
    assert second == {**first, "requestState": "s1", "inputResponses": {"a": YES, "b": {"action": "decline"}}}
    assert third == {**first, "inputResponses": {"a": YES}}
    rounds = ["approval.asked", "approval.brought", "approval.continued"] * 2
    before = ["approval.submitted", "approval.approved", "approval.claimed"]
    assert await small.kinds(client.agent) == [*before, *rounds, "approval.succeeded"]
    assert (await small.broker.approvals.get(task)).caller == "task"


async def test_input_may_come_in_parts_and_what_nothing_asks_for_is_left(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    Asking(server, question("a", "b"))
    task = await begun(small, client)
    await client.until(task, "input_required")
    await client.update(task, {"1.a": YES, "a": YES, "2.a": YES, "b": YES})
    assert list((await client.get(task))["inputRequests"]) == ["1.b"]
    await client.update(task, {"1.a": {"action": "cancel"}})  # answered already
    assert list((await client.get(task))["inputRequests"]) == ["1.b"]
    assert len(server.calls) == 1
    await client.update(task, {"1.b": YES})
    await client.until(task, "completed")
    assert server.calls[1]["params"]["inputResponses"] == {"a": YES, "b": YES}
    await client.update(task, {"1.b": YES})
    assert len(server.calls) == 2


async def test_a_tool_that_only_wants_to_be_called_again_is(small: Scene, server: Scripted, client: TaskClient) -> None:
    Asking(server, question(state="later"), question(state="again"))
    task = await begun(small, client)
    await client.until(task, "completed")
    assert [call["params"].get("requestState") for call in server.calls] == [None, "later", "again"]


async def test_a_tool_may_ask_ten_times_and_not_again(small: Scene, server: Scripted, client: TaskClient) -> None:
    Asking(server, *(question(state=f"s{nth}") for nth in range(MOST_ROUNDS + 1)))
    task = await begun(small, client)
    told = await client.until(task, "completed")
    assert told["result"]["_meta"][META_KEY]["status"] == "interrupted"
    assert len(server.calls) == MOST_ROUNDS + 1


async def test_the_input_of_two_identical_tasks_is_not_mixed_up(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    async def answer(message: Message) -> Response:
        brought = message["params"].get("inputResponses")
        return said(message, str(brought["a"])) if brought else result(message, question("a", state=None))

    server.on["tools/call"] = answer
    tasks = [await begun(small, client) for _ in range(3)]
    for task in tasks:
        await client.until(task, "input_required")
    for task in reversed(tasks):
        await client.update(task, {"1.a": {"whose": task}})
    for task in tasks:
        told = await client.until(task, "completed")
        assert told["result"]["content"][0]["text"] == str({"whose": task})


async def test_the_input_of_a_task_comes_by_its_id_and_not_by_the_call_again(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    Asking(server, question("a", state="s"))
    task = await begun(small, client)
    await client.until(task, "input_required")
    again = {"name": "act", "arguments": {"n": 1}, "requestState": "s", "inputResponses": {"a": YES}}
    told = await (await client.agent.send("one", modern("tools/call", again))).message()
    assert told["result"]["_meta"][META_KEY]["cause"] == "input"
    assert len(server.calls) == 1
    assert (await client.get(task))["status"] == "input_required"


async def test_a_task_that_asks_for_input_ends_when_it_is_cancelled(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    Asking(server, question("a"))
    task = await begun(small, client)
    await client.until(task, "input_required")
    await client.cancel(task)
    assert (await client.get(task))["status"] == "cancelled"
    await client.update(task, {"1.a": YES})
    row = await small.happened("approval.interrupted", client.agent)
    assert "cancelled its task while the tool waited for input" in row.detail["why"]
    assert len(server.calls) == 1


async def test_input_that_could_not_be_sent_is_sent_again(small: Scene, server: Scripted, client: TaskClient) -> None:
    Asking(server, question("a"))
    task = await begun(small, client)
    await client.until(task, "input_required")
    tries: list[Message] = []

    async def not_yet(message: Message) -> Response:
        tries.append(message)
        return Response(status_code=503) if len(tries) == 1 else result(message, {"tools": server.tools})

    server.on["tools/list"] = not_yet
    await client.update(task, {"1.a": YES})
    assert (await client.get(task))["status"] == "working"
    await client.until(task, "completed")
    assert len(server.calls) == 2


@pytest.fixture
async def timed(tmp_path: Path, server: Scripted, clock: MovableClock) -> AsyncGenerator[Scene]:
    """A broker of the test's own, on its clock."""
    async with playing(tmp_path, {"one": {"url": server.url, "policy": HOLD_ACT}}, clock=clock) as made:
        yield made


async def test_input_that_never_comes_ends_a_task_in_doubt(timed: Scene, server: Scripted, clock: MovableClock) -> None:
    Asking(server, question("a"))
    client = TaskClient(await timed.agent())
    task = await begun(timed, client)
    await client.until(task, "input_required")
    clock.advance(timedelta(minutes=15))
    await sweep(timed.broker.approvals)
    told = await client.get(task)
    assert told["result"]["_meta"][META_KEY]["status"] == "interrupted"
    assert len(server.calls) == 1


@pytest.mark.parametrize("requests", [None, [], "a", 7])
async def test_requests_that_are_out_of_shape_are_none(
    small: Scene, server: Scripted, client: TaskClient, requests: Any
) -> None:
    Asking(server, {"resultType": "input_required", "inputRequests": requests, "requestState": "s"})
    task = await begun(small, client)
    await asyncio.wait_for(client.until(task, "completed"), 20)
    assert server.calls[1]["params"]["requestState"] == "s"
