"""The gate of one upstream: judges each tool call, records it, and lets it pass, refuses it or holds it.

What belongs here: the order of these steps for one request. What does not: HTTP (`endpoint`), waiting (`holds`),
running what was approved (`execution`), what a policy says (`broker.policy`), rows (`record`).
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

from broker import stop_points
from broker.approvals.service import Approvals
from broker.domain import answers
from broker.domain.answers import Answer
from broker.domain.approvals import Approval
from broker.domain.calls import Action, Call, Verdict, lasting_params
from broker.domain.canonical import new_id
from broker.domain.rounds import without_input
from broker.errors import SessionUnknown, StoreError, UpstreamError, UpstreamUnreachable
from broker.gateway.catalog import Catalog
from broker.gateway.continuation import Continuations
from broker.gateway.delivery import Delivery
from broker.gateway.eras import Eras
from broker.gateway.errands import Errands
from broker.gateway.execution import Execution
from broker.gateway.holds import Holds
from broker.gateway.inbound import Inbound
from broker.gateway.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST
from broker.gateway.outcome import Outcome
from broker.gateway.record import Admission, Record
from broker.gateway.refusals import asked_id, refusal, refused
from broker.gateway.replies import empty_reply, json_reply, rewrite
from broker.gateway.task_shapes import declares
from broker.gateway.tasks import Tasks, errand_request
from broker.gateway.upstreams import Fields, Upstream, UpstreamReply
from broker.gateway.wire import Message, WireError, check_param_headers, dumps, error_message, look_alike, say_params
from broker.policy.judging.decide import Policy, decide
from broker.policy.watch import InForce
from broker.stop_points import Point

log = logging.getLogger(__name__)

_TOOL_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,256}")

_READ = frozenset({"name", "arguments", "_meta"})
"""The members of a call's params that are judged."""

WARN_EVERY = 60.0
"""Seconds between two log lines about the same trouble of an upstream."""

LARGEST_HELD = 256 * 1024
"""Bytes of a held call's params: a person has to be able to look at them."""


