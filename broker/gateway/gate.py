"""The gate of one upstream: judges each tool call, records it, and lets it pass, refuses it or holds it.

What belongs here: the order of these steps for one request. What does not: HTTP (`endpoint`), waiting (`holds`),
running what was approved (`execution`), what a policy says (`broker.policy`), rows (`record`).
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

from mcp_types.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST

from broker.approvals.service import Approvals
from broker.domain import answers
from broker.domain.answers import Answer
from broker.domain.calls import Action, Call, Verdict, lasting_params
from broker.domain.canonical import new_id
from broker.errors import SessionUnknown, StoreError, UpstreamError, UpstreamInterrupted, UpstreamUnreachable
from broker.gateway.catalog import Catalog
from broker.gateway.execution import Execution
from broker.gateway.holds import Holds, opened_later
from broker.gateway.inbound import Inbound
from broker.gateway.outcome import Outcome, watched
from broker.gateway.record import Record
from broker.gateway.refusals import asked_id, refusal, refused
from broker.gateway.replies import empty_reply, is_stream, json_reply, rewrite
from broker.gateway.sse import sse_event
from broker.gateway.upstreams import Upstream, UpstreamReply
from broker.gateway.wire import Message, WireError, check_param_headers, dumps, error_message
from broker.policy.decide import Policy, decide

log = logging.getLogger(__name__)

_TOOL_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,256}")

FIRST_SIGN = 0.8
"""Seconds in which a call is held or refused; where the upstream takes longer to tell its tools, the stream begins."""

LARGEST_HELD = 256 * 1024
"""Bytes of a held call's params: a person has to be able to look at them."""


