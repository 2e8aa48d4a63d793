"""What clients of the stateless era do (2026-07-28), each as a script.

What belongs here: scripts over any transport, and those that only Streamable HTTP has. What does not: running them.
"""

from __future__ import annotations

from typing import Any

from mcp.shared.inbound import encode_header_value

from tests.differential.client import Client, Exchange
from tests.differential.legacy_scripts import (
    META,
    SAMPLED,
    a_large_result,
    calls_side_by_side,
    content_of_every_kind,
    errors,
    lists_in_pages,
    progress,
    prompts_resources_and_completion,
    waiting,
    what_nobody_knows,
)
from tests.differential.over_http import HttpClient
from tests.servers.every.speech import Message

SUBSCRIBED: Message = {
    "toolsListChanged": True,
    "promptsListChanged": True,
    "resourcesListChanged": True,
    "resourceSubscriptions": ["test://text/1"],
    "example.com/unheard": {"a": 1.0},
}
TOLD: list[Message] = [
    {"method": "notifications/tools/list_changed"},
    {"method": "notifications/resources/updated", "params": {"uri": "test://text/1", "_meta": META}},
    {"method": "notifications/tasks", "params": {"taskId": "task/1", "status": "working", "ttlMs": None}},
    {"method": "notifications/example.com/unheard", "params": {"z": 1.0, "a": []}},
]


async def discovery(client: Client) -> None:
    await client.request("server/discover")
    await client.request("server/discover", {"_meta": META})


async def a_call_in_several_rounds(client: Client) -> None:
    requests: Message = {
        "first": {"method": "elicitation/create", "params": {"mode": "form", "message": "?", "requestedSchema": {}}},
        "second": {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1, "temperature": 1.0}},
        "third": {"method": "roots/list"},
    }
    responses: Message = {
        "first": {"action": "accept", "content": {"n": 1.0}},
        "second": SAMPLED,
        "third": {"roots": []},
    }
    asked: Message = {"rounds": 2, "requests": requests}
    result = (await client.call("wants", asked))["result"]
    while result["resultType"] == "input_required":
        given = {"inputResponses": responses, "requestState": result["requestState"]}
        result = (await client.call("wants", asked, **given))["result"]


async def subscriptions_that_the_server_ends(client: Client) -> None:
    listening = [await _listen(client) for _ in range(2)]
    await client.call("announces", {"said": TOLD})
    for told in (*TOLD, *TOLD):
        await client.hear(told["method"])
    await client.call("release", {"name": "listening"})
    for subscription in listening:
        await client.response(subscription)


async def _listen(client: Client) -> Exchange:
    listening = await client.begin("subscriptions/listen", {"notifications": SUBSCRIBED})
    await client.hear("notifications/subscriptions/acknowledged")
    return listening


async def a_subscription_that_the_client_ends(client: Client) -> None:
    await client.cancel(await _listen(client))
    await client.call("gone", {"name": "listening"})


async def tasks_of_the_server(client: Client) -> None:
    task = (await client.call("content", {"task": True}, _meta=META))["result"]
    assert task["resultType"] == "task"
    await client.request("tasks/get", {"taskId": task["taskId"]})
    await client.request("tasks/update", {"taskId": task["taskId"], "inputResponses": {"key": {"roots": []}}})
    await client.request("tasks/get", {"taskId": task["taskId"]})
    second = (await client.call("fails", {"task": True}))["result"]
    await client.request("tasks/cancel", {"taskId": second["taskId"]})
    await client.request("tasks/get", {"taskId": second["taskId"]})
    await client.request("tasks/get", {"taskId": "nothing"})


async def logging(client: Client) -> None:
    for level in ("debug", "error"):
        await client.call("talks", _meta={"io.modelcontextprotocol/logLevel": level})
    await client.call("talks")


async def a_call_that_the_client_cancels(client: Client) -> None:
    await client.cancel(await waiting(client, "cancelled"))
    await client.call("gone", {"name": "cancelled"})


SCRIPTS = (
    discovery, lists_in_pages, content_of_every_kind, what_nobody_knows, errors, a_large_result,
    prompts_resources_and_completion, progress, logging, a_call_in_several_rounds,
    subscriptions_that_the_server_ends, a_subscription_that_the_client_ends, tasks_of_the_server, calls_side_by_side,
    a_call_that_the_client_cancels,
)  # fmt: skip


# -- only over HTTP ---------------------------------------------------------------------------------------------------


async def an_argument_that_a_field_mirrors(client: HttpClient) -> None:
    for region in ("eu", "Zürich", " edge ", ""):
        params: dict[str, Any] = {"name": "label", "arguments": {"region": region}}
        await client.request("tools/call", params, Mcp_Param_Region=encode_header_value(region))


async def requests_with_the_same_id_at_once(client: HttpClient) -> None:
    """In HTTP's stateless era ids are of one client, and nobody tells two clients of one grant apart."""
    first = await waiting(client, "same")
    client.count_again()
    second = await client.begin_call("content")
    await client.ended(second)
    await client.call("release", {"name": "same"})
    await client.ended(first)


async def fields_that_nobody_knows(client: HttpClient) -> None:
    await client.begin("tools/list", X_Unheard="a, b", Mcp_Unheard="1", Traceparent="00-0-0-0", X_Empty="")


HTTP_SCRIPTS = (an_argument_that_a_field_mirrors, requests_with_the_same_id_at_once, fields_that_nobody_knows)
