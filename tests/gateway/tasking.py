"""A client of MCP's tasks extension, as no SDK has one yet: it is on the wire, and takes nothing that is out of shape.

What belongs here: the shapes of the extension `io.modelcontextprotocol/tasks` (2026-07-28) as far as a client sees
them, in our own words, and a client that holds every answer against them. What does not: any statement about behaviour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from mcp.shared.inbound import encode_header_value
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tests.gateway.scene import Agent, Bare, modern
from tests.servers import BOUND, PAUSE

EXTENSION = "io.modelcontextprotocol/tasks"
CAPABLE: dict[str, Any] = {"io.modelcontextprotocol/clientCapabilities": {"extensions": {EXTENSION: {}}}}
"""What a request's `_meta` says when its client can be given a task."""

_Instant = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")]


class _Exact(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Task(_Exact):
    taskId: str  # noqa: N815 - names of the wire
    statusMessage: Annotated[str, Field(min_length=1, max_length=200)] | None = None  # noqa: N815
    createdAt: _Instant  # noqa: N815
    lastUpdatedAt: _Instant  # noqa: N815
    ttlMs: Annotated[int, Field(gt=0)] | None  # noqa: N815
    pollIntervalMs: Annotated[int, Field(gt=0)] | None = None  # noqa: N815


class _Created(_Task):
    resultType: Literal["task"]  # noqa: N815
    status: Literal["working", "input_required", "completed", "failed", "cancelled"]


class _Working(_Task):
    status: Literal["working"]


class _InputRequest(BaseModel):
    method: Literal["elicitation/create", "sampling/createMessage", "roots/list"]
    params: dict[str, Any] | None = None


class _InputRequired(_Task):
    status: Literal["input_required"]
    inputRequests: dict[str, _InputRequest]  # noqa: N815


class _Completed(_Task):
    status: Literal["completed"]
    result: dict[str, Any]


class _Error(_Exact):
    code: int
    message: str
    data: Any = None


class _Failed(_Task):
    status: Literal["failed"]
    error: _Error


class _Cancelled(_Task):
    status: Literal["cancelled"]


_DETAILED: TypeAdapter[Any] = TypeAdapter(
    Annotated[_Working | _InputRequired | _Completed | _Failed | _Cancelled, Field(discriminator="status")]
)


def whole_task(told: Mapping[str, Any]) -> dict[str, Any]:
    """A task as `tasks/get` and `notifications/tasks` give it, once it was found to be in shape."""
    _DETAILED.validate_python(dict(told))
    return dict(told)


class TaskClient:
    """An agent that knows the extension."""

    def __init__(self, agent: Agent, upstream: str = "one") -> None:
        self.agent = agent
        self.upstream = upstream

    async def call(self, tool: str = "act", arguments: Mapping[str, Any] | None = None, **meta: Any) -> Bare:
        """A call, whatever it is answered with."""
        params = {"name": tool, "arguments": dict(arguments or {}), "_meta": {**CAPABLE, **meta}}
        return await self.agent.send(self.upstream, modern("tools/call", params, 7))

    async def begin(self, tool: str = "act", arguments: Mapping[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
        """A call that is answered with a task: that."""
        answer = await self.call(tool, arguments, **meta)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        created: dict[str, Any] = (await answer.message())["result"]
        _Created.model_validate(created)
        return created

    async def ask(self, method: str, task_id: str, *, capable: bool = True, **params: Any) -> dict[str, Any]:
        """The response to a request about a task."""
        meta = CAPABLE if capable else {}
        message = modern(method, {"taskId": task_id, "_meta": meta, **params}, "r")
        answer = await self.agent.send(self.upstream, message, {"Mcp-Name": encode_header_value(task_id)})
        response = await answer.message()
        assert answer.status == (400 if "error" in response else 200)
        assert response["id"] == "r"
        return response

    async def get(self, task_id: str) -> dict[str, Any]:
        """The task as it stands."""
        told: dict[str, Any] = (await self.ask("tasks/get", task_id))["result"]
        assert told.pop("resultType") == "complete"
        assert told["taskId"] == task_id
        return whole_task(told)

    async def cancel(self, task_id: str) -> None:
        """Say that nobody wants it any more."""
        assert (await self.ask("tasks/cancel", task_id))["result"] == {"resultType": "complete"}

    async def update(self, task_id: str, responses: Mapping[str, Any]) -> None:
        """Bring input."""
        told = await self.ask("tasks/update", task_id, inputResponses=dict(responses))
        assert told["result"] == {"resultType": "complete"}

    async def until(self, task_id: str, status: str) -> dict[str, Any]:
        """The task as soon as it stands so."""
        async with asyncio.timeout(BOUND):
            while (told := await self.get(task_id))["status"] != status:  # noqa: ASYNC110
                await asyncio.sleep(PAUSE)
        return told