class Gate:
    """What stands before one upstream."""

    def __init__(
        self,
        upstream: Upstream,
        in_force: InForce,
        approvals: Approvals,
        record: Record,
        holds: Holds,
        errands: Errands,
    ) -> None:
        self.upstream = upstream
        self._in_force = in_force
        self._approvals = approvals
        self._record = record
        self._holds = holds
        self._catalog = Catalog(upstream)
        self._eras = Eras(upstream)
        self._stopping = False
        self._warned, self._warn_again = "", 0.0
        self._leaving: set[asyncio.Future[Answer | None]] = set()
        self._execution = Execution(upstream, self._catalog, approvals, self._judge)
        self._continuations = Continuations(approvals, self._catalog, holds, self._execution, self._judge)
        self._tasks = Tasks(upstream.name, approvals, holds, self._execution, self._continuations, errands)

    @property
    def policy(self) -> Policy:
        """What judges the next call."""
        return self._in_force.policy

    async def handle(self, inbound: Inbound) -> UpstreamReply:
        """Answer one request.

        Raises:
            WireError: the request breaks the protocol, or is of an era that the upstream does not speak.
            SessionUnknown: its session is over.
        """
        message = inbound.message
        if message is None:
            return await self._without_message(inbound)
        if message.method == "tools/call":
            return await self._call(inbound, message)
        if inbound.modern and (told := await self._tasks.answer(inbound, message, self._forward)) is not None:
            return told
        if inbound.modern and _names_no_request_of_its_own(message):
            return empty_reply(202)
        if message.method == "notifications/cancelled" and self._holds.cancel(inbound):
            return empty_reply(202)
        return await self._forward(inbound)

    def stop(self) -> None:
        """The broker stops: nothing new runs, and who waits for people is told to come back."""
        self._stopping = True
        self._holds.stop()
        self._tasks.stop()

    async def finish(self) -> None:
        """Return when nothing that was held runs any more."""
        await asyncio.gather(self._holds.finish(), self._tasks.finish())

    async def close(self) -> None:
        """End the upstream; what still runs is interrupted and told so."""
        await self.upstream.close()
        await self._holds.end()
        await self._record.drain()

    # -- tool calls ---------------------------------------------------------------------------------------------------

    async def _call(self, inbound: Inbound, message: Message) -> UpstreamReply:
        call = _read_call(self.upstream.name, inbound, message)
        try:
            await self._check_open(inbound)
            verdict = self._judge(call)
            if verdict.action is Action.DENY:
                return refused(inbound, await self._record.deny(call, verdict))
            await self._check_params(inbound, call)
            if (continued := await self._continuations.answer(inbound, call, verdict)) is not None:
                return continued
            if verdict.action is Action.HOLD:
                return await self._hold(inbound, call, verdict)
            admission = self._record.admission(call, verdict)
            told = await self._admit(inbound, admission)
            return await self._pass(inbound, call, admission) if told is None else refused(inbound, told)
        except StoreError as error:
            log.error("%s Call %s of %s did not run.", error, call.id, call.tool)
            return refused(inbound, answers.unavailable("the broker cannot write its record."))
        except SessionUnknown:
            raise
        except UpstreamError as error:
            self._warn(error)
            return refused(inbound, answers.unavailable(str(error)))

    async def _check_open(self, inbound: Inbound) -> None:
        """Refuse requests that come while the broker stops, or of an era that the upstream does not speak."""
        message = inbound.message
        if self._stopping and (message is None or message.kind == "request"):
            raise UpstreamUnreachable("The broker is stopping.")
        if inbound.modern and message is not None:
            await self._eras.check(inbound)

    async def _admit(self, inbound: Inbound, admission: Admission) -> Answer | None:
        await inbound.check_grant()  # however long the call was on its way here
        admitting = admission.write()
        try:
            return await asyncio.shield(admitting)
        except asyncio.CancelledError:
            self._leaving.add(admitting)
            admitting.add_done_callback(partial(self._never_ran, admission))
            raise

    def _never_ran(self, admission: Admission, admitting: asyncio.Future[Answer | None]) -> None:
        """The caller left while its call was admitted: it gives its slots back."""
        self._leaving.discard(admitting)
        if admitting.exception() is None and admitting.result() is None:
            admission.ended(Outcome("cancelled"), never_ran=True)

    def _warn(self, error: UpstreamError) -> None:
        """Tell the operator what the agent is told; the same again only after a while."""
        now, told = time.monotonic(), str(error)
        if not self._stopping and (told != self._warned or now >= self._warn_again):
            self._warned, self._warn_again = told, now + WARN_EVERY
            log.warning("%s", told)

    def _judge(self, call: Call) -> Verdict:
        return decide(self.policy, call)

    async def _check_params(self, inbound: Inbound, call: Call) -> None:
        """Refuse `Mcp-Param-*` fields that say something else than the arguments, which are what is judged."""
        if inbound.modern and Fields.of(inbound.headers).made(say_params):
            definition = await self._catalog.definition(inbound, call.tool)
            schema = definition.get("inputSchema") if definition is not None else None
            check_param_headers(schema, call.arguments, inbound.headers, asked_id(inbound))

    async def _pass(self, inbound: Inbound, call: Call, admission: Admission) -> UpstreamReply:
        try:
            reply = await self.upstream.send(inbound.upward(admission))
        except UpstreamUnreachable as error:
            if admission.told is not None:
                return refused(inbound, admission.told)
            admission.ended(Outcome("unreachable", why=str(error)), never_ran=True)
            raise
        except asyncio.CancelledError:
            admission.ended(Outcome("cancelled"))
            raise
        except Exception as error:  # whatever it was, the agent is told and the record has an outcome
            if not isinstance(error, UpstreamError):
                log.exception("call %s failed in an unforeseen way", call.id)
            why = str(error) if isinstance(error, UpstreamError) else "The broker failed."
            admission.ended(Outcome("interrupted", why=why))
            return refused(inbound, answers.interrupted(reason=why))
        if reply.status == 404 and inbound.session is not None:
            admission.ended(Outcome("unreachable", why="the session was over"), never_ran=True)
            return reply
        return await Delivery(
            asked_id(inbound),
            resumable=not inbound.modern,
            broken=lambda why: refusal(inbound, answers.interrupted(reason=why)),
            ended=admission.ended,
        ).of(reply)

    async def _hold(self, inbound: Inbound, call: Call, verdict: Verdict) -> UpstreamReply:
        size = len(dumps(call.params))
        if size > LARGEST_HELD:
            reason = (
                f"the call has {size} bytes, and a person is shown at most {LARGEST_HELD}: "
                "split it into smaller calls, or tell your operator"
            )
            return refused(inbound, await self._deny(call, verdict, reason))
        if inbound.modern and inbound.message is not None and declares(inbound.message):
            request = errand_request(inbound, inbound.message)
            return await self._tasks.create(inbound, self._open(inbound, call, verdict, request))
        still_here = partial(self.upstream.touch, inbound.session or "")
        return await self._holds.hold(inbound, self._open(inbound, call, verdict), self._execution.run, still_here)

    async def _deny(self, call: Call, verdict: Verdict, reason: str) -> Answer:
        return await self._record.deny(call, replace(verdict, action=Action.DENY, reason=reason, charges=()))

    async def _open(
        self, inbound: Inbound, call: Call, verdict: Verdict, task: Mapping[str, Any] | None = None
    ) -> Approval | Answer:
        definition = await self._catalog.definition(inbound, call.tool)
        if definition is None:
            return await self._deny(call, verdict, "this server has no such tool")
        await inbound.check_grant()  # telling the tools may have taken long
        stop_points.reached(Point.BEFORE_SUBMIT)
        held = await self._approvals.requests.submit(call, verdict, definition, task)
        stop_points.reached(Point.AFTER_SUBMIT)
        return held

    # -- everything else ----------------------------------------------------------------------------------------------

    async def _forward(self, inbound: Inbound) -> UpstreamReply:
        message = inbound.message
        try:
            await self._check_open(inbound)
            await inbound.check_grant()
            reply = await self.upstream.send(inbound.upward())
            if self.policy.hides_some and _tells_tools(inbound):
                reply = await rewrite(reply, self._without_hidden)
            if inbound.modern and message is not None:
                reply = await self._tasks.of_upstream(message, reply)
        except SessionUnknown:
            raise
        except UpstreamError as error:
            self._warn(error)
            return _protocol_error(inbound, error)
        if message is None or message.kind != "request" or is_endless(inbound):
            return reply
        return await Delivery(
            asked_id(inbound),
            resumable=not inbound.modern,
            broken=lambda why: error_message(message.id, INTERNAL_ERROR, why),
        ).of(reply)

    async def _without_message(self, inbound: Inbound) -> UpstreamReply:
        reply = await self._forward(inbound)
        if inbound.method == "DELETE" and inbound.session_key is not None and reply.status < 400:
            await self._approvals.requests.end_session(inbound.session_key)
        return reply

    def _without_hidden(self, response: dict[str, Any]) -> Mapping[str, Any]:
        result: Any = response.get("result")
        if not isinstance(result, dict):
            return response
        listed = cast("dict[str, Any]", result)
        tools: Any = listed.get("tools")
        if not isinstance(tools, list):
            return response
        shown = [tool for tool in cast("list[Any]", tools) if not self._hides(tool)]
        if len(shown) == len(cast("list[Any]", tools)):
            return response
        return {**response, "result": {**listed, "tools": shown}}

    def _hides(self, tool: Any) -> bool:
        name: Any = cast("dict[str, Any]", tool).get("name") if isinstance(tool, dict) else None
        return isinstance(name, str) and self.policy.hides(name)


