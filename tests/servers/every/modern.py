"""The methods of the stateless era (2026-07-28), with rounds, subscriptions and the tasks extension.

What belongs here: what a request of that era is answered with. What does not: its header fields (`over_http`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.servers.every import legacy, tools
from tests.servers.every.content import META, SERVER_INFO
from tests.servers.every.session import Methods, Refused, Turn
from tests.servers.every.speech import Message, literal

TASKS = "io.modelcontextprotocol/tasks"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
WHEN = "2026-01-01T00:00:00Z"
CAPABILITIES: Message = {
    "experimental": {"example.com/x": {"y": [1]}},
    "logging": {},
    "completions": {},
    "prompts": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": True},
    "tools": {"listChanged": True},
    "extensions": {TASKS: {}, "example.com/unheard": {"depth": 1.0}},
}


async def discover(turn: Turn) -> Message:
    """`server/discover`."""
    return {
        "supportedVersions": ["2026-07-28"],
        "capabilities": CAPABILITIES,
        "instructions": "Use every féature.\n",
        "_meta": {**META, "io.modelcontextprotocol/serverInfo": SERVER_INFO},
    }


async def listen(turn: Turn) -> Message:
    """`subscriptions/listen`: until somebody releases `listening`, or the client leaves."""
    wanted = {"notifications": turn.params["notifications"], "_meta": {SUBSCRIPTION: turn.message["id"]}}
    turn.say("notifications/subscriptions/acknowledged", wanted)
    turn.session.listening.append(turn)
    try:
        await turn.session.released["listening"].wait()
    except asyncio.CancelledError:
        turn.session.gone["listening"].set()
        raise
    finally:
        turn.session.listening.remove(turn)
    return {"_meta": {SUBSCRIPTION: turn.message["id"]}}


# -- calls ------------------------------------------------------------------------------------------------------------


async def call(turn: Turn) -> Message:
    """`tools/call`: a task where the client can take one and the arguments want it."""
    arguments = turn.params.get("arguments", {})
    extensions = turn.meta["io.modelcontextprotocol/clientCapabilities"].get("extensions", {})
    match turn.params.get("name"):
        case "wants":
            return _wants(turn)
        case "strange":
            return {"resultType": "example.com/hologram", **await tools.strange(turn)}
        case _ if TASKS in extensions and arguments.get("task"):
            return _make_task(turn)
        case _:
            return await tools.call(turn)


def _wants(turn: Turn) -> Message:
    """Ask for something in each of the rounds, and give back what came."""
    rounds: int = turn.params["arguments"]["rounds"]
    done = int(turn.params.get("requestState", "round 0").split()[1])
    if done < rounds:
        wanted = turn.params["arguments"]["requests"]
        state = {"requestState": f"round {done + 1} of \u00e9tat"}
        return {"resultType": "input_required", "inputRequests": wanted, **state, "_meta": META}
    return tools.said("enough", structuredContent={"responses": turn.params.get("inputResponses"), "rounds": done})


def _make_task(turn: Turn) -> Message:
    task_id = f"task/{len(turn.session.tasks) + 1}"
    task: Message = {"taskId": task_id, "status": "working", "statusMessage": "Under way"}
    task |= {"createdAt": WHEN, "lastUpdatedAt": WHEN, "ttlMs": None, "pollIntervalMs": 5}
    turn.session.tasks[task_id] = {"task": task, "turn": turn, "asked": False}
    return {"resultType": "task", **task, "_meta": META, "x-more": literal("1e2")}


def _task(turn: Turn) -> Message:
    found: Any = turn.session.tasks.get(turn.params["taskId"])
    if found is None:
        raise Refused(-32602, "Task not found", taskId=turn.params["taskId"])
    return found


async def get_task(turn: Turn) -> Message:
    """`tasks/get`: wants something the first time, is done after an update."""
    found = _task(turn)
    if found["task"]["status"] == "working":
        wanted: Message = {"key": {"method": "roots/list", "params": {}}}
        found["task"] = {**found["task"], "status": "input_required", "inputRequests": wanted}
    return found["task"]


async def update_task(turn: Turn) -> Message:
    """`tasks/update`: only acknowledges; the task ends by it."""
    found = _task(turn)
    result = {"resultType": "complete", **await tools.call(found["turn"])}
    done = {key: value for key, value in found["task"].items() if key != "inputRequests"}
    found["task"] = {**done, "status": "completed", "result": result}
    return {}


async def cancel_task(turn: Turn) -> Message:
    """`tasks/cancel`: only acknowledges."""
    found = _task(turn)
    found["task"] = {**found["task"], "status": "cancelled"}
    return {}


# -- what every result has --------------------------------------------------------------------------------------------


def _complete(does: Callable[[Turn], Awaitable[Message]]) -> Callable[[Turn], Awaitable[Message]]:
    async def whole(turn: Turn) -> Message:
        return {"resultType": "complete", **await does(turn)}

    return whole


def _kept(does: Callable[[Turn], Awaitable[Message]]) -> Callable[[Turn], Awaitable[Message]]:
    async def cached(turn: Turn) -> Message:
        return {**await does(turn), "ttlMs": 0, "cacheScope": "private", "resultType": "complete"}

    return cached


METHODS: Methods = {
    "server/discover": _kept(discover),
    "subscriptions/listen": _complete(listen),
    "tools/list": _kept(legacy.list_tools),
    "tools/call": _complete(call),
    "prompts/list": _kept(legacy.list_prompts),
    "prompts/get": _complete(legacy.get_prompt),
    "resources/list": _kept(legacy.list_resources),
    "resources/templates/list": _kept(legacy.list_templates),
    "resources/read": _kept(legacy.read),
    "completion/complete": _complete(legacy.complete),
    "tasks/get": _complete(get_task),
    "tasks/update": _complete(update_task),
    "tasks/cancel": _complete(cancel_task),
}
