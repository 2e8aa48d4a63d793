"""The moves of an approval: each takes one and returns what it becomes, or raises.

What belongs here: the guard of each move. What does not: the table of states (`approvals`), when time moves one
(`schedule`), saving (`broker.approvals`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from broker.domain.approvals import (
    TRANSITIONS,
    Approval,
    Caller,
    Cause,
    Decision,
    Move,
    Resolution,
    Review,
    State,
)
from broker.domain.history import CAUSES
from broker.domain.people import Person
from broker.domain.reviewers import check_reviewer
from broker.errors import AlreadyResolved, AlreadyVoted, Changed, DeadlinePassed, TransitionRefused

MOST_ROUNDS = 10
"""How often a tool may ask for input in one execution, as the clients' SDKs do it at most (2026-07-28)."""


def review(approval: Approval, person: Person, word: Review, *, execute_within: timedelta) -> Approval:
    """Take one person's word.

    Who may decide is looked at now, not when the call was held. A word that was taken counts as it was given: somebody
    who loses the role or the group later, or is removed, has still said it. An administrator who does not trust it any
    more withdraws the approval.

    Args:
        word: its `by` is `person`'s address and its `at` the present instant.
        execute_within: how long an approval waits for the agent to use it.

    Returns:
        The approval with the review added: pending below the quorum, else approved or rejected. The very same
        approval when the person repeats themselves.

    Raises:
        AlreadyResolved, AlreadyVoted, Changed, DeadlinePassed, NotEligible, SelfApproval, WrongChannel
    """
    check_reviewer(approval, person, word.channel)
    earlier = next((given for given in approval.reviews if given.by == word.by), None)
    if earlier is not None and earlier.decision is word.decision and earlier.revision == approval.revision:
        return approval
    if approval.state is not State.PENDING:
        raise AlreadyResolved(describe_end(approval))
    if word.at >= open_until(approval):
        raise DeadlinePassed
    if word.revision != approval.revision:
        raise Changed
    if earlier is not None:
        raise AlreadyVoted
    reviews = (*approval.reviews, word)
    if word.decision is Decision.REJECT:
        return _resolve(approval, Move.REJECT, State.REJECTED, word, reviews=reviews)
    approvers = {given.by for given in reviews if given.decision is Decision.APPROVE}
    if len(approvers) < approval.requirement.quorum:
        return _move(approval, Move.APPROVE, State.PENDING, reviews=reviews)
    until = word.at + execute_within
    return _resolve(approval, Move.APPROVE, State.APPROVED, word, reviews=reviews, execute_by=until)


def open_until(approval: Approval) -> datetime:
    """Until when a word counts: the deadline, or the end of the wait for a caller that cancelled, if that is sooner."""
    return min(approval.deadline, approval.withdraw_at or approval.deadline)


def expire(approval: Approval, now: datetime) -> Approval:
    """End what nobody answered, or nobody used, in time.

    Raises:
        TransitionRefused: it is not pending or approved, or its time is not over.
    """
    unused = approval.state is State.APPROVED
    limit = approval.execute_by if unused else approval.deadline
    if limit is None or now < limit:
        raise TransitionRefused("its time is not over")
    cause = Cause.UNUSED if unused else Cause.UNANSWERED
    end = Resolution(State.EXPIRED, now, cause=cause)
    return _move(approval, Move.EXPIRE, State.EXPIRED, resolution=end)


def withdraw(approval: Approval, cause: Cause, now: datetime, by: str | None = None) -> Approval:
    """End what must not run any more: by an administrator, or because grant, tool, policy or session are not the same.

    Raises:
        TransitionRefused: it is not pending or approved.
    """
    end = Resolution(State.WITHDRAWN, now, by=by, cause=cause)
    return _move(approval, Move.WITHDRAW, State.WITHDRAWN, resolution=end)


def claim(approval: Approval, holder: str, now: datetime, lease: timedelta) -> Approval:
    """Take the sole right to run an approved call.

    Raises:
        DeadlinePassed: it was not used in time.
        TransitionRefused: it is not approved, somebody else claimed it, or its caller does not wait at `holder`.
    """
    claimed = _move(approval, Move.CLAIM, State.EXECUTING, holder=holder, lease_until=now + lease)
    if not approval.waits(holder):
        raise TransitionRefused("nobody waits for this call here any more")
    if approval.execute_by is not None and now >= approval.execute_by:
        raise DeadlinePassed
    return claimed


def finish(approval: Approval, *, failed: bool) -> Approval:
    """Note the final outcome of the executed call; the resolution stays the people's.

    Raises:
        TransitionRefused: it is not executing.
    """
    state = State.FAILED if failed else State.SUCCEEDED
    return _move(approval, Move.FAIL if failed else Move.SUCCEED, state, holder=None, lease_until=None)


def release(approval: Approval) -> Approval:
    """Give a claim back, since the call provably never reached the tool.

    Raises:
        TransitionRefused: it is not executing, or the tool asked for input, so it was reached before.
    """
    released = _move(approval, Move.RELEASE, State.APPROVED, holder=None, lease_until=None)
    if approval.rounds:
        raise TransitionRefused("this call has reached its tool, which asked for input")
    return released


