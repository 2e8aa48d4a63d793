"""Held calls of one upstream that are tasks: giving them to clients, and what clients ask about them.

What belongs here: the requests of MCP's tasks extension about tasks of the broker's own. What does not: an upstream's
own tasks, which pass; shapes (`task_shapes`); telling of changes (`subscriptions`); when a task runs (`errands`).

Source: the extension `io.modelcontextprotocol/tasks` (2026-07-28).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

from broker.approvals.requests import CANCELLED
from broker.approvals.service import Approvals
from broker.domain.answers import Answer
from broker.domain.approvals import Approval
from broker.domain.calls import TRANSPORT_META
from broker.domain.people import Grant
from broker.domain.tasks import PREFIX, Errand, Task
from broker.errors import BrokerError, NotFound, TransitionRefused
from broker.gateway.continuation import Continuations
from broker.gateway.errands import Errands, Nobody
from broker.gateway.execution import Execution
from broker.gateway.held import Hold
from broker.gateway.holds import Holds
from broker.gateway.inbound import Inbound
from broker.gateway.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND
from broker.gateway.refusals import asked_id, refused
from broker.gateway.replies import json_reply, rewrite
from broker.gateway.subscriptions import LISTEN, Forward, Subscriptions
from broker.gateway.task_shapes import advertised, check_declared, created, detailed, without_tasks
from broker.gateway.upstreams import UpstreamReply
from broker.gateway.wire import Message, WireError, result_message

log = logging.getLogger(__name__)

METHODS = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})

_UNKNOWN_METHOD = 404
"""The HTTP status of an answer that says that there is no such method (2026-07-28, Transports)."""

Opening = Coroutine[Any, Any, Approval | Answer]
"""Asks for an approval that is a task: gives it, or what the agent is told instead."""


class Tasks:
    """The tasks of one upstream."""

    def __init__(
        self,
        upstream: str,
        approvals: Approvals,
        holds: Holds,
        execution: Execution,
        continuations: Continuations,
        errands: Errands,
    ) -> None:
        self._upstream = upstream
        self._approvals = approvals
        self._holds = holds
        self._execution = execution
        self._continuations = continuations
        self._errands = errands
        self._subscriptions = Subscriptions(upstream, approvals, errands.feed, holds.review_url)
        self._opening: set[asyncio.Future[Any]] = set()
        errands.serve(upstream, self._start)

    # -- giving a task ------------------------------------------------------------------------------------------------

    async def create(self, inbound: Inbound, opening: Opening) -> UpstreamReply:
        """Hold the call of `inbound` as a task, and answer at once.

        Raises:
            Exception: what `opening` raises.
        """
        submitting = asyncio.ensure_future(opening)
        try:
            held = await asyncio.shield(submitting)
        except asyncio.CancelledError:
            leaving = asyncio.ensure_future(self._forsake(submitting))
            self._opening.add(leaving)
            leaving.add_done_callback(self._opening.discard)
            raise
        if isinstance(held, Answer):
            return refused(inbound, held)
        task = self._approvals.tasks.opened(held)
        return json_reply(result_message(asked_id(inbound), created(task, *self._seen(task))))

    async def _forsake(self, submitting: asyncio.Future[Approval | Answer]) -> None:
        """The agent left before it was told the id: as with any caller that is gone, nothing runs for it."""
        try:
            held = await submitting
            if isinstance(held, Approval):
                await self._approvals.requests.abandon(held.id, CANCELLED)
        except BrokerError as error:
            log.warning("%s A task whose agent left may run all the same.", error)

    # -- requests about tasks -----------------------------------------------------------------------------------------

    async def answer(self, inbound: Inbound, message: Message, forward: Forward) -> UpstreamReply | None:
        """The answer to a request about a task of the broker's own; None for any other request.

        Args:
            forward: asks the upstream, for what its part of the answer is.

        Raises:
            WireError: see `check_declared`; -32602, its grant has no such task here.
            StoreError: it cannot be looked up, or not be written down.
        """
        if message.method == LISTEN:
            return await self._subscriptions.listen(inbound, message, forward)
        task_id = message.params.get("taskId")
        if message.method not in METHODS or not isinstance(task_id, str) or not task_id.startswith(PREFIX):
            return None
        check_declared(message)
        try:
            told = await self._tell(inbound, message, task_id)
        except NotFound:
            raise _no_such_task(message) from None
        return json_reply(result_message(asked_id(inbound), {"resultType": "complete", **told}))

    async def of_upstream(self, message: Message, reply: UpstreamReply) -> UpstreamReply:
        """An upstream's answer to `message`: to `server/discover` it names the extension; about tasks of which its
        server knows nothing it says that there is no such task.

        Raises:
            UpstreamInterrupted: see `rewrite`.
        """
        if message.method == "server/discover":
            return await rewrite(reply, advertised)
        if message.method not in METHODS:
            return reply
        told = await rewrite(reply, partial(_without_method, message))
        return replace(told, status=WireError.status) if reply.status == _UNKNOWN_METHOD else told

    async def _tell(self, inbound: Inbound, message: Message, task_id: str) -> Mapping[str, Any]:
        whose = (task_id, inbound.grant.id, self._upstream)
        match message.method:
            case "tasks/get":
                task = await self._approvals.tasks.get(*whose)
                return detailed(task, *self._seen(task))
            case "tasks/cancel":
                await self._approvals.tasks.cancel(*whose)
            case _:
                await self._approvals.tasks.update(*whose, _responses(message))
        self._errands.nudge()
        return {}

    def _seen(self, task: Task) -> tuple[Any, str]:
        return self._approvals.clock.now(), self._holds.review_url(task.approval.id)

    def stop(self) -> None:
        """The broker stops: streams that tell of tasks end."""
        self._subscriptions.stop()

    async def finish(self) -> None:
        """Return when these have ended."""
        await self._subscriptions.finish()

    # -- running ------------------------------------------------------------------------------------------------------

    def _start(self, errand: Errand) -> tuple[Nobody, asyncio.Task[None]] | None:
        if errand.request is None or self._holds.stopping:
            return None
        asker = Nobody(_inbound(errand, errand.request))
        return asker, self._holds.run_errand(asker, errand.approval, partial(self._run, errand))

    async def _run(self, errand: Errand, hold: Hold) -> None:
        if errand.brought is None:
            await self._execution.run(hold)
            return
        try:
            await self._continuations.go_on(self._approvals.as_asked(errand.approval), hold)
        except TransitionRefused:
            log.debug("Task %s went on elsewhere, or ended.", hold.approval.id)


def errand_request(inbound: Inbound, message: Message) -> dict[str, Any]:
    """What a call is sent with later: the fields and the `_meta` of its request, but for its progress token, since
    nobody hears of progress then."""
    meta: dict[str, Any] = without_tasks(message.params).get("_meta", {})
    kept = {key: value for key, value in meta.items() if key in TRANSPORT_META and key != "progressToken"}
    fields = [[part.decode("latin-1") for part in field] for field in inbound.lasting_headers]
    return {"headers": fields, "meta": kept}


def _inbound(errand: Errand, request: Mapping[str, Any]) -> Inbound:
    """The request of a task's agent as if it came now, for who sends the call: whether the grant is live is looked at
    when it is claimed."""
    approval, params = errand.approval, {**(errand.brought or {}), "_meta": request["meta"]}
    body = {"jsonrpc": "2.0", "id": approval.id, "method": "tools/call", "params": params}
    ref = approval.call.grant
    return Inbound(
        method="POST",
        grant=Grant(ref.id, ref.label, ref.owner, frozenset({approval.call.upstream}), approval.created_at),
        headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in request["headers"]],
        modern=True,
        check_grant=_when_claimed,
        came=asyncio.get_running_loop().time(),
        message=Message(body, "request", "tools/call", approval.id, params),
    )


async def _when_claimed() -> None:
    pass


def _responses(message: Message) -> Mapping[str, Any]:
    responses = message.params.get("inputResponses")
    if not isinstance(responses, dict):
        raise WireError(INVALID_PARAMS, "params.inputResponses must be an object.", message.id)
    return cast("dict[str, Any]", responses)


def _no_such_task(message: Message) -> WireError:
    return WireError(INVALID_PARAMS, "There is no such task: it was never made for this grant, or is over.", message.id)


def _without_method(message: Message, response: dict[str, Any]) -> Mapping[str, Any]:
    """The extension is advertised, so a server that does not know its methods is one that has no such task."""
    error: Any = response.get("error")
    if not isinstance(error, dict) or cast("dict[str, Any]", error).get("code") != METHOD_NOT_FOUND:
        return response
    try:
        check_declared(message)
    except WireError as undeclared:
        return undeclared.body
    return _no_such_task(message).body
