"""Running an approved call: claim it, send what was approved, pass the answer on, record the outcome.

What belongs here: the one way on which an approval leads to an execution. What does not: waiting for it (`holds`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from mcp_types.methods import is_input_required

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
from broker.gateway.holds import Hold
from broker.gateway.outcome import failed
from broker.gateway.refusals import asked_id, marked
from broker.gateway.replies import messages
from broker.gateway.sse import sse_event
from broker.gateway.upstreams import Permit, Upstream, UpstreamReply
from broker.gateway.wire import answers as answers_to

log = logging.getLogger(__name__)


class Execution:
    """Runs approved calls of one upstream, each at most once.

    Args:
        judge: what the present policy says of a call.
    """

    def __init__(
        self, upstream: Upstream, catalog: Catalog, approvals: Approvals, judge: Callable[[Call], Verdict]
    ) -> None:
        self._upstream = upstream
        self._catalog = catalog
        self._approvals = approvals
        self._judge = judge

    async def run(self, hold: Hold) -> None:
        """Run the approved call of `hold` and send its answer.

        Raises:
            StoreError: it could not be claimed, so nothing ran.
        """
        approval = hold.approval
        try:
            definition = await self._catalog.definition(hold.inbound, approval.call.tool)
            if hold.line.gone is not None:
                await hold.insist(partial(self._approvals.requests.abandon, approval.id, hold.line.gone))
                return
            verdict = self._judge(self._approvals.as_asked(approval))
            claimed = await self._approvals.claims.claim(approval.id, verdict, definition)
        except UpstreamError as error:
            await self._put_back(hold, _unavailable(hold, error))
            return
        except TransitionRefused:
            await self._missed(hold)
            return
        if isinstance(claimed, Answer):
            await self._put_back(hold, claimed)
        elif claimed.state is not State.EXECUTING:
            await hold.tell(answers.of(claimed, hold.review_url))
        elif hold.line.gone is not None:  # while it was claimed: nothing runs for nobody
            await hold.insist(partial(self._approvals.claims.release, claimed.id, "the caller went away"))
            await hold.insist(partial(self._approvals.requests.abandon, claimed.id, hold.line.gone))
        else:
            await self._dispatch(hold, claimed)

    async def carry_out(self, hold: Hold, claimed: Approval, permit: Permit, brought: Mapping[str, Any]) -> None:
        """Send a claimed call, pass its answer on, and record what came of it.

        Args:
            brought: the input that its tool asked for.

        Raises:
            UpstreamUnreachable: it provably never reached the tool.
        """
        try:
            reply = await self._send(hold, _stored_request(hold, claimed, brought), permit)
        except UpstreamUnreachable:
            raise
        except Exception as error:  # noqa: BLE001 - it is told, logged and recorded
            await self._interrupted(hold, claimed, error)
        else:
            await self._pass_on(hold, claimed, reply)

    async def _dispatch(self, hold: Hold, claimed: Approval) -> None:
        permit = ClaimPermit(self._approvals, claimed, self._judge)
        try:
            await self.carry_out(hold, claimed, permit, brought={})
        except UpstreamUnreachable as error:
            await hold.insist(partial(self._approvals.claims.release, claimed.id, str(error)))
            await self._put_back(hold, permit.told or _unavailable(hold, error))

    async def _send(self, hold: Hold, body: dict[str, Any], permit: Permit) -> UpstreamReply:
        reply = await self._upstream.send(hold.inbound.approved(body, permit))
        if reply.status == 404 and hold.inbound.session is not None:
            await reply.close()
            raise SessionUnknown  # it was over before the call came
        return reply

    async def _pass_on(self, hold: Hold, claimed: Approval, reply: UpstreamReply) -> None:
        try:
            async for message, raw in messages(reply):
                if answers_to(message, asked_id(hold.inbound)):
                    asks = hold.inbound.modern and is_input_required(message.get("result"))
                    answer = self._ask if asks else self._answer
                    await answer(hold, claimed, {**message, "id": asked_id(hold.inbound)})
                    return
                if _is_progress(message, hold):
                    hold.line.offer(sse_event(_raised(message, hold)))
                else:  # the server may wait for an answer to it
                    await hold.line.send(raw)
            await self._interrupted(hold, claimed, UpstreamInterrupted("The answer ended before the result."))
        except Exception as error:  # noqa: BLE001 - it is told, logged and recorded
            await self._interrupted(hold, claimed, error)
        finally:
            await reply.close()

    async def _answer(self, hold: Hold, claimed: Approval, response: dict[str, Any]) -> None:
        result = response.get("result", response.get("error"))
        said_no = {"failed": failed(response), "errored": "error" in response}
        finish = partial(self._approvals.claims.finish, claimed.id, **said_no, result=result)
        answer = sse_event(marked(response, answers.approved(claimed)))
        try:
            await finish()
        except StoreError:  # the result exists: withholding it would only make the agent do it again
            await hold.line.send(answer)
            hold.line.end()
            await hold.insist(finish)
        else:
            await hold.line.send(answer)

    async def _ask(self, hold: Hold, claimed: Approval, response: dict[str, Any]) -> None:
        """The tool asks for input first: its call goes on when the agent has brought it (see `continuation`)."""
        try:
            await self._approvals.claims.await_input(claimed, response["result"].get(STATE))
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
        interrupt = partial(self._approvals.claims.interrupt, claimed.id, why)
        try:
            await interrupt()
        except TransitionRefused:
            log.warning("the outcome of approval %s is recorded already", claimed.id)
        except StoreError:
            await hold.tell(answers.interrupted(claimed.id, why))
            hold.line.end()
            await hold.insist(interrupt)
            return
        await hold.tell(answers.interrupted(claimed.id, why))

    async def _missed(self, hold: Hold) -> None:
        """There was nothing left to claim: it ended while the tool was looked up, or another call used it."""
        approval = await self._approvals.get(hold.approval.id)
        if approval.state in (State.EXPIRED, State.WITHDRAWN):
            await hold.tell(answers.of(approval, hold.review_url))
        else:
            await hold.tell(answers.unavailable("another call used this approval.", approval.id))

    async def _put_back(self, hold: Hold, told: Answer) -> None:
        """Nothing ran, and the approval can still be used: the identical call picks it up."""
        await self._approvals.requests.abandon(hold.approval.id, "it could not be run")
        await hold.tell(told)


def _unavailable(hold: Hold, error: UpstreamError) -> Answer:
    reason = f"{error} The approval stays valid for a while: repeat the identical call."
    return answers.unavailable(reason, hold.approval.id)


def _stored_request(hold: Hold, claimed: Approval, brought: Mapping[str, Any]) -> dict[str, Any]:
    """What was approved, with the input that its tool asked for, and nothing else, under the id and the progress token
    of the present request."""
    asked = hold.inbound.message
    params = transport_params({**claimed.call.params, **brought}, asked.params if asked is not None else {})
    return {"jsonrpc": "2.0", "id": asked_id(hold.inbound), "method": "tools/call", "params": params}


def _is_progress(message: Any, hold: Hold) -> bool:
    asked = hold.inbound.message
    if asked is None or asked.progress_token is None or not isinstance(message, dict):
        return False
    notification = cast("dict[str, Any]", message)
    params: Any = notification.get("params")
    return (
        notification.get("method") == "notifications/progress"
        and isinstance(params, dict)
        and cast("dict[str, Any]", params).get("progressToken") == asked.progress_token
    )


def _raised(message: Any, hold: Hold) -> Mapping[str, Any]:
    """The upstream's progress continues above what the broker told while it waited, for it has to grow."""
    params: dict[str, Any] = dict(message["params"])
    for key in ("progress", "total"):
        if isinstance(params.get(key), int | float):
            params[key] += hold.progress
    return {**message, "params": params}