def _names_no_request_of_its_own(message: Message) -> bool:
    """Since 2026-07-28 closing an answer is the cancel, and servers ask nothing: what says otherwise could only name
    somebody else's request at a server that many agents share."""
    return message.kind == "response" or message.method == "notifications/cancelled"


def _tells_tools(inbound: Inbound) -> bool:
    """Whether the answer may list tools: a resumed stream replays answers, and the list may be among them."""
    return inbound.method == "GET" or (inbound.message is not None and inbound.message.method == "tools/list")


def is_endless(inbound: Inbound) -> bool:
    """Whether the answer is a stream of what the upstream says of its own accord, which nobody waits to see end."""
    message = inbound.message
    return inbound.method == "GET" or (message is not None and message.method == "subscriptions/listen")


def _read_call(upstream: str, inbound: Inbound, message: Message) -> Call:
    name, arguments = message.params.get("name"), message.params.get("arguments")
    if message.id is None:  # a notification: a server that looks at the method alone would run it
        raise WireError(INVALID_REQUEST, "tools/call needs an id: a call has an answer.")
    if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
        raise WireError(INVALID_PARAMS, "params.name must be the name of a tool.", message.id)
    if look_alike(message.params, _READ) is not None:
        raise WireError(INVALID_PARAMS, "write name, arguments and _meta of params in lower case.", message.id)
    if arguments is not None and not isinstance(arguments, dict):
        raise WireError(INVALID_PARAMS, "params.arguments must be an object.", message.id)
    return Call(
        id=new_id("call"),
        upstream=upstream,
        tool=name,
        params=lasting_params(without_input(message.params) if inbound.modern else message.params),
        grant=inbound.grant.ref,
        session=inbound.session_key,
    )


def _protocol_error(inbound: Inbound, error: UpstreamError) -> UpstreamReply:
    """The answer to what is no tool call: a JSON-RPC error with the sentence; a notification has none."""
    if inbound.message is None or inbound.message.id is None:
        return empty_reply(503)
    return json_reply(error_message(inbound.message.id, INTERNAL_ERROR, str(error)))
