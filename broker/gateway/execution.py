"""Running an approved call: claim it, send what was approved, pass the answer on, record the outcome.

What belongs here: the one way on which an approval leads to an execution. What does not: waiting for it (`holds`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from broker import stop_points
from broker.approvals.permit import ClaimPermit
from broker.approvals.service import Approvals
from broker.domain import answers
from broker.domain.answers import Answer
from broker.domain.approvals import Approval, State
from broker.domain.calls import Call, Verdict, transport_params
from broker.domain.rounds import STATE
from broker.errors import (
    SessionUnknown,
    StoreError,
    TransitionRefused,
    UpstreamError,
    UpstreamInterrupted,
    UpstreamUnreachable,
)
from broker.gateway.catalog import Catalog
from broker.gateway.held import Hold
from broker.gateway.inbound import Inbound
from broker.gateway.outcome import answered, failed
from broker.gateway.protocol import is_input_required
from broker.gateway.refusals import asked_id, marked
from broker.gateway.replies import messages
from broker.gateway.sse import sse_event
from broker.gateway.task_shapes import without_tasks
from broker.gateway.upstreams import Permit, Upstream, UpstreamReply
from broker.gateway.wire import answers as answers_to
from broker.stop_points import Point

log = logging.getLogger(__name__)

CANCELLED_WITHIN = 5.0
"""Seconds that a server has to say what came of a call that was cancelled while it ran; it owes no answer to that."""

_CANCELLED = "The agent cancelled the call while it ran: it may or may not have run."
_NOT_SENT = "The agent stopped waiting before the call was sent."


class Execution:
    """Runs approved calls of one upstream, each at most once.

    Args:
        judge: what the present policy says of a call.
        cancelled_within: see `CANCELLED_WITHIN`.
    """

    def __init__(
        self,
        upstream: Upstream,
        catalog: Catalog,
        approvals: Approvals,
        judge: Callable[[Call], Verdict],
        cancelled_within: float = CANCELLED_WITHIN,
    ) -> None:
        self._upstream = upstream
        self._catalog = catalog
        self._approvals = approvals
        self._judge = judge
        self._cancelled_within = cancelled_within

    async def run(self, hold: Hold) -> None:
        """Run the approved call of `hold` and send its answer.

        Raises:
            StoreError: it could not be claimed, so nothing ran.
        """
        approval = hold.approval
        try:
            definition = await self._catalog.definition(hold.inbound, approval.call.tool)
            if hold.line.gone is not None:
                return
            claimed = await self._approvals.claims.claim(approval.id, self._judge, definition)
        except UpstreamError as error:
            await self._put_back(hold, answers.not_sent(str(error), hold.approval.id))
            return
        except TransitionRefused:
            await self._missed(hold)
            return
        if isinstance(claimed, Answer):
            await self._put_back(hold, claimed)
        elif claimed.state is not State.EXECUTING:
            await hold.tell(answers.of(claimed, hold.review_url))
        else:
            await self._dispatch(hold, claimed)

    async def _dispatch(self, hold: Hold, claimed: Approval) -> None:
        stop_points.reached(Point.BETWEEN_CLAIM_AND_DISPATCH)
        permit = ClaimPermit(self._approvals, claimed, self._judge)
        try:
            await self.carry_out(hold, claimed, permit, brought={})
        except UpstreamUnreachable as error:
            await hold.insist(partial(self._approvals.claims.release, claimed.id, str(error)))
            await self._put_back(hold, permit.told or answers.not_sent(str(error), hold.approval.id))

    async def carry_out(self, hold: Hold, claimed: Approval, permit: ClaimPermit, brought: Mapping[str, Any]) -> None:
        """Send a claimed call, pass its answer on, and record what came of it.

        Args:
            brought: the input that its tool asked for.

        Raises:
            UpstreamUnreachable: it provably never reached the tool.
        """
        try:
            response = await self._response(hold, _stored_request(hold, claimed, brought), permit)
            asks = hold.inbound.modern and is_input_required(response.get("result"))
            await (self._ask if asks else self._answer)(hold, claimed, {**response, "id": asked_id(hold.inbound)})
        except UpstreamUnreachable:
            raise
        except Exception as error:  # noqa: BLE001 - it is told, logged and recorded
            await self._interrupted(hold, claimed, error)

    async def _response(self, hold: Hold, body: dict[str, Any], permit: ClaimPermit) -> dict[str, Any]:
        """What the upstream answers. Once the call was sent only a cancel ends it; before, nothing runs for nobody.

        Raises:
            UpstreamUnreachable: it never reached the tool.
            UpstreamInterrupted: it may have, and there is no answer.
        """
        asker = hold.asker
        exchange = asyncio.ensure_future(self._exchange(hold, body, permit))
        exchange.add_done_callback(lambda _: asker.news.set())
        while not (exchange.done() or asker.cancelled or (asker.line.gone is not None and not permit.spent)):
            asker.news.clear()
            await asker.news.wait()
        if not exchange.done():
            await self._give_up(hold, exchange, permit)
        return await exchange

    async def _exchange(self, hold: Hold, body: dict[str, Any], permit: Permit) -> dict[str, Any]:
        reply = await self._send(hold, body, permit)
        try:
            async with aclosing(messages(reply)) as said:
                async for message, raw in said:
                    if answers_to(message, asked_id(hold.inbound)):
                        return message
                    await hold.asker.pass_on(message, raw)
        finally:
            await reply.close()
        raise UpstreamInterrupted("The answer ended before the result.")

    async def _send(self, hold: Hold, body: dict[str, Any], permit: Permit) -> UpstreamReply:
        reply = await self._upstream.send(hold.inbound.approved(body, permit))
        if reply.status == 404 and hold.inbound.session is not None:
            await reply.close()
            raise SessionUnknown  # it was over before the call came
        return reply

    async def _answer(self, hold: Hold, claimed: Approval, response: dict[str, Any]) -> None:
        result, errored = answered(response)
        said_no = {"failed": failed(response), "errored": errored}
        finish = partial(self._approvals.claims.finish, claimed.id, **said_no, result=result)
        stop_points.reached(Point.BEFORE_RESULT_IS_STORED)
        # The result exists: withholding it when it cannot be recorded would only make the agent do it again.
        await hold.conclude(finish, marked(response, answers.approved(claimed)))

    async def _ask(self, hold: Hold, claimed: Approval, response: dict[str, Any]) -> None:
        """The tool asks for input first: its call goes on when the agent has brought it (see `continuation`)."""
        try:
            asked: dict[str, Any] = response["result"]
            await self._approvals.claims.await_input(claimed, asked.get(STATE), asked.get("inputRequests"))
        except (StoreError, ValueError) as error:
            raise UpstreamInterrupted("The tool asked for input, and that could not be recorded.") from error
        except TransitionRefused as error:
            raise UpstreamInterrupted(f"The call does not go on: {error}.") from error
        await hold.line.send(sse_event(marked(response, answers.approved(claimed))))

    async def _interrupted(self, hold: Hold, claimed: Approval, error: Exception) -> None:
        """It was sent: whatever happened then, nobody knows the outcome, and the agent has to hear that."""
        expected = isinstance(error, UpstreamError)
        log.warning("Approval %s is interrupted: %s", claimed.id, error, exc_info=None if expected else error)
        why = str(error) if expected else "its answer could not be passed on"
        await hold.conclude(partial(self._interrupt, claimed.id, why), answers.interrupted(claimed.id, why))

    async def _interrupt(self, approval_id: str, why: str) -> None:
        try:
            await self._approvals.claims.interrupt(approval_id, why)
        except TransitionRefused:
            log.warning("the outcome of approval %s is recorded already", approval_id)

    # -- a call whose caller left -------------------------------------------------------------------------------------

    async def _give_up(self, hold: Hold, exchange: asyncio.Future[dict[str, Any]], permit: ClaimPermit) -> None:
        """Do not send it; or else tell the server, which may answer all the same.

        Raises:
            UpstreamUnreachable: it was not sent.
            UpstreamInterrupted: it was, and there is no answer.
        """
        notice, sent = hold.asker.notice, permit.spent
        if sent and notice is not None:
            loop = asyncio.get_running_loop()
            until = loop.time() + self._cancelled_within
            await self._note_cancelled(hold, await self._pass_cancel_on(notice))
            await asyncio.wait((exchange,), timeout=max(0, until - loop.time()))
        exchange.cancel()
        await asyncio.wait((exchange,))
        if sent and notice is None:  # since 2026-07-28 the closed answer says it
            await self._note_cancelled(hold, "the server was told")
        if exchange.cancelled():
            raise UpstreamInterrupted(_CANCELLED) if sent else UpstreamUnreachable(_NOT_SENT)

    async def _note_cancelled(self, hold: Hold, told: str) -> None:
        try:
            await self._approvals.requests.note_cancelled(hold.approval.id, told)
        except StoreError as error:
            log.error("%s That the agent cancelled approval %s is not noted.", error, hold.approval.id)

    async def _pass_cancel_on(self, notice: Inbound) -> str:
        """What came of it, for the record."""
        try:
            async with asyncio.timeout(self._cancelled_within):
                reply = await self._upstream.send(replace(notice.upward(), own=True))
                await reply.close()
        except TimeoutError:
            return f"the server did not hear of it within {self._cancelled_within:g} s"
        except UpstreamError as error:
            return f"the server could not be told: {error}"
        return "the server was told" if reply.status < 400 else f"the server refused to hear of it ({reply.status})"

    # -- a call that did not run --------------------------------------------------------------------------------------

    async def _missed(self, hold: Hold) -> None:
        """There was nothing left to claim: it ended while the tool was looked up, or another call uses it."""
        approval = await self._approvals.get(hold.approval.id)
        if approval.state in (State.EXPIRED, State.WITHDRAWN):
            await hold.tell(answers.of(approval, hold.review_url))
        elif approval.state is State.APPROVED:
            await hold.tell(answers.not_sent("the broker lost touch with this request.", approval.id))
        else:
            await hold.tell(answers.unavailable("another call used this approval.", approval.id))

    async def _put_back(self, hold: Hold, told: Answer) -> None:
        """Nothing ran, and the approval can still be used: the identical call picks it up."""
        await hold.conclude(partial(hold.abandon, "it could not be run"), told)


def _stored_request(hold: Hold, claimed: Approval, brought: Mapping[str, Any]) -> dict[str, Any]:
    """What was approved, with the input that its tool asked for, and nothing else, under the id and the progress token
    of the present request. Its server makes no task of its own of it: nobody would hear of its end."""
    asked = hold.inbound.message
    params = transport_params({**claimed.call.params, **brought}, without_tasks(asked.params) if asked else {})
    return {"jsonrpc": "2.0", "id": asked_id(hold.inbound), "method": "tools/call", "params": params}
