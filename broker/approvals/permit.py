"""The permit to send a claimed call: its slots count from the claim, and anew when it could not be sent in time.

What belongs here: stamping again, by the present policy. What does not: claiming (`broker.approvals.service`).
"""

from __future__ import annotations

from collections.abc import Callable

from broker.approvals.service import Approvals
from broker.domain import answers
from broker.domain.answers import Answer
from broker.domain.approvals import Approval
from broker.domain.calls import Action, Call, Verdict
from broker.errors import StoreError, UpstreamUnreachable
from broker.store import held
from broker.store.slots import LimitReached, Taken
from broker.store.writer import Transaction


class ClaimPermit:
    """The right to send a claimed call: `spent` once it may be on its way. `told` is what its agent is told when it may
    not be sent any more.

    Args:
        judge: what the present policy says of a call.
    """

    def __init__(self, approvals: Approvals, claimed: Approval, judge: Callable[[Call], Verdict]) -> None:
        self.told: Answer | None = None
        self.spent = False
        self._approvals = approvals
        self._claimed = claimed
        self._judge = judge

    def spend(self) -> bool:
        """Whether it may be sent now with the slots that it has."""
        taken = self._approvals.claims.executing.get(self._claimed.id)
        self.spent = taken is None or not taken.late(self._approvals.clock.now())
        return self.spent

    async def renew(self) -> None:
        """Let its slots count from now.

        Raises:
            UpstreamUnreachable: a limit is used up meanwhile, the policy denies it by now, or it cannot be recorded;
                the call was not sent.
        """
        try:
            stamped = await self._approvals.change(self._stamp, durable=True)
        except StoreError as error:
            raise UpstreamUnreachable(f"{error} The call was not sent.") from error
        if isinstance(stamped, Answer):
            self.told = stamped
            raise UpstreamUnreachable(stamped.sentence)
        self._approvals.claims.executing[self._claimed.id] = stamped

    def _stamp(self, tx: Transaction) -> Taken | Answer:
        call, tries = self._claimed.call, self._approvals.claims.executing[self._claimed.id].tries + 1
        verdict = self._judge(call)
        if verdict.action is Action.DENY:
            return answers.denied(verdict)
        stamped = held.stamp(tx.session.connection(), call.id, verdict.charges, tx.now, tries=tries)
        if isinstance(stamped, LimitReached):
            return answers.limited(stamped.charge, stamped.free_at, tx.now, self._claimed.id)
        return stamped
