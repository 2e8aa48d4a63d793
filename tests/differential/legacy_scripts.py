"""What clients of the handshake era do (2025-11-25), each as a script.

What belongs here: scripts over any transport, and those that only Streamable HTTP has. What does not: running them.
"""

from __future__ import annotations

from typing import Any

from tests.differential.client import Client, Exchange
from tests.differential.over_http import HttpClient
from tests.servers.every.speech import Message

META: Message = {"example.com/from-client": {"z": [1.0, None], "a": 2**53 + 1}}


async def the_handshake_and_ping(client: Client) -> None:
    """`open` did the handshake."""
    await client.request("ping")
    await client.request("ping", {"_meta": META})


async def lists_in_pages(client: Client) -> None:
    for method in ("tools/list", "prompts/list", "resources/list", "resources/templates/list"):
        page = (await client.request(method))["result"]
        while cursor := page.get("nextCursor"):
            page = (await client.request(method, {"cursor": cursor, "_meta": META}))["result"]
    await client.request("tools/list", {"cursor": "nowhere"})


async def content_of_every_kind(client: Client) -> None:
    await client.call("content", _meta=META)
    await client.request("tools/call", {"name": "content"})


async def what_nobody_knows(client: Client) -> None:
    await client.call(
        "strange", {"x": 2**70, "f": 1.0, "e": 1e-7, "": None, "ü\u0000": "\u2028"}, **{"x-param": {"a": []}}
    )
    await client.request("example.com/unheard", {"z": 1, "a": {"b": [1.0]}, "_meta": META})
    await client.request("example.com/unheard")
    await client.tell("notifications/example.com/unheard", {"b": 1, "a": 2})
    await client.request("tools/list", {"x-unheard": [{}]})


async def errors(client: Client) -> None:
    await client.call("fails")
    for code in (-32603, -32602, -32002, -32042, 1):
        await client.call("breaks", {"code": code})
    await client.call("no_such_tool")
    await client.request("resources/read", {"uri": "test://nowhere"})


async def a_large_result(client: Client) -> None:
    await client.call("large")


async def prompts_resources_and_completion(client: Client) -> None:
    await client.request("prompts/get", {"name": "greeting", "arguments": {"who": "Ädä", "how": ""}, "_meta": META})
    await client.request("resources/read", {"uri": "test://text/1"})
    await client.request("resources/read", {"uri": "test://blob/1", "_meta": META})
    prompt = {"ref": {"type": "ref/prompt", "name": "greeting"}, "argument": {"name": "who", "value": "A"}}
    await client.request("completion/complete", {**prompt, "context": {"arguments": {"how": "x"}}})
    template = {"type": "ref/resource", "uri": "test://text/{number}"}
    await client.request("completion/complete", {"ref": template, "argument": {"name": "number", "value": ""}})


async def progress(client: Client) -> None:
    for token in (7, "tökén", "7"):
        await client.call("steps", _meta={**META, "progressToken": token})
    await client.call("steps", {"count": 0}, _meta={"progressToken": 0})
    await client.call("steps")


async def logging(client: Client) -> None:
    await client.call("talks")
    for level in ("debug", "error"):
        await client.request("logging/setLevel", {"level": level})
        await client.call("talks")


# -- what the server asks ---------------------------------------------------------------------------------------------

SAMPLED: Message = {
    "role": "assistant",
    "content": [{"type": "tool_use", "id": "1", "name": "x", "input": {"z": 1.0}}, {"type": "text", "text": "ü"}],
    "model": "m",
    "stopReason": "toolUse",
    "_meta": META,
}
ASKED: list[tuple[str, Message | None, dict[str, Any]]] = [
    (
        "sampling/createMessage",
        {
            "messages": [{"role": "user", "content": {"type": "text", "text": "Say ü"}}],
            "modelPreferences": {"hints": [{"name": "m"}], "costPriority": 0.0, "speedPriority": 1},
            "systemPrompt": "Be.",
            "includeContext": "thisServer",
            "temperature": 1.0,
            "maxTokens": 10,
            "stopSequences": ["\n"],
            "tools": [{"name": "x", "inputSchema": {"type": "object"}}],
            "toolChoice": {"mode": "auto"},
            "metadata": {"k": None},
            "_meta": META,
        },
        {"result": SAMPLED},
    ),
    (
        "sampling/createMessage",
        {"messages": [], "maxTokens": 1},
        {"error": {"code": -1, "message": "No.", "data": [1.0]}},
    ),
    (
        "elicitation/create",
        {
            "mode": "form",
            "message": "Who?",
            "requestedSchema": {"type": "object", "properties": {"who": {"type": "string", "format": "email"}}},
        },
        {"result": {"action": "accept", "content": {"who": "a@b", "n": 1.0}, "_meta": META}},
    ),
    (
        "elicitation/create",
        {"message": "Who?", "requestedSchema": {"type": "object"}},
        {"result": {"action": "decline"}},
    ),
    (
        "elicitation/create",
        {"mode": "url", "message": "Go", "url": "https://example.com/?a=%20", "elicitationId": "e-1"},
        {"result": {"action": "cancel"}},
    ),
    ("roots/list", None, {"result": {"roots": [{"uri": "file:///ü", "name": "r", "_meta": META}]}}),
    ("ping", None, {"result": {}}),
    ("example.com/unheard", {"b": 1, "a": 1.0}, {"error": {"code": -32601, "message": "Method not found"}}),
]


