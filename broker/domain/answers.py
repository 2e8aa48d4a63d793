"""What an agent is told of a call that did not simply run: a sentence that a model can act on, and facts for programs.

What belongs here: statuses, sentences, the `approval-broker/decision` block (design section 3). What does not: how it
is put on a wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from broker.domain.approvals import Approval, Cause, Decision, State
from broker.domain.audit import timestamp
from broker.domain.calls import UNIT, Charge, Verdict
from broker.domain.durations import in_words, written_duration
from broker.domain.reviewers import place
from broker.domain.waiting import situation, time_left

META_KEY = "approval-broker/decision"

_DOUBT = "may or may not have run"
_STILL_VALID = "The approval stays valid for a while: repeat the identical call."


class Status(StrEnum):
    """How it stands with a call, in the agent's words."""

    APPROVED = "approved"
    DENIED = "denied"
    LIMITED = "limited"
    REJECTED = "rejected"
    EXPIRED = "expired"
    PENDING = "pending"
    WITHDRAWN = "withdrawn"
    INTERRUPTED = "interrupted"
    UNAVAILABLE = "unavailable"


_RETRY = {
    Status.DENIED: "never",
    Status.LIMITED: "later",
    Status.REJECTED: "never",
    Status.EXPIRED: "ask",
    Status.PENDING: "same",
    Status.WITHDRAWN: "ask",
    Status.INTERRUPTED: "check",
    Status.UNAVAILABLE: "later",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status with its sentence and whatever facts there are."""

    status: Status
    sentence: str
    approval_id: str | None = None
    reason: str | None = None
    rule: str | None = None
    cause: str | None = None
    review_url: str | None = None
    deadline: datetime | None = None
    reviewers: tuple[str, ...] = ()
    retry_after: int | None = None

    def result(self, *, modern: bool) -> dict[str, Any]:
        """The tool result that tells it to an agent whose call did not run.

        Args:
            modern: whether the agent speaks 2026-07-28 or later, where every result must have a `resultType`.
        """
        told = {"content": [{"type": "text", "text": self.sentence}], "isError": True, "_meta": {META_KEY: self.meta()}}
        return told | {"resultType": "complete"} if modern else told

    def meta(self) -> dict[str, Any]:
        """The `_meta["approval-broker/decision"]` block; keys without a value are left out."""
        facts: dict[str, Any] = {
            "status": self.status.value,
            "retry": _RETRY.get(self.status),
            "retry_after": self.retry_after,
            "approval_id": self.approval_id,
            "reason": self.reason,
            "rule": self.rule,
            "cause": self.cause,
            "review_url": self.review_url,
            "deadline": timestamp(self.deadline) if self.deadline else None,
            "reviewers": list(self.reviewers) or None,
        }
        return {key: value for key, value in facts.items() if value is not None}


def denied(verdict: Verdict) -> Answer:
    """The policy says no."""
    sentence = f"Denied by policy: {_ended(verdict.reason or 'this call is not allowed')} Do not try it again."
    return Answer(status=Status.DENIED, sentence=sentence, reason=verdict.reason, rule=verdict.rule)


def nobody_eligible(verdict: Verdict) -> Answer:
    """The call needs people, and there are too few who may decide."""
    wanted, late = verdict.requirement, verdict.requirement.escalate
    who = ", ".join(wanted.approvers) or "people with the approver role"
    few = f" ({wanted.quorum} of them)" if wanted.quorum > 1 else ""
    then = f" or, after {written_duration(late.after)}, {', '.join(late.to)}" if late and wanted.approvers else ""
    return _undecidable(
        verdict, f"the approval of {who}{then}{few}, and too few such people may decide for this agent."
    )


def nowhere_decided(verdict: Verdict) -> Answer:
    """The call may be decided only where this broker takes no decisions."""
    where = " or ".join(map(place, verdict.requirement.channels))
    return _undecidable(verdict, f"a decision {where}, and this broker takes none there.")


def _undecidable(verdict: Verdict, needs: str) -> Answer:
    reason = f"this call needs {needs}"
    sentence = f"Denied: {reason} Nothing ran. Do not try it again; tell your operator."
    return Answer(status=Status.DENIED, sentence=sentence, reason=reason, rule=verdict.rule)


def limited(charge: Charge, free_at: datetime | None, now: datetime, approval_id: str | None = None) -> Answer:
    """A limit is used up, or the call alone is more than it ever admits: then trying again is of no use.

    Args:
        free_at: when it fits, if only time has to pass.
        approval_id: that of a call which was approved, and can still run.
    """
    if charge.amount > charge.max * UNIT:
        return _too_much(charge)
    wait = _seconds(free_at, now) if free_at is not None else None
    counted = f"such call{'s' if charge.max > 1 else ''}" if charge.amount == UNIT else f"of {charge.counter!r}"
    reason = charge.message or f"at most {charge.max} {counted} in {in_words(charge.window)}"
    when = f"Try again in {wait} s." if wait is not None else "Try again later."
    if approval_id is not None:
        when += f" {_STILL_VALID}"
    return Answer(
        status=Status.LIMITED,
        sentence=f"Rate limit reached: {_ended(reason)} Nothing ran. {when}",
        reason=reason,
        rule=charge.rule,
        approval_id=approval_id,
        retry_after=wait,
    )


def _seconds(until: datetime, now: datetime) -> int:
    """Rounded up: at the very second that is told, it is time."""
    return -((now - until) // timedelta(seconds=1))


def _too_much(charge: Charge) -> Answer:
    asked = Decimal(charge.amount) / UNIT
    reason = f"this call alone counts {asked:f}, and at most {charge.max} fit in {in_words(charge.window)}"
    sentence = f"Denied by policy: {_ended(reason)} Nothing ran. Do not try it again."
    return Answer(status=Status.DENIED, sentence=sentence, reason=reason, rule=charge.rule)


def too_many_pending(most: int) -> Answer:
    """The agent has as many calls before people as it may."""
    reason = f"{most} calls of this agent wait for approval already, and no more may"
    return _not_asked("approvals.max_pending", reason, "until one of these is decided")


def too_many_asked(most: int, free_at: datetime, now: datetime) -> Answer:
    """The agent asked people as often as it may.

    Args:
        free_at: when it may again.
    """
    reason = f"this agent asked for {most} approvals within an hour, and may not ask for more"
    wait = _seconds(free_at, now)
    return _not_asked("approvals.max_per_hour", reason, f"for {wait} s", wait)


def _not_asked(rule: str, reason: str, how_long: str, retry_after: int | None = None) -> Answer:
    next_step = f"Make no call that needs approval {how_long}: go on without, or tell your user that you wait."
    return Answer(
        status=Status.LIMITED,
        sentence=f"Nobody was asked: {reason}. Nothing ran. {next_step}",
        reason=reason,
        rule=rule,
        retry_after=retry_after,
    )


def unavailable(reason: str, approval_id: str | None = None) -> Answer:
    """The broker cannot decide or cannot reach the server; nothing ran."""
    sentence = f"Not possible right now: {_ended(reason)} Nothing ran. Try again later."
    return Answer(status=Status.UNAVAILABLE, sentence=sentence, reason=reason, approval_id=approval_id)


def not_sent(reason: str, approval_id: str) -> Answer:
    """An approved call could not be sent, and its approval can still be used."""
    sentence = f"Not possible right now: {_ended(reason)} Nothing ran. {_STILL_VALID}"
    return Answer(status=Status.UNAVAILABLE, sentence=sentence, reason=reason, approval_id=approval_id)


def interrupted(approval_id: str | None = None, reason: str | None = None) -> Answer:
    """It was started and nobody knows the outcome."""
    known = _ended(reason or "The call was sent, and what came of it is unknown")
    doubt = "" if _DOUBT in known else f" It {_DOUBT}."
    sentence = f"{known}{doubt} Look at the effect before you do anything else; do not simply repeat the call."
    return Answer(status=Status.INTERRUPTED, sentence=sentence, approval_id=approval_id, reason=reason)


def pending(approval: Approval, review_url: str, why: str, now: datetime) -> Answer:
    """Nobody has decided yet, and this answer cannot wait any longer: the approval is the ticket.

    Args:
        why: why it cannot wait, as a sentence.
    """
    sentence = (
        f"{situation(approval)}, {time_left(approval, now)}. Nothing ran yet, and nothing went wrong. {why} "
        "Repeat the identical call now, with exactly the same arguments: it goes on waiting for this same approval, "
        "and returns the tool's own result once that is given. Do so every time you get this answer. Change nothing "
        "in the arguments, not even how a number or a word is written: that is another call, for which people are "
        f"asked anew. Your user can follow it at {review_url}"
    )
    return Answer(
        status=Status.PENDING,
        sentence=sentence,
        approval_id=approval.id,
        rule=approval.rule,
        review_url=review_url,
        deadline=approval.deadline,
    )


def of(approval: Approval, review_url: str | None = None) -> Answer:
    """What the ended `approval` means for the agent that asked.

    Raises:
        ValueError: it has not ended without running.
    """
    end = approval.resolution
    if approval.state is State.INTERRUPTED:
        return interrupted(approval.id)
    if end is None or approval.state not in (State.REJECTED, State.EXPIRED, State.WITHDRAWN):
        raise ValueError(f"an approval that is {approval.state} has no such answer")
    status = Status(approval.state.value)
    sentence = {
        Status.REJECTED: _rejected(end.by, end.reason),
        Status.EXPIRED: _expired(end.cause),
        Status.WITHDRAWN: _withdrawn(end.cause),
    }[status]
    return Answer(
        status=status,
        sentence=sentence,
        approval_id=approval.id,
        reason=end.reason,
        rule=approval.rule,
        cause=end.cause.value if end.cause else None,
        review_url=review_url,
        deadline=approval.deadline,
        reviewers=tuple(given.by for given in approval.reviews),
    )


def approved(approval: Approval) -> Answer:
    """What goes into the `_meta` of the upstream's own result."""
    return Answer(
        status=Status.APPROVED,
        sentence="",
        approval_id=approval.id,
        rule=approval.rule,
        reviewers=tuple(given.by for given in approval.reviews if given.decision is Decision.APPROVE),
    )


def not_awaited(verdict: Verdict) -> Answer:
    """A call of a tool that needs approval brings input, and no approved call of its agent waits for that."""
    reason = (
        "no approved call of this agent waits for this input: it was brought already, too late, or for another call"
    )
    sentence = (
        f"Not sent: {reason}. If this call was approved before, look at its effect first. "
        "The call without `requestState` and `inputResponses` asks for a new approval."
    )
    return Answer(status=Status.EXPIRED, sentence=sentence, reason=reason, rule=verdict.rule, cause="input")


def not_continued(approval: Approval, cause: Cause) -> Answer:
    """What was approved does not hold any more, when the agent brings the input that its tool asked for."""
    return interrupted(approval.id, f"The tool asked for input, and was not given it: {_CAUSES[cause]}.")


def still_awaited(approval: Approval, why: str) -> Answer:
    """The input could not be sent, so the tool still waits for it."""
    sentence = (
        f"Not possible right now: {_ended(why)} The input was not sent, and the tool still waits for it. "
        "Repeat the identical call, with the same input, after a while."
    )
    return Answer(status=Status.UNAVAILABLE, sentence=sentence, reason=why, approval_id=approval.id, rule=approval.rule)


def unreadable(approval: Approval) -> Answer:
    """A task ran, and what the server answered was too large to keep, or is sealed under a secret that is gone."""
    sentence = "The call ran, and the server's answer cannot be given any more. Look at the effect; do not repeat it."
    return Answer(status=Status.INTERRUPTED, sentence=sentence, approval_id=approval.id, rule=approval.rule)


_CAUSES: dict[Cause | None, str] = {
    Cause.GRANT: "the agent's grant ended",
    Cause.TOOL: "the tool's definition changed",
    Cause.POLICY: "the policy denies it now",
    Cause.SECRET: "the secret that it was sealed with is gone",
    Cause.SESSION: "the session ended",
    Cause.CANCELLED: "it was cancelled, and the identical call did not come again in time",
    Cause.TASK: "the agent cancelled the task",
    Cause.ADMINISTRATOR: "by an administrator",
}


_AFTER: dict[Cause | None, str] = {
    Cause.GRANT: "Ask your operator for a new grant.",
    Cause.POLICY: "A new call would be denied, too, unless the policy changes again.",
}
"""What to do after a withdrawal, where that is not to ask again."""


def _rejected(by: str | None, reason: str | None) -> str:
    why = f": {reason}" if reason else ", without a reason"
    return f"Rejected by {by}{_ended(why)} Nothing ran. Do not try this call again."


def _ended(words: str) -> str:
    """`words` of a policy or a person as the end of a sentence, whether or not they wrote the full stop."""
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _withdrawn(cause: Cause | None) -> str:
    why = _CAUSES.get(cause, "by an administrator")
    return f"The request for approval was withdrawn ({why}). Nothing ran. {_AFTER.get(cause, 'A new call asks again.')}"


def _expired(cause: Cause | None) -> str:
    if cause is Cause.UNUSED:
        return "It was approved, and not used in time. Nothing ran. A new call asks again."
    return "Nobody answered in time. Nothing ran. A new call asks again."
