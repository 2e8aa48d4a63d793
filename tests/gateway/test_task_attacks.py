"""Attacks on tasks: ids of others and guessed ones, undeclared clients, words out of shape, and a look at the store."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from broker.domain.canonical import new_id
from broker.store import audit
from tests.gateway.scene import HOLD_ACT, Agent, Scene, modern, playing
from tests.gateway.tasking import CAPABLE, EXTENSION, TaskClient
from tests.servers.scripted import Message, Scripted, result, said
from tests.store.dump import whole_store

pytestmark = pytest.mark.timeout(60)

METHODS = ("tasks/get", "tasks/update", "tasks/cancel")
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
SECRET = "correcthorsebatterystaple"


async def ask(client: TaskClient, method: str, task_id: str, **more: Any) -> dict[str, Any]:
    """The error that a request about a task is answered with."""
    response = await client.ask(method, task_id, inputResponses={"1.a": {"action": "accept"}}, **more)
    return response["error"]


@pytest.fixture
async def client(small: Scene) -> TaskClient:
    return TaskClient(await small.agent())


@pytest.mark.parametrize("method", METHODS)
async def test_another_grants_task_is_as_unknown_as_one_that_never_was(
    small: Scene, server: Scripted, client: TaskClient, method: str
) -> None:
    other = TaskClient(await small.agent())
    task = (await other.begin())["taskId"]
    waits_on_a_line = await other.agent.call("one", "act")
    no_task = await small.submitted(other.agent, 2)
    unknown = [task, no_task, new_id("apr"), "apr_", "apr_\u00e9\x00", f"{task}x", "apr_' OR '1'='1"]
    told = [await ask(client, method, task_id) for task_id in unknown]
    assert told == [told[0]] * len(unknown)
    assert told[0]["code"] == -32602
    assert "data" not in told[0]
    assert [message for message in server.seen if str(message.get("method")).startswith("tasks/")] == []
    assert (await other.get(task))["status"] == "working"
    assert await small.kinds(other.agent) == ["approval.submitted"] * 2
    waits_on_a_line.leave()


async def test_a_task_is_unknown_at_another_upstream_of_the_same_grant(tmp_path: Path, server: Scripted) -> None:
    upstreams = {name: {"url": server.url, "policy": HOLD_ACT} for name in ("one", "two")}
    async with playing(tmp_path, upstreams) as scene:
        agent = await scene.agent()
        task = (await TaskClient(agent).begin())["taskId"]
        for method in METHODS:
            assert (await ask(TaskClient(agent, "two"), method, task))["code"] == -32602
        assert (await TaskClient(agent).get(task))["status"] == "working"


async def test_ids_have_128_random_bits(client: TaskClient) -> None:
    ids = {(await client.begin())["taskId"] for _ in range(4)}
    assert len(ids) == 4
    assert all(len(bytes.fromhex(each.removeprefix("apr_"))) == 16 for each in ids)


@pytest.mark.parametrize("method", METHODS)
async def test_a_client_that_does_not_declare_the_extension_hears_what_is_missing_and_nothing_of_the_task(
    small: Scene, server: Scripted, client: TaskClient, method: str
) -> None:
    task = (await client.begin())["taskId"]
    for task_id in (task, new_id("apr")):
        error = await ask(client, method, task_id, capable=False)
        assert (error["code"], error["data"]) == (-32021, {"requiredCapabilities": {"extensions": {EXTENSION: {}}}})
        assert task_id not in error["message"]
    assert (await client.get(task))["status"] == "working"


@pytest.mark.parametrize("method", [*METHODS, "subscriptions/listen"])
async def test_a_notification_that_is_called_as_a_request_about_tasks_does_nothing_to_one(
    small: Scene, server: Scripted, client: TaskClient, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    task = (await client.begin())["taskId"]
    params = {"taskId": task, "notifications": {"taskIds": [task]}, "_meta": CAPABLE}
    message = modern(method, params)
    del message["id"]
    answer = await client.agent.send("one", message)
    assert (answer.status, (await answer.message())["error"]["code"]) == (400, -32600)
    assert (await client.get(task))["status"] == "working"
    assert method not in [message.get("method") for message in server.seen]
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("method", METHODS)
async def test_a_server_without_tasks_is_one_that_has_no_such_task(
    small: Scene, server: Scripted, client: TaskClient, method: str
) -> None:
    for task_id in ("t-1", None, 7, ["apr_"]):
        named = "t-1" if task_id == "t-1" else None
        answer = await client.agent.send(
            "one", modern(method, {"taskId": task_id, "_meta": CAPABLE}, "r"), {"Mcp-Name": named}
        )
        assert (answer.status, (await answer.message())["error"]["code"]) == (200, -32602)
    answer = await client.agent.send("one", modern(method, {"taskId": "t-1"}, "r"), {"Mcp-Name": "t-1"})
    assert (await answer.message())["error"]["code"] == -32021


@pytest.mark.parametrize("method", METHODS)
async def test_a_request_about_a_task_has_to_name_it_for_who_routes_by_that(
    small: Scene, server: Scripted, client: TaskClient, method: str
) -> None:
    task = (await client.begin())["taskId"]
    for task_id in (task, "t-1"):
        message = modern(method, {"taskId": task_id, "inputResponses": {}, "_meta": CAPABLE})
        answer = await client.agent.send("one", message, {"Mcp-Name": None})
        assert (answer.status, (await answer.message())["error"]["code"]) == (400, -32020)
    assert (await client.get(task))["status"] == "working"
    assert method not in [message.get("method") for message in server.seen]


@pytest.mark.parametrize(
    "extensions", [None, [], EXTENSION, [EXTENSION], *({EXTENSION: each} for each in (None, True))]
)
async def test_what_does_not_declare_the_extension_is_held_on_a_line(
    small: Scene, server: Scripted, client: TaskClient, extensions: Any
) -> None:
    meta = {CAPABILITIES: {"extensions": extensions}}
    held = await client.agent.call("one", "act", **meta)
    assert held.headers["content-type"] == "text/event-stream"
    held.leave()


@pytest.mark.parametrize("responses", [None, [], "a", 1])
async def test_input_that_is_no_object_is_refused(small: Scene, client: TaskClient, responses: Any) -> None:
    task = (await client.begin())["taskId"]
    response = await client.ask("tasks/update", task, inputResponses=responses)
    assert response["error"]["code"] == -32602


async def test_a_server_that_makes_a_task_of_a_held_call_all_the_same_does_not_confuse_its_agent(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    async def own(message: Message) -> Any:
        return result(message, {"resultType": "task", "taskId": "t-1", "status": "working"})

    server.on["tools/call"] = own
    task = (await client.begin())["taskId"]
    await small.decide(task)
    told = await client.until(task, "completed")
    assert told["taskId"] == task
    assert told["result"]["taskId"] == "t-1"


async def test_a_task_that_is_approved_ten_times_at_once_runs_once(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    task = (await client.begin())["taskId"]
    await asyncio.gather(*(small.decide(task) for _ in range(10)))
    await asyncio.gather(*(client.until(task, "completed") for _ in range(5)))
    assert len(server.calls) == 1


async def test_a_running_task_is_not_cancelled_by_a_notification_that_names_it(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    """Of whichever era: the extension has a request for that."""
    began, end = asyncio.Event(), asyncio.Event()

    async def answer(message: Message) -> Any:
        began.set()
        await end.wait()
        return said(message)

    server.on["tools/call"] = answer
    task = (await client.begin())["taskId"]
    await small.decide(task)
    await began.wait()
    notice = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": task}}
    assert (await client.agent.send("one", notice)).status == 202
    end.set()
    assert (await client.until(task, "completed"))["result"]["content"][0]["text"] == "done"


async def test_what_is_redacted_and_what_a_task_is_answered_lies_nowhere_open_in_the_store(
    tmp_path: Path, server: Scripted, store_url: str
) -> None:
    async def answer(message: Message) -> Any:
        if len(server.calls) == 1:
            requests = {"who": {"method": "elicitation/create", "params": {"message": f"{SECRET}?"}}}
            state = {"requestState": f"state {SECRET}"}
            return result(message, {"resultType": "input_required", "inputRequests": requests, **state})
        return said(message, f"got {SECRET} and itsownsecretword")

    server.on["tools/call"] = answer
    settings_url = store_url.replace("+psycopg", "")
    policy = {**HOLD_ACT, "redact": ["args.password"]}
    async with playing(tmp_path, {"one": {"url": server.url, "policy": policy}}, store=settings_url) as scene:
        client = TaskClient(await scene.agent())
        task = (await client.begin(arguments={"password": SECRET}, traceparent=SECRET))["taskId"]
        held = await asyncio.to_thread(whole_store, store_url)
        await scene.decide(task)
        asked = await client.until(task, "input_required")
        assert asked["inputRequests"]["1.who"]["params"]["message"] == f"{SECRET}?"
        waiting = await asyncio.to_thread(whole_store, store_url)
        await client.update(task, {"1.who": {"action": "accept", "content": {"name": SECRET}}})
        told = await client.until(task, "completed")
        assert SECRET in json.dumps(told)
        ended = await asyncio.to_thread(whole_store, store_url)
        rows = await scene.broker.store.read(lambda session: list(audit.stream(session)))
        await _is_erased(scene, client.agent)
    for found in (held, waiting, ended, repr(rows)):
        assert SECRET not in found
    assert server.calls[1]["params"]["arguments"] == {"password": SECRET}


async def _is_erased(scene: Scene, agent: Agent) -> None:
    """Of an ended task nothing but its answer is kept."""
    with scene.broker.store.engine.connect() as connection:
        row = connection.exec_driver_sql("SELECT request, questions, answer FROM tasks").one()
        sealed = connection.exec_driver_sql("SELECT sealed FROM approvals").scalar_one()
    assert (row.request, row.questions, sealed) == (None, None, None)
    assert row.answer
