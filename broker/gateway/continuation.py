"""Going on with an approved call whose tool asked for input (2026-07-28, Basic, Patterns, Multi Round-Trip Requests).

The approval stays `executing` and waits, and the same call of the same grant that brings the `requestState` which the
tool gave goes on with it: once for each time the tool asked, without another approval or slot. What was approved is
sent again with exactly the input that came, of which nothing is kept.

A call of a held tool that brings input which nothing waits for is refused: nobody could judge a state that only its
server can read, and what somebody answered to a server is not for reviewers.

What belongs here: the way from such a request to its execution. What does not: the first round (`execution`), what a
continuation is recognised by (`broker.domain.rounds`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from broker.approvals.permit import ClaimPermit
from broker.approvals.service import Approvals
from broker.domain import answers
from broker.domain.answers import Answer
from broker.domain.approvals import Approval, Caller
from broker.domain.calls import Action, Call, Verdict
from broker.domain.rounds import STATE, input_of
from broker.errors import StoreError, UpstreamError, UpstreamUnreachable
from broker.gateway.catalog import Catalog
from broker.gateway.execution import Execution
from broker.gateway.held import Hold
from broker.gateway.holds import Holds
from broker.gateway.inbound import Inbound
from broker.gateway.refusals import refused
from broker.gateway.upstreams import UpstreamReply

log = logging.getLogger(__name__)


class Continuations:
    """Brings input to the tools of one upstream.

    Args:
        judge: what the present policy says of a call.
    """

    def __init__(
        self,
        approvals: Approvals,
        catalog: Catalog,
        holds: Holds,
        execution: Execution,
        judge: Callable[[Call], Verdict],
    ) -> None:
        self._approvals = approvals
        self._catalog = catalog
        self._holds = holds
        self._execution = execution
        self._judge = judge

    async def answer(self, inbound: Inbound, call: Call, verdict: Verdict) -> UpstreamReply | None:
        """The answer to a call that brings input for an approved one, or for none though it would have to be held.

        Returns:
            None when the call is like any other.

        Raises:
            StoreError: it cannot be looked up, or its refusal not be recorded.
        """
        brought = _brought(inbound)
        if not brought:
            return None
        waiting = await self._approvals.claims.awaiting(call, brought.get(STATE))
        if waiting is not None:
            return self._holds.run(inbound, waiting, partial(self.go_on, call))
        if verdict.action is Action.HOLD:
            return refused(inbound, await self._approvals.claims.refuse_input(call, verdict))
        return None

    async def go_on(self, call: Call, hold: Hold) -> None:
        """Send `call` on with the input that the request of `hold` brings, and pass on what comes of it.

        Raises:
            TransitionRefused: it is a task, and waits for nothing.
        """
        hold.asker.say_when_due("Bringing the input to the tool")
        try:
            claimed = await self._claim(call, hold)
        except UpstreamError as error:
            claimed = answers.still_awaited(hold.approval, str(error))
        except StoreError as error:
            log.error("%s Approval %s does not go on.", error, hold.approval.id)
            claimed = answers.still_awaited(hold.approval, "the broker cannot write its record.")
        if isinstance(claimed, Answer):
            await hold.tell(claimed)
        elif claimed is not None:
            await self._send(hold, claimed)

    async def _claim(self, call: Call, hold: Hold) -> Approval | Answer | None:
        """What is to be sent, or told; None when there is nobody to tell it to, for whom nothing runs."""
        definition = await self._catalog.definition(hold.inbound, call.tool)
        if hold.line.gone is not None:
            return None
        state = _brought(hold.inbound).get(STATE)
        task_id = hold.approval.id if hold.approval.caller is Caller.TASK else None
        claimed = await self._approvals.claims.continue_with_input(call, state, self._judge, definition, task_id)
        if isinstance(claimed, Approval):
            hold.approval = claimed
            if hold.line.gone is not None:
                await self._wait_again(hold, claimed, "the caller went away")
                return None
        return claimed

    async def _send(self, hold: Hold, claimed: Approval) -> None:
        try:
            permit = ClaimPermit(self._approvals, claimed, self._judge)
            await self._execution.carry_out(hold, claimed, permit, _brought(hold.inbound))
        except UpstreamUnreachable as error:
            await self._wait_again(hold, claimed, str(error))
            await hold.tell(answers.still_awaited(claimed, str(error)))

    async def _wait_again(self, hold: Hold, claimed: Approval, why: str) -> None:
        state = _brought(hold.inbound).get(STATE)
        await hold.insist(partial(self._approvals.claims.await_again, claimed, state, why))


def _brought(inbound: Inbound) -> dict[str, Any]:
    """What the request brings for a tool; eras before 2026-07-28 know of no such thing."""
    return input_of(inbound.message.params) if inbound.modern and inbound.message is not None else {}
