"""What the process that runs an approved call does to its approval: claims it, and notes what came of it.

What belongs here: the sole right to run, and the end of it. What does not: running (`broker.gateway`), the slots of a
dispatch that comes late (`permit`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from broker.approvals.journal import BROKER, agent
from broker.approvals.ledger import Ledger, held_call
from broker.approvals.processes import LEASE
from broker.approvals.tasks import CALLED_OFF, is_called_off, keep_answer, keep_questions
from broker.domain import answers, moves
from broker.domain.answers import Answer
from broker.domain.approvals import Approval, Caller, Cause, State
from broker.domain.audit import Kind
from broker.domain.calls import Action, Call, Verdict, fingerprints
from broker.domain.canonical import canonical_json
from broker.domain.recorded import masked_paths
from broker.domain.redaction import without_echoes
from broker.domain.rounds import continuations
from broker.domain.sealing import unsealed
from broker.domain.tasks import Questions
from broker.errors import DeadlinePassed, TransitionRefused
from broker.store import approvals as stored
from broker.store import grants, held
from broker.store.slots import LimitReached, Taken
from broker.store.writer import Transaction

RESULT_CAP = 256 * 1024
"""The most bytes of an upstream's answer that are kept with its approval."""

_UNSETTLED = "what came of it last is not recorded for certain yet."