class Gate:
    """What stands before one upstream."""

    def __init__(self, upstream: Upstream, policy: Policy, approvals: Approvals, record: Record, holds: Holds) -> None:
        self.upstream = upstream
        self.policy = policy
        self._approvals = approvals
        self._record = record
        self._holds = holds
        self._catalog = Catalog(upstream)
        self._leaving: set[asyncio.Future[Any]] = set()
        self._execution = Execution(upstream, self._catalog, approvals, self._judge)

    async def handle(self, inbound: Inbound) -> UpstreamReply:
        """Answer one request.

        Raises:
            WireError: the request breaks the protocol.
            SessionUnknown: its session is over.
        """
        message = inbound.message
        if message is None:
            return await self._without_message(inbound)
        if message.method == "tools/call":
            return await self._call(inbound, message)
        if message.method == "notifications/cancelled" and self._cancels_hold(inbound, message):
            return empty_reply(202)
        return await self._forward(inbound)

    async def close(self) -> None:
        """Answer what is held, let what runs end, end the upstream."""
        await self._holds.close()
        await self.upstream.close()
        await self._holds.end()
        await self._record.drain()

    # -- tool calls ---------------------------------------------------------------------------------------------------

    async def _call(self, inbound: Inbound, message: Message) -> UpstreamReply:
        call = _read_call(self.upstream.name, inbound, message)
        try:
            verdict = self._judge(call)
            if verdict.action is Action.DENY:
                return refused(inbound, await self._record.deny(call, verdict))
            await self._check_params(inbound, call)
            if verdict.action is Action.HOLD:
                return await self._hold(inbound, call, verdict)
            told = await self._admit(call, verdict)
            return await self._pass(inbound, call, verdict) if told is None else refused(inbound, told)
        except StoreError as error:
            log.error("%s Call %s of %s did not run.", error, call.id, call.tool)
            return refused(inbound, answers.unavailable("the broker cannot write its record."))
        except SessionUnknown:
            raise
        except UpstreamError as error:
            return refused(inbound, answers.unavailable(str(error)))

    async def _admit(self, call: Call, verdict: Verdict) -> Answer | None:
        admitting = asyncio.ensure_future(self._record.admit(call, verdict))
        try:
            return await asyncio.shield(admitting)
        except asyncio.CancelledError:
            self._leaving.add(admitting)
            admitting.add_done_callback(partial(self._never_ran, call, verdict))
            raise

    def _never_ran(self, call: Call, verdict: Verdict, admitting: asyncio.Future[Answer | None]) -> None:
        """The caller left while its call was admitted: it gives its slots back."""
        self._leaving.discard(admitting)
        if admitting.exception() is None and admitting.result() is None:
            self._record.answered(call, verdict, {"outcome": "cancelled"}, never_ran=True)

    def _judge(self, call: Call) -> Verdict:
        return decide(self.policy, call)

    async def _check_params(self, inbound: Inbound, call: Call) -> None:
        """Refuse `Mcp-Param-*` fields that say something else than the arguments, which are what is judged."""
        if inbound.modern and any(name.startswith(b"mcp-param-") for name, _ in inbound.headers):
            definition = await self._catalog.definition(inbound, call.tool)
            schema = definition.get("inputSchema") if definition is not None else None
            check_param_headers(schema, call.arguments, inbound.headers, asked_id(inbound))

    async def _pass(self, inbound: Inbound, call: Call, verdict: Verdict) -> UpstreamReply:
        started = time.monotonic()

        def done(outcome: str, why: str | None = None, result: Any = None, *, never_ran: bool = False) -> None:
            ms = round((time.monotonic() - started) * 1000, 1)
            detail = {"outcome": outcome, "why": why, "ms": ms}
            self._record.answered(call, verdict, detail, result, never_ran=never_ran)

        def ended(outcome: Outcome) -> None:
            done(outcome.word, result=outcome.result)

        try:
            reply = await self.upstream.send(inbound.upward())
        except UpstreamUnreachable as error:
            done("unreachable", str(error), never_ran=True)
            raise
        except asyncio.CancelledError:
            done("cancelled")
            raise
        except Exception as error:  # whatever it was, the agent is told and the record has an outcome
            if not isinstance(error, UpstreamError):
                log.exception("call %s failed in an unforeseen way", call.id)
            why = str(error) if isinstance(error, UpstreamError) else "the broker failed"
            done("interrupted", why)
            return refused(inbound, answers.interrupted(reason=why))
        return _mended(watched(reply, asked_id(inbound), ended), inbound, answers.interrupted())

    async def _hold(self, inbound: Inbound, call: Call, verdict: Verdict) -> UpstreamReply:
        size = len(dumps(call.params))
        if size > LARGEST_HELD:
            return await self._deny(
                inbound,
                call,
                verdict,
                f"the call has {size} bytes, and a person is shown at most "
                f"{LARGEST_HELD}. Make it smaller, or ask the operator.",
            )
        # A caller that goes away just now must not leave an approval behind that believes in it.
        opening = asyncio.ensure_future(self._open(inbound, call, verdict))
        try:
            await asyncio.wait((opening,), timeout=FIRST_SIGN)
        except asyncio.CancelledError:
            opening.add_done_callback(self._hang_up)
            raise
        if opening.done():
            return opening.result()
        return opened_later(inbound, opening, self._hang_up)

    async def _deny(self, inbound: Inbound, call: Call, verdict: Verdict, reason: str) -> UpstreamReply:
        denied = replace(verdict, action=Action.DENY, reason=reason, charges=())
        return refused(inbound, await self._record.deny(call, denied))

    async def _open(self, inbound: Inbound, call: Call, verdict: Verdict) -> UpstreamReply:
        definition = await self._catalog.definition(inbound, call.tool)
        if definition is None:
            return await self._deny(inbound, call, verdict, "this server has no such tool")
        held = await self._approvals.submit(call, verdict, definition)
        if isinstance(held, Answer):
            return refused(inbound, held)
        return self._holds.open(inbound, held, self._execution.run)

    def _hang_up(self, opening: asyncio.Future[UpstreamReply]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            closing = asyncio.ensure_future(opening.result().close())
            self._leaving.add(closing)
            closing.add_done_callback(self._leaving.discard)

    # -- everything else ----------------------------------------------------------------------------------------------

    async def _forward(self, inbound: Inbound) -> UpstreamReply:
        message = inbound.message
        try:
            reply = await self.upstream.send(inbound.upward())
            if inbound.method == "GET":  # a resumed stream replays answers, and the list of tools may be one
                reply = await rewrite(reply, None, self._without_hidden)
            elif message is not None and message.method == "tools/list":
                reply = await rewrite(reply, message.id, self._without_hidden)
        except SessionUnknown:
            raise
        except UpstreamError as error:
            return _protocol_error(inbound, error)
        return _mended(reply, inbound, None)

    async def _without_message(self, inbound: Inbound) -> UpstreamReply:
        reply = await self._forward(inbound)
        if inbound.method == "DELETE" and inbound.session_key is not None and reply.status < 400:
            await self._approvals.end_session(inbound.session_key)
        return reply

    def _cancels_hold(self, inbound: Inbound, message: Message) -> bool:
        return not inbound.modern and self._holds.cancel(inbound, message.params.get("requestId"))

    def _without_hidden(self, response: dict[str, Any]) -> Mapping[str, Any]:
        result: Any = response.get("result")
        if not isinstance(result, dict):
            return response
        listed = cast("dict[str, Any]", result)
        tools: Any = listed.get("tools")
        if not isinstance(tools, list):
            return response
        shown = [tool for tool in cast("list[Any]", tools) if not self._hides(tool)]
        return {**response, "result": {**listed, "tools": shown}}

    def _hides(self, tool: Any) -> bool:
        name: Any = cast("dict[str, Any]", tool).get("name") if isinstance(tool, dict) else None
        return isinstance(name, str) and self.policy.hides(name)


def _read_call(upstream: str, inbound: Inbound, message: Message) -> Call:
    name, arguments = message.params.get("name"), message.params.get("arguments")
    if message.id is None:  # a notification: a server that looks at the method alone would run it
        raise WireError(INVALID_REQUEST, "tools/call needs an id: a call has an answer.")
    if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
        raise WireError(INVALID_PARAMS, "params.name must be the name of a tool.", message.id)
    if arguments is not None and not isinstance(arguments, dict):
        raise WireError(INVALID_PARAMS, "params.arguments must be an object.", message.id)
    return Call(
        id=new_id("call"),
        upstream=upstream,
        tool=name,
        params=lasting_params(message.params),
        grant=inbound.grant.ref,
        session=inbound.session_key,
    )


def _protocol_error(inbound: Inbound, error: UpstreamError) -> UpstreamReply:
    """The answer to what is no tool call: a JSON-RPC error with the sentence; a notification has none."""
    if inbound.message is None or inbound.message.id is None:
        return empty_reply(502)
    return json_reply(error_message(inbound.message.id, INTERNAL_ERROR, str(error)))


def _mended(reply: UpstreamReply, inbound: Inbound, told: Answer | None) -> UpstreamReply:
    """`reply`, whose stream of events ends with an answer even when the upstream goes away in the middle.

    A broken body of any other kind cannot be mended: the connection is closed, so that nobody takes it for whole.
    """
    if not is_stream(reply) or inbound.message is None or inbound.message.id is None:
        return reply
    request_id = inbound.message.id

    async def chunks() -> AsyncGenerator[bytes]:
        try:
            async for chunk in reply.chunks:
                yield chunk
        except UpstreamInterrupted as error:
            broken = error_message(request_id, INTERNAL_ERROR, str(error))
            yield b"\r\n\r\n" + sse_event(refusal(inbound, told) if told is not None else broken)

    return replace(reply, chunks=chunks())
