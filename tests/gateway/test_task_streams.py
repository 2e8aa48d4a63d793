"""Changes of tasks are told on `subscriptions/listen`, beside what the server tells there of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response, StreamingResponse

from broker.domain.canonical import new_id
from tests.gateway.scene import HOLD_ACT, Bare, Scene, modern, playing
from tests.gateway.streams import sse
from tests.gateway.tasking import CAPABLE, EXTENSION, TaskClient, whole_task
from tests.servers.scripted import Message, Scripted

pytestmark = pytest.mark.timeout(60)

ID = "io.modelcontextprotocol/subscriptionId"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"


@pytest.fixture
async def client(small: Scene) -> TaskClient:
    return TaskClient(await small.agent())


async def listen(client: TaskClient, *task_ids: Any, capable: bool = True, **wanted: Any) -> Bare:
    """Ask for a stream."""
    meta = CAPABLE if capable else {}
    params = {"notifications": {"taskIds": list(task_ids), **wanted}, "_meta": meta}
    return await client.agent.send("one", modern("subscriptions/listen", params, "l"))


async def acknowledged(stream: Bare) -> dict[str, Any]:
    """What was agreed to, by the first message."""
    first = await stream.event()
    assert (first["method"], first["params"]["_meta"]) == (ACKNOWLEDGED, {ID: "l"})
    return first["params"]["notifications"]


async def next_task(stream: Bare) -> dict[str, Any]:
    """The next change of a task, whole."""
    told = await stream.event()
    assert told["method"] == "notifications/tasks"
    assert told["params"].pop("_meta") == {ID: "l"}
    return whole_task(told["params"])


async def test_each_change_of_a_task_is_told_as_a_get_would_tell_it(small: Scene, client: TaskClient) -> None:
    task = (await client.begin())["taskId"]
    stream = await listen(client, task)
    assert stream.headers["content-type"] == "text/event-stream"
    assert await acknowledged(stream) == {"taskIds": [task]}
    assert (await next_task(stream))["status"] == "working"
    await small.decide(task)
    seen = [await next_task(stream)]
    while seen[-1]["status"] == "working":
        seen.append(await next_task(stream))
    assert seen[-1] == await client.get(task)
    assert seen[-1]["result"]["content"][0]["text"] == "done"
    stream.leave()


async def test_of_tasks_that_are_not_ones_own_nothing_is_agreed_to_or_told(small: Scene, client: TaskClient) -> None:
    other = TaskClient(await small.agent())
    theirs, mine = (await other.begin())["taskId"], (await client.begin())["taskId"]
    stream = await listen(client, theirs, mine, new_id("apr"), mine, 7)
    assert await acknowledged(stream) == {"taskIds": [mine]}
    assert (await next_task(stream))["taskId"] == mine
    await other.cancel(theirs)
    await client.cancel(mine)
    told = await next_task(stream)
    assert (told["taskId"], told["status"]) == (mine, "cancelled")
    stream.leave()
    stranger = await listen(client, theirs)
    assert await acknowledged(stranger) == {}
    stranger.leave()


async def test_a_client_that_does_not_declare_the_extension_gets_no_stream(small: Scene, client: TaskClient) -> None:
    answer = await listen(client, (await client.begin())["taskId"], capable=False)
    error = (await answer.message())["error"]
    assert (answer.status, error["code"]) == (400, -32021)
    assert error["data"] == {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
    assert (await (await listen(client, *(new_id("apr") for _ in range(201)))).message())["error"]["code"] == -32602


class Telling:
    """A server with a stream of its own, which says what the test puts in."""

    def __init__(self, server: Scripted) -> None:
        self.says: asyncio.Queue[Message | None] = asyncio.Queue()
        self.left = asyncio.Event()
        self.asked: list[Message] = []
        server.on["subscriptions/listen"] = self.listen

    async def listen(self, message: Message) -> Response:
        """The stream, acknowledged."""
        self.asked.append(message)
        wanted = message["params"]["notifications"]
        ack = {"method": ACKNOWLEDGED, "params": {"_meta": {ID: message["id"]}, "notifications": wanted, "more": 1}}

        async def chunks() -> AsyncGenerator[bytes]:
            try:
                yield sse({"jsonrpc": "2.0", **ack})
                while (said := await self.says.get()) is not None:
                    yield sse(said)
            finally:
                self.left.set()

        return StreamingResponse(chunks(), media_type="text/event-stream")


async def test_the_servers_own_notifications_come_on_the_same_stream(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    telling = Telling(server)
    task = (await client.begin())["taskId"]
    stream = await listen(client, task, "t-1", toolsListChanged=True)
    agreed = await acknowledged(stream)
    assert agreed == {"toolsListChanged": True, "taskIds": ["t-1", task]}
    assert telling.asked[0]["params"]["notifications"] == {"toolsListChanged": True, "taskIds": ["t-1"]}
    assert (await next_task(stream))["taskId"] == task
    own = {"jsonrpc": "2.0", "method": "notifications/tasks", "params": {"taskId": "t-1", "unknown": 1}}
    telling.says.put_nowait(own)
    assert await stream.event() == own
    await client.cancel(task)
    assert (await next_task(stream))["status"] == "cancelled"
    stream.leave()
    await asyncio.wait_for(telling.left.wait(), 20)


async def test_a_stream_ends_when_the_servers_part_of_it_does(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    telling = Telling(server)
    stream = await listen(client, (await client.begin())["taskId"], promptsListChanged=True)
    await acknowledged(stream)
    await next_task(stream)
    end = {"jsonrpc": "2.0", "id": "l", "result": {"resultType": "complete", "_meta": {ID: "l"}}}
    telling.says.put_nowait(end)
    telling.says.put_nowait(None)
    assert await stream.event() == end
    assert (await stream.whole()).strip() == b""


async def test_a_server_that_tells_of_nothing_does_not_keep_its_client_from_hearing_of_tasks(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    async def broken(message: Message) -> Response:
        return Response(status_code=503)

    async def strange(message: Message) -> Response:
        return Response(
            sse({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}), 200, {}, "text/event-stream"
        )

    async def refuses(message: Message) -> Response:
        error = {"code": -32601, "message": "Method not found"}
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "error": error}, 404)

    task = (await client.begin())["taskId"]
    for answer in (refuses, broken, strange):
        server.on["subscriptions/listen"] = answer
        stream = await listen(client, task, toolsListChanged=True)
        assert await acknowledged(stream) == {"taskIds": [task]}
        assert (await next_task(stream))["taskId"] == task
        stream.leave()


async def test_a_stream_without_tasks_of_the_brokers_own_is_the_servers(
    small: Scene, server: Scripted, client: TaskClient
) -> None:
    telling = Telling(server)
    stream = await listen(client, "t-1", toolsListChanged=True, capable=False)
    assert (await stream.event())["params"]["more"] == 1
    assert telling.asked[0]["params"]["notifications"] == {"taskIds": ["t-1"], "toolsListChanged": True}
    stream.leave()


async def test_the_stream_of_a_grant_that_ended_is_ended(small: Scene, client: TaskClient) -> None:
    task = (await client.begin())["taskId"]
    stream = await listen(client, task)
    await acknowledged(stream)
    await next_task(stream)
    await small.revoke(client.agent)
    await stream.whole()


async def test_a_stream_is_told_that_the_broker_stops(tmp_path: Path, server: Scripted) -> None:
    async with playing(tmp_path, {"one": {"url": server.url, "policy": HOLD_ACT}}) as scene:
        client = TaskClient(await scene.agent())
        stream = await listen(client, (await client.begin())["taskId"])
        await acknowledged(stream)
        await next_task(stream)
        closing = asyncio.ensure_future(scene.broker.endpoint.close(within=5))
        end = await stream.event()
        assert end == {"jsonrpc": "2.0", "id": "l", "result": {"resultType": "complete", "_meta": {ID: "l"}}}
        await closing