def await_input(approval: Approval, mark: str, until: datetime) -> Approval:
    """The tool asks for input before it goes on: nobody executes it until the agent brings that.

    Args:
        mark: what the continuation is recognised by.
        until: how long that may take.

    Raises:
        TransitionRefused: it is not executing, or it asked too often.
    """
    if approval.rounds >= MOST_ROUNDS:
        raise TransitionRefused(f"the tool asked for input more than {MOST_ROUNDS} times")
    asking = replace(approval, rounds=approval.rounds + 1, execute_by=until)
    return await_again(asking, mark)


def await_again(approval: Approval, mark: str) -> Approval:
    """The input provably never reached the tool: it waits for it as before, and no longer.

    Raises:
        TransitionRefused: it is not executing.
    """
    until = approval.execute_by
    return _move(approval, Move.ASK, State.EXECUTING, holder=None, lease_until=until, awaiting=mark)


def continue_with_input(
    approval: Approval, marks: Collection[str], holder: str, now: datetime, lease: timedelta
) -> Approval:
    """Take the sole right to go on with a call whose tool asked for input; each request for input is answered once.

    Args:
        marks: what the continuation can be recognised by.

    Raises:
        TransitionRefused: it does not wait for this, or waited too long.
    """
    until = now + lease
    taken = _move(approval, Move.CONTINUE, State.EXECUTING, holder=holder, lease_until=until, awaiting=None)
    if approval.awaiting not in marks or approval.lease_until is None or now >= approval.lease_until:
        raise TransitionRefused("the tool does not wait for this input")
    return taken if approval.caller is Caller.TASK else come_back(taken, holder)


def interrupt(approval: Approval) -> Approval:
    """Note that an executing call's outcome is unknown; it is never run again.

    Raises:
        TransitionRefused: it is not executing.
    """
    return _move(approval, Move.INTERRUPT, State.INTERRUPTED, awaiting=None)


def hear_late(approval: Approval) -> Approval:
    """Note that the outcome of what was given up as interrupted came after all, once; the state stays.

    Raises:
        TransitionRefused: it is not interrupted, or its outcome came before.
    """
    if approval.state is not State.INTERRUPTED or approval.holder is None:
        raise TransitionRefused("only the outcome of an interrupted call can come late, and once")
    return replace(approval, holder=None)


def forget(approval: Approval, now: datetime, memory: timedelta) -> Approval:
    """Let the identical call be asked again though it was rejected.

    Raises:
        TransitionRefused: it is no rejection that is remembered.
    """
    if not is_remembered(approval, now, memory):
        raise TransitionRefused("There is nothing to forget, since this is no rejection that is remembered.")
    return replace(approval, forgotten_at=now)


def is_remembered(approval: Approval, now: datetime, memory: timedelta) -> bool:
    """Whether it is a rejection that answers the identical call, too.

    Args:
        memory: how long a rejection does.
    """
    end = approval.resolution
    if approval.state is not State.REJECTED or end is None or approval.forgotten_at is not None:
        return False
    return end.at > now - memory


def leave(approval: Approval, withdraw_at: datetime | None) -> Approval:
    """The caller went away; the approval can still be decided.

    Args:
        withdraw_at: how long an identical call is waited for; None when the caller did not say that it gives up.
    """
    return replace(approval, caller=Caller.GONE, waits_at=None, withdraw_at=withdraw_at)


def come_back(approval: Approval, process: str, caller: Caller = Caller.WAITING) -> Approval:
    """The identical call waits again, at `process`; or its task does, wherever."""
    return replace(approval, caller=caller, waits_at=process if caller is Caller.WAITING else None, withdraw_at=None)


def describe_end(approval: Approval) -> str:
    """One sentence on who decided and when, for somebody who comes late."""
    end = approval.resolution
    if end is None:
        return f"This approval is {approval.state}."
    allowed = [word.by for word in approval.reviews if word.revision == approval.revision]
    names = allowed if end.state is State.APPROVED else [end.by] if end.by else []
    who = f" by {' and '.join(names)}" if names else ""
    told = f"Already {end.state}{who} at {end.at:%Y-%m-%d %H:%M:%S} UTC"
    if end.reason:
        return f"{told}: {end.reason}."
    cause = CAUSES.get(end.cause) if end.cause is not None else None
    return f"{told}. {cause}" if cause is not None else f"{told}."


def _move(approval: Approval, move: Move, to: State, **changes: Any) -> Approval:
    if to not in TRANSITIONS.get((approval.state, move), ()):
        raise TransitionRefused(f"There is nothing to {move} any more, since this approval is {approval.state}.")
    # What is masked is needed for a run only: at the end nothing of it stays.
    return replace(approval, state=to, sealed=None if to.final else approval.sealed, **changes)


def _resolve(approval: Approval, move: Move, to: State, word: Review, **changes: Any) -> Approval:
    end = Resolution(to, word.at, by=word.by, channel=word.channel, reason=word.reason)
    return _move(approval, move, to, resolution=end, **changes)
