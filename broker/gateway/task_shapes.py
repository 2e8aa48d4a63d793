"""Tasks as they are on the wire (the extension `io.modelcontextprotocol/tasks` of 2026-07-28).

What belongs here: the extension's names and shapes, and what a client declares. What does not: answering requests
(`tasks`), where a task stands (`broker.domain.tasks`). Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from broker.domain import answers, waiting
from broker.domain.approvals import State
from broker.domain.audit import timestamp
from broker.domain.history import moment
from broker.domain.tasks import Task, TaskStatus
from broker.domain.text import visible
from broker.gateway.jsonrpc import INVALID_REQUEST
from broker.gateway.protocol import CLIENT_CAPABILITIES_META_KEY, MISSING_REQUIRED_CLIENT_CAPABILITY
from broker.gateway.refusals import marked
from broker.gateway.wire import Message, WireError

EXTENSION = "io.modelcontextprotocol/tasks"
REQUIRED: dict[str, Any] = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}

POLL_EVERY, POLL_SOON = 5000, 1000
"""Milliseconds after which it is worth asking again: while people decide, and while it runs."""

LONGEST_NAME = 80
"""Characters of a tool's name in what a person is told."""

_MILLISECOND = timedelta(milliseconds=1)


def declares(message: Message) -> bool:
    """Whether a request says that its client can be given a task."""
    return isinstance(_extensions(message.params).get(EXTENSION), dict)


def check_declared(message: Message) -> None:
    """Refuse a request about tasks of a client that does not know of them, and what is called so and is no request.

    Raises:
        WireError: -32021, with what is missing; -32600, it has no id to answer to.
    """
    if message.id is None:
        raise WireError(INVALID_REQUEST, f"{message.method} needs an id: it has an answer.")
    if not declares(message):
        told = f"Missing required client capability: the extension {EXTENSION}"
        raise WireError(MISSING_REQUIRED_CLIENT_CAPABILITY, told, message.id, REQUIRED)


def without_tasks(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """`params` of a request whose answer cannot be a task: without what its client declares of them."""
    extensions = _extensions(params)
    if EXTENSION not in extensions:
        return params
    meta = params["_meta"]
    rest = {name: value for name, value in extensions.items() if name != EXTENSION}
    capabilities = {**meta[CLIENT_CAPABILITIES_META_KEY], "extensions": rest}
    return {**params, "_meta": {**meta, CLIENT_CAPABILITIES_META_KEY: capabilities}}


def advertised(response: dict[str, Any]) -> Mapping[str, Any]:
    """A response to `server/discover` that names the extension too; what the server says of its own stays."""
    result = _object(response.get("result"))
    capabilities = _object(result.get("capabilities"))
    extensions = _object(capabilities.get("extensions"))
    if not result or EXTENSION in extensions:
        return response
    named: dict[str, Any] = {**capabilities, "extensions": {**extensions, EXTENSION: {}}}
    return {**response, "result": {**result, "capabilities": named}}


def created(task: Task, now: datetime, review_url: str) -> dict[str, Any]:
    """The result that gives a client its task instead of the call's own."""
    return {"resultType": "task", **_seed(task, now, review_url)}


def detailed(task: Task, now: datetime, review_url: str) -> dict[str, Any]:
    """The whole of a task as it stands: what `tasks/get` answers, beside its `resultType`."""
    told = _seed(task, now, review_url)
    match task.status:
        case TaskStatus.INPUT_REQUIRED:
            return {**told, "inputRequests": task.outstanding}
        case TaskStatus.COMPLETED:
            return {**told, "result": _result(task, review_url)}
        case TaskStatus.FAILED:
            return {**told, "error": (task.answer or {})["error"]}
        case _:
            return told


def _seed(task: Task, now: datetime, review_url: str) -> dict[str, Any]:
    approval = task.approval
    waits = task.status is TaskStatus.WORKING and approval.state is State.PENDING
    message = _message(task, now, review_url)
    return {
        "taskId": approval.id,
        "status": task.status.value,
        "createdAt": timestamp(approval.created_at),
        "lastUpdatedAt": timestamp(task.updated_at),
        "ttlMs": (task.expires_at - approval.created_at) // _MILLISECOND,
        "pollIntervalMs": POLL_EVERY if waits or task.outstanding else POLL_SOON,
        **({"statusMessage": message} if message else {}),
    }


def _result(task: Task, review_url: str) -> Any:
    approval = task.approval
    if task.answer is not None:
        return marked(task.answer, answers.approved(approval))["result"]
    if approval.state in (State.SUCCEEDED, State.FAILED):
        return answers.unreadable(approval).result(modern=True)
    if approval.state is State.INTERRUPTED:
        return answers.interrupted(approval.id, _doubt(task)).result(modern=True)
    return answers.of(approval, review_url).result(modern=True)


def _message(task: Task, now: datetime, review_url: str) -> str:
    """What a person is told of where it stands; nothing where the result says it all."""
    state = task.approval.state
    match task.status:
        case TaskStatus.WORKING if state is State.PENDING:
            return waiting.message(task.approval, now, review_url)
        case TaskStatus.WORKING if state is State.APPROVED:
            return "Approved; it runs as soon as it can be sent."
        case TaskStatus.WORKING:
            return "Approved; it runs." if not task.called_off else "Cancelled; the server has not answered yet."
        case TaskStatus.INPUT_REQUIRED:
            return "Approved; the tool asks for input before it goes on."
        case TaskStatus.FAILED:
            return "Approved and sent; the server answered with an error."
        case TaskStatus.CANCELLED:
            return f"Cancelled. {_doubt(task)}" if state is State.INTERRUPTED else "Cancelled; nothing ran."
        case TaskStatus.COMPLETED:
            return f"{_doubt(task)} Look at its effect." if state is State.INTERRUPTED else ""


def _doubt(task: Task) -> str:
    """What is known of one that was cut off."""
    tool = visible(task.approval.call.tool)
    named = tool if len(tool) <= LONGEST_NAME else f"{tool[: LONGEST_NAME - 1]}…"
    began = f" was started at {moment(task.began_at)}, and" if task.began_at is not None else ""
    return f"{named}{began} may or may not have run."


def _extensions(params: Mapping[str, Any]) -> dict[str, Any]:
    meta = _object(params.get("_meta"))
    return _object(_object(meta.get(CLIENT_CAPABILITIES_META_KEY)).get("extensions"))


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