async def a_call_that_asks_the_client(client: Client) -> None:
    for method, params, answer in ASKED:
        calling = await client.begin_call("asks", {"method": method, **({} if params is None else {"params": params})})
        await client.answer(await client.hear(method), **answer)
        await client.response(calling)


async def what_the_server_asks_beside_the_call(client: Client) -> None:
    for method, params, answer in ASKED[-3:]:
        asked = {"method": method, **({} if params is None else {"params": params})}
        calling = await client.begin_call("asks_aside", asked)
        await client.answer(await client.hear(method), **answer)
        await client.response(calling)


async def a_request_that_the_server_takes_back(client: Client) -> None:
    await client.call("withdraws")
    await client.hear("sampling/createMessage")
    await client.hear("notifications/cancelled")


async def an_answer_that_comes_with_progress_of_the_client(client: Client) -> None:
    params: Message = {"messages": [], "maxTokens": 1, "_meta": {"progressToken": "of the server"}}
    calling = await client.begin_call("asks", {"method": "sampling/createMessage", "params": params})
    asked = await client.hear("sampling/createMessage")
    told = {"progressToken": asked["params"]["_meta"]["progressToken"], "progress": 1.0, "message": "half"}
    await client.tell("notifications/progress", told)
    await client.answer(asked, result=SAMPLED)
    await client.response(calling)


# -- what the server tells --------------------------------------------------------------------------------------------


async def subscriptions(client: Client) -> None:
    await client.request("resources/subscribe", {"uri": "test://text/1"})
    await client.hear("notifications/resources/updated")
    await client.request("resources/unsubscribe", {"uri": "test://text/1"})
    await client.request("resources/unsubscribe", {"uri": "test://text/1"})


async def changes_of_every_list(client: Client) -> None:
    said: list[Message] = [
        {"method": "notifications/tools/list_changed"},
        {"method": "notifications/prompts/list_changed", "params": {"_meta": META}},
        {"method": "notifications/resources/list_changed", "params": {}},
        {"method": "notifications/elicitation/complete", "params": {"elicitationId": "e-1"}},
        {"method": "notifications/message", "params": {"level": "info", "data": None}},
        {"method": "notifications/example.com/unheard", "params": {"z": 1.0, "a": []}, "x-beside": 1},
    ]
    await client.call("announces", {"said": said})
    for told in said:
        await client.hear(told["method"])
    await client.tell("notifications/roots/list_changed")


async def calls_side_by_side(client: Client) -> None:
    calls = [await waiting(client, name) for name in ("first", "second")]
    await client.call("release", {"name": "second"})
    await client.response(calls[1])
    await client.call("release", {"name": "first"})
    await client.response(calls[0])


async def waiting(client: Client, name: str) -> Exchange:
    """A call that goes on until it is released."""
    wants_log = {"io.modelcontextprotocol/logLevel": "debug"}
    calling = await client.begin_call("waits", {"name": name}, _meta=wants_log)
    await client.hear("notifications/message")
    return calling


async def a_call_that_the_client_cancels(client: Client) -> None:
    await client.cancel(await waiting(client, "cancelled"))
    await client.call("gone", {"name": "cancelled"})


async def tasks_of_the_server(client: Client) -> None:
    first = (await client.call("content", task={"ttl": 60000}, _meta=META))["result"]["task"]["taskId"]
    asked = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {"type": "object"}}}
    second = (await client.call("asks", asked, task={}))["result"]["task"]["taskId"]
    await client.call("content", task={})
    page = await client.request("tasks/list")
    await client.request("tasks/list", {"cursor": page["result"]["nextCursor"]})
    await client.request("tasks/get", {"taskId": first})
    await client.request("tasks/result", {"taskId": first})
    ending = await client.begin("tasks/result", {"taskId": second, "_meta": META})
    await client.answer(await client.hear("elicitation/create"), result={"action": "decline"})
    await client.response(ending)
    await client.request("tasks/cancel", {"taskId": "task-3"})
    await client.request("tasks/cancel", {"taskId": "task-3"})
    await client.request("tasks/get", {"taskId": "nothing"})
    for _ in range(3):
        await client.hear("notifications/tasks/status")