class Claims:
    """The executing side of a ledger.

    `holder` names this process as the one that executes what it claims, and `executing` holds what it executes now,
    by the approval's id, with what each call counts for its limits.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.holder = ledger.process.id
        self.executing: dict[str, Taken] = {}

    async def claim(
        self, approval_id: str, judge: Callable[[Call], Verdict], definition: Mapping[str, Any] | None
    ) -> Approval | Answer:
        """Take the sole right to run an approved call, if all that it was approved for still holds.

        Args:
            judge: what the present policy says of a call; asked inside the transaction, so that whatever is put in
                force before the claim is in the record counts for it.
            definition: the tool as its server describes it now.

        Returns:
            The approval: `executing` when it is claimed, with the call as it was asked for; else ended, with the cause.
            Or what the agent is told while the approval stays usable: a limit of the present policy is used up, or this
            process has yet to hear whether its last word on it is recorded, and would say it again.

        Raises:
            TransitionRefused: it is not approved, somebody else claimed it, or its caller does not wait here.
        """

        def work(tx: Transaction) -> tuple[Approval | Answer, Taken]:
            approval = held_call(tx.session, approval_id)
            try:
                claimed = moves.claim(approval, self.holder, tx.now, LEASE)
            except DeadlinePassed:
                expired = moves.expire(approval, tx.now)
                return self._ledger.journal.end(tx, expired, Kind.APPROVAL_EXPIRED, BROKER), nothing
            if approval_id in self.executing:
                return answers.not_sent(_UNSETTLED, approval_id), nothing
            runs = self._what_runs(tx, approval, judge, definition)
            if isinstance(runs, Cause):
                withdrawn = moves.withdraw(approval, runs, tx.now)
                return self._ledger.journal.end(tx, withdrawn, Kind.APPROVAL_WITHDRAWN, BROKER), nothing
            call, verdict = runs
            taken = held.stamp(tx.session.connection(), approval.call.id, verdict.charges, tx.now)
            if isinstance(taken, LimitReached):
                return answers.limited(taken.charge, taken.free_at, tx.now, approval.id), nothing
            self._ledger.journal.save(tx, claimed, Kind.APPROVAL_CLAIMED, agent(approval.call.grant))
            return replace(claimed, call=call), taken

        nothing = Taken(0)
        claimed, taken = await self._ledger.change(work, durable=True)
        if isinstance(claimed, Approval) and claimed.state is State.EXECUTING:
            self.executing[claimed.id] = taken
        return claimed

    async def finish(self, approval_id: str, *, failed: bool, errored: bool = False, result: Any = None) -> Approval:
        """Record the outcome of a claimed call, and keep the upstream's result when it is not too large.

        An outcome that comes after the call was given up as interrupted is recorded, and the state stays; as does what
        its agent was told, if that is a task.

        Args:
            errored: the upstream answered with a protocol error, so what is refunded is given back.

        Raises:
            TransitionRefused: this process does not execute it, or its outcome was recorded before.
        """

        def work(tx: Transaction) -> Approval:
            approval = self._executed(tx, approval_id)
            kind = Kind.APPROVAL_FAILED if failed else Kind.APPROVAL_SUCCEEDED
            self._keep_result(tx, approval, result)
            if approval.state is State.INTERRUPTED:
                heard = moves.hear_late(approval)
                return self._ledger.journal.save(tx, heard, Kind.APPROVAL_LATE, BROKER, {"outcome": kind.value})
            if approval.caller is Caller.TASK:
                keep_answer(tx, self._ledger.keyring, approval_id, {"error" if errored else "result": result})
            finished = moves.finish(approval, failed=failed)
            held.settle(tx.session.connection(), approval.call.id, errored=errored)
            return self._ledger.journal.save(tx, finished, kind, BROKER)

        return await self._let_go(approval_id, work)

    async def release(self, approval_id: str, why: str) -> Approval:
        """Give a claim back: the call provably never reached the tool, so the approval can still be used.

        Raises:
            TransitionRefused: this process does not execute it, or the tool was reached before and asked for input.
        """

        def work(tx: Transaction) -> Approval:
            approval = moves.release(self._executed(tx, approval_id))
            held.hold_again(tx.session.connection(), approval.call.id)
            released = self._ledger.journal.save(tx, approval, Kind.APPROVAL_RELEASED, BROKER, {"why": why})
            if not is_called_off(tx, released):
                return released
            withdrawn = moves.withdraw(released, Cause.TASK, tx.now)
            return self._ledger.journal.end(tx, withdrawn, Kind.APPROVAL_WITHDRAWN, agent(released.call.grant))

        return await self._let_go(approval_id, work)

    async def interrupt(self, approval_id: str, why: str) -> Approval:
        """The server went away in the middle: nobody knows whether it ran, and it is never run again.

        Raises:
            TransitionRefused: this process does not execute it.
        """

        def work(tx: Transaction) -> Approval:
            approval = moves.interrupt(self._executed(tx, approval_id))
            return self._ledger.journal.save(tx, approval, Kind.APPROVAL_INTERRUPTED, BROKER, {"why": why})

        return await self._let_go(approval_id, work)

    # -- rounds -------------------------------------------------------------------------------------------------------

    async def await_input(self, claimed: Approval, state: Any, requests: Any = None) -> Approval:
        """The tool asks for input before it goes on; the agent has as long for it as for using an approval.

        Args:
            claimed: with the call as it was asked for.
            state: the `requestState` that the tool gave, if it did.
            requests: its `inputRequests`, kept only for a task; the agent of another has them.

        Raises:
            TransitionRefused: this process does not execute it, or it asked too often.
            ValueError: what it gave has no canonical form.
        """
        mark = continuations(self._ledger.keyring, claimed.call, state)[0]

        def work(tx: Transaction) -> Approval:
            until = tx.now + self._ledger.rules.execute_within
            asking = moves.await_input(self._executed(tx, claimed.id), mark, until)
            if asking.caller is Caller.TASK:
                keep_questions(tx, self._ledger.keyring, asking.id, Questions.of(state, requests, asking.rounds))
            return self._ask(tx, asking)

        return await self._let_go(claimed.id, work)

    async def awaiting(self, call: Call, state: Any) -> Approval | None:
        """The approval whose tool waits for the input that `call` brings with the `requestState` given."""
        marks, now = continuations(self._ledger.keyring, call, state), self._ledger.clock.now()
        return await self._ledger.store.look_up(lambda session: stored.awaiting(session, marks, now, None))

    async def continue_with_input(
        self,
        call: Call,
        state: Any,
        judge: Callable[[Call], Verdict],
        definition: Mapping[str, Any] | None,
        task_id: str | None = None,
    ) -> Approval | Answer:
        """Take the sole right to go on with the call whose tool asked for input, if all that it was approved for still
        holds. It has its slots, and the people's word.

        Args:
            call: as it came again.
            state: the `requestState` that it brought, if it did.
            judge: what the present policy says of a call (see `claim`).
            definition: the tool as its server describes it now.
            task_id: the task that it is of, if it is one.

        Returns:
            The approval: `executing`, with the call as it was asked for, and what the agent is told otherwise: it ends
            when what it was approved for does not hold any more; nothing happens when nothing waits for this.

        Raises:
            TransitionRefused: it is a task, and waits for nothing: another process goes on with it, say.
        """
        marks = continuations(self._ledger.keyring, call, state)

        def work(tx: Transaction) -> Approval | Answer:
            approval = stored.awaiting(tx.session, marks, tx.now, task_id)
            if approval is None and task_id is not None:
                raise TransitionRefused("this task waits for nothing")
            if approval is None:
                return self._refuse_input(tx, call, judge(call))
            if approval.id in self.executing:
                return answers.still_awaited(approval, _UNSETTLED)
            runs = self._what_runs(tx, approval, judge, definition)
            if isinstance(runs, Cause):
                told = answers.not_continued(approval, runs)
                interrupted = moves.interrupt(approval)
                self._ledger.journal.save(tx, interrupted, Kind.APPROVAL_INTERRUPTED, BROKER, {"why": told.reason})
                return told
            going_on = moves.continue_with_input(approval, marks, self.holder, tx.now, LEASE)
            detail = {"round": going_on.rounds}
            self._ledger.journal.save(tx, going_on, Kind.APPROVAL_CONTINUED, agent(approval.call.grant), detail)
            return replace(going_on, call=runs[0])

        going_on = await self._ledger.change(work, durable=True)
        if isinstance(going_on, Approval):
            self.executing[going_on.id] = Taken(0)
        return going_on

    async def await_again(self, claimed: Approval, state: Any, why: str) -> Approval:
        """The input provably never reached the tool, which still waits for it."""
        mark = continuations(self._ledger.keyring, claimed.call, state)[0]

        def work(tx: Transaction) -> Approval:
            return self._ask(tx, moves.await_again(self._executed(tx, claimed.id), mark), why)

        return await self._let_go(claimed.id, work)

    async def refuse_input(self, call: Call, verdict: Verdict) -> Answer:
        """Record that `call` brought input which nothing waits for, and say what the agent is told."""
        return await self._ledger.change(lambda tx: self._refuse_input(tx, call, verdict))

    # -- parts --------------------------------------------------------------------------------------------------------

    def _executed(self, tx: Transaction, approval_id: str) -> Approval:
        """What this process executes, or did until it was given up as interrupted."""
        approval = held_call(tx.session, approval_id)
        if approval.holder != self.holder:
            raise TransitionRefused("this process does not execute it")
        return approval

    async def _let_go(self, approval_id: str, work: Callable[[Transaction], Approval]) -> Approval:
        """Record that this process is done with it. When that is refused, its lease is not renewed all the same."""
        try:
            done = await self._ledger.change(work, durable=True)
        except TransitionRefused:
            self.executing.pop(approval_id, None)
            raise
        self.executing.pop(approval_id, None)
        return done

    def _what_runs(
        self,
        tx: Transaction,
        approval: Approval,
        judge: Callable[[Call], Verdict],
        definition: Mapping[str, Any] | None,
    ) -> tuple[Call, Verdict] | Cause:
        """The call as it was asked for and what the policy says of it, or why it may not run any more."""
        if not _granted(tx, approval):
            return Cause.GRANT
        if (call := unsealed(self._ledger.keyring, approval)) is None:
            return Cause.SECRET
        if (verdict := judge(call)).action is Action.DENY:
            return Cause.POLICY
        if approval.fingerprint not in fingerprints(self._ledger.keyring, call, definition):
            return Cause.TOOL
        return call, verdict

    def _ask(self, tx: Transaction, asking: Approval, why: str | None = None) -> Approval:
        if is_called_off(tx, asking):
            given_up, detail = moves.interrupt(asking), {"why": CALLED_OFF}
            return self._ledger.journal.save(tx, given_up, Kind.APPROVAL_INTERRUPTED, BROKER, detail)
        detail = {"round": asking.rounds} | ({"why": why} if why is not None else {})
        return self._ledger.journal.save(tx, asking, Kind.APPROVAL_ASKED, BROKER, detail)

    def _refuse_input(self, tx: Transaction, call: Call, verdict: Verdict) -> Answer:
        return self._ledger.journal.refuse(tx, Kind.CALL_DENIED, call, verdict, answers.not_awaited(verdict))

    def _keep_result(self, tx: Transaction, approval: Approval, result: Any) -> None:
        if not self._ledger.rules.keep_results or result is None or not _small(result):
            return
        whole = unsealed(self._ledger.keyring, approval)
        erased = (
            approval.sealed is None and approval.state.final and masked_paths(approval.call.params.get("arguments"))
        )
        if whole is None or erased:  # what is masked is not known any more, and the answer may repeat it
            return
        tx.keep(approval.call.id, "result", without_echoes(result, whole, approval.call))


def _granted(tx: Transaction, approval: Approval) -> bool:
    grant = grants.get(tx.session, approval.call.grant.id)
    return grant is not None and grant.live(tx.now)


def _small(result: Any) -> bool:
    try:
        return len(canonical_json(result)) <= RESULT_CAP
    except ValueError:  # what a server nests without an end, or half a character; its answer passes, and is not kept
        return False
