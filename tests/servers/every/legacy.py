"""The methods of the handshake era (2025-11-25), core tasks among them.

What belongs here: what a request of that era is answered with. What does not: its sessions over HTTP (`over_http`).
"""

from __future__ import annotations

from typing import Any

from tests.servers.every import tools
from tests.servers.every.content import (
    LISTED_PROMPTS,
    LISTED_RESOURCES,
    LISTED_TEMPLATES,
    LISTED_TOOLS,
    META,
    READ,
    SERVER_INFO,
)
from tests.servers.every.session import Methods, Refused, Turn
from tests.servers.every.speech import Message

RELATED = "io.modelcontextprotocol/related-task"
WHEN = "2026-01-01T00:00:00Z"
CAPABILITIES: Message = {
    "experimental": {"example.com/x": {"y": [1]}},
    "logging": {},
    "completions": {},
    "prompts": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": True},
    "tools": {"listChanged": True},
    "tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}},
    "extensions": {"example.com/unheard": {"depth": 1.0}},
}


async def initialize(turn: Turn) -> Message:
    """The handshake."""
    return {
        "protocolVersion": turn.params["protocolVersion"],
        "capabilities": CAPABILITIES,
        "serverInfo": SERVER_INFO,
        "instructions": "Use every féature.\n",
        "_meta": META,
    }


async def nothing(turn: Turn) -> Message:
    """An empty result."""
    return {}


def page(turn: Turn, key: str, pages: list[list[Message]]) -> Message:
    """One page of a list."""
    cursor = turn.params.get("cursor", "page 0")
    if cursor not in (f"page {number}" for number in range(len(pages))):
        raise Refused(-32602, "Invalid cursor", cursor=cursor)
    number = int(cursor.split()[1])
    more = {"nextCursor": f"page {number + 1}"} if number + 1 < len(pages) else {}
    return {"_meta": META, key: pages[number], **more}


async def list_tools(turn: Turn) -> Message:
    """`tools/list`."""
    return page(turn, "tools", LISTED_TOOLS)


async def list_prompts(turn: Turn) -> Message:
    """`prompts/list`."""
    return page(turn, "prompts", LISTED_PROMPTS)


async def list_resources(turn: Turn) -> Message:
    """`resources/list`."""
    return page(turn, "resources", LISTED_RESOURCES)


async def list_templates(turn: Turn) -> Message:
    """`resources/templates/list`."""
    return page(turn, "resourceTemplates", LISTED_TEMPLATES)


async def get_prompt(turn: Turn) -> Message:
    """`prompts/get`."""
    asked = turn.params.get("arguments", {})
    message = {"role": "user", "content": {"type": "text", "text": f"Greet {asked.get('who')}."}}
    picture = {"role": "assistant", "content": {"type": "image", "data": "AA==", "mimeType": "image/png"}}
    return {"description": "Greets.", "messages": [message, picture], "_meta": META}


async def read(turn: Turn) -> Message:
    """`resources/read`."""
    uri = turn.params["uri"]
    if uri not in READ:
        raise Refused(-32002, "Resource not found", uri=uri)
    return {"contents": READ[uri], "_meta": META}


async def complete(turn: Turn) -> Message:
    """`completion/complete`."""
    typed = turn.params["argument"]["value"]
    return {"completion": {"values": [f"{typed}nna", f"{typed}da"], "total": 2, "hasMore": False}}


async def set_level(turn: Turn) -> Message:
    """`logging/setLevel`."""
    turn.session.level = turn.params["level"]
    return {}


async def subscribe(turn: Turn) -> Message:
    """`resources/subscribe`."""
    turn.session.subscribed.add(turn.params["uri"])
    turn.session.aside(_updated(turn.params["uri"]))
    return {}


async def unsubscribe(turn: Turn) -> Message:
    """`resources/unsubscribe`."""
    if turn.params["uri"] not in turn.session.subscribed:
        raise Refused(-32602, "Not subscribed", uri=turn.params["uri"])
    turn.session.subscribed.remove(turn.params["uri"])
    return {}


def _updated(uri: str) -> Message:
    return {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri, "title": "One"}}


# -- core tasks -------------------------------------------------------------------------------------------------------


async def call(turn: Turn) -> Message:
    """`tools/call`, as a task where the client wants one."""
    if "task" not in turn.params:
        return await tools.call(turn)
    task_id = f"task-{len(turn.session.tasks) + 1}"
    task = {"taskId": task_id, "status": "working", "statusMessage": "Under way", "createdAt": WHEN}
    task |= {"lastUpdatedAt": WHEN, "ttl": turn.params["task"].get("ttl"), "pollInterval": 5}
    turn.session.tasks[task_id] = {"task": task, "turn": turn}
    return {"task": task, "_meta": {"io.modelcontextprotocol/model-immediate-response": "Wait."}}


def _task(turn: Turn) -> Message:
    found: Any = turn.session.tasks.get(turn.params["taskId"])
    if found is None:
        raise Refused(-32602, "Task not found", taskId=turn.params["taskId"])
    return found


async def get_task(turn: Turn) -> Message:
    """`tasks/get`."""
    return {**_task(turn)["task"], "_meta": META}


async def task_result(turn: Turn) -> Message:
    """`tasks/result`: the call runs now, and what it asks is asked here."""
    found = _task(turn)
    asked: Turn = found["turn"]
    result = await tools.call(Turn(turn.session, asked.message, turn.sink, turn.cut))
    _move(turn, "completed")
    return {**result, "_meta": {**result.get("_meta", {}), RELATED: {"taskId": found["task"]["taskId"]}}}


async def list_tasks(turn: Turn) -> Message:
    """`tasks/list`."""
    return page(turn, "tasks", [[found["task"]] for found in turn.session.tasks.values()])


async def cancel_task(turn: Turn) -> Message:
    """`tasks/cancel`."""
    if _task(turn)["task"]["status"] != "working":
        raise Refused(-32602, "Cannot cancel a task that is over", status=_task(turn)["task"]["status"])
    return _move(turn, "cancelled")


def _move(turn: Turn, status: str) -> Message:
    found = _task(turn)
    found["task"] = {**found["task"], "status": status, "statusMessage": status.title()}
    told = {"jsonrpc": "2.0", "method": "notifications/tasks/status", "params": {**found["task"], "_meta": META}}
    turn.session.aside(told)
    return found["task"]


METHODS: Methods = {
    "initialize": initialize,
    "ping": nothing,
    "tools/list": list_tools,
    "tools/call": call,
    "prompts/list": list_prompts,
    "prompts/get": get_prompt,
    "resources/list": list_resources,
    "resources/templates/list": list_templates,
    "resources/read": read,
    "resources/subscribe": subscribe,
    "resources/unsubscribe": unsubscribe,
    "completion/complete": complete,
    "logging/setLevel": set_level,
    "tasks/get": get_task,
    "tasks/result": task_result,
    "tasks/list": list_tasks,
    "tasks/cancel": cancel_task,
}