SCRIPTS = (
    the_handshake_and_ping, lists_in_pages, content_of_every_kind, what_nobody_knows, errors, a_large_result,
    prompts_resources_and_completion, progress, logging, a_call_that_asks_the_client,
    what_the_server_asks_beside_the_call, a_request_that_the_server_takes_back,
    an_answer_that_comes_with_progress_of_the_client, subscriptions, changes_of_every_list, calls_side_by_side,
    a_call_that_the_client_cancels, tasks_of_the_server,
)  # fmt: skip


# -- only over HTTP ---------------------------------------------------------------------------------------------------


async def a_stream_that_the_server_drops_is_resumed(client: HttpClient) -> None:
    calling = await client.begin_call("drops", {"name": "it"})
    await client.ended(calling)
    resumed = await client.get(calling.last_event_id)
    await client.call("release", {"name": "it"})
    await client.response(calling)
    await client.ended(resumed)
    replayed = await client.get(calling.last_event_id)
    await client.ended(replayed)


async def the_stream_of_the_server_is_resumed(client: HttpClient) -> None:
    said = [{"method": f"notifications/example.com/{number}"} for number in range(7)]
    await client.call("announces", {"said": said})
    await client.hear(said[-1]["method"])
    await client.leave(client.exchanges[2])
    again = await client.get("0-3")
    await client.hear(said[-1]["method"])
    await client.leave(again)


async def a_list_of_tools_is_resumed(client: HttpClient) -> None:
    """What a stream replays is changed by nobody but policy."""
    calling = await client.begin("tools/list")
    await client.response(calling)
    replayed = await client.get("1-0")
    await client.ended(replayed)


async def a_second_stream_is_refused(client: HttpClient) -> None:
    await client.get()


async def a_client_that_loses_its_connection_has_not_cancelled(client: HttpClient) -> None:
    calling = await waiting(client, "lost")
    await client.leave(calling)
    await client.call("release", {"name": "lost"})
    resumed = await client.get(calling.last_event_id)
    await client.response(calling)
    await client.ended(resumed)


async def a_session_that_is_over(client: HttpClient) -> None:
    await client.delete()
    await client.post(b'{"jsonrpc":"2.0","id":99,"method":"tools/list"}')
    await client.get()


async def a_version_that_the_server_does_not_speak(client: HttpClient) -> None:
    await client.begin("ping", MCP_Protocol_Version="2024-01-01")


async def requests_that_are_written_oddly(client: HttpClient) -> None:
    """The broker writes them again, so what has to be the same is what they say, in the same order."""
    await client.post(
        b'\r\n\t{ "params" : { "z" : [ ] , "a" : { } } ,\n"method":"ping" , "id":"\\u00e9\\/" ,"jsonrpc":"2.0"}\n '
    )
    numbers = b"[1.0,1e2,1E+2,1.50,-0.0,18446744073709551615,18446744073709551616,-9223372036854775809,1e-400,0.1]"
    await client.post(b'{"jsonrpc":"2.0","id":9223372036854775808,"method":"ping","params":{"x":' + numbers + b"}}")
    await client.post(
        b'{"jsonrpc":"2.0","id":0,"method":"ping","x":"\xe2\x80\xa8\\u0000\\ud83d\\ude00\x7f","":{"":null}}'
    )
    await client.post(b'{"jsonrpc":"2.0","id":-1,"method":"ping","params":{"x":' + b"[" * 80 + b"]" * 80 + b"}}")
    await client.post(b'{"jsonrpc":"2.0","id":"","method":"ping","params":{"__proto__":{"a":1},"toString":1}}')


async def fields_that_nobody_knows(client: HttpClient) -> None:
    await client.begin("ping", X_Unheard="a, b", Mcp_Unheard="1", Traceparent="00-0-0-0", X_Empty="", X_Latin="Zürich")


HTTP_SCRIPTS = (
    a_stream_that_the_server_drops_is_resumed, the_stream_of_the_server_is_resumed, a_list_of_tools_is_resumed,
    a_second_stream_is_refused, a_client_that_loses_its_connection_has_not_cancelled, a_session_that_is_over,
    a_version_that_the_server_does_not_speak, requests_that_are_written_oddly, fields_that_nobody_knows,
)  # fmt: skip
