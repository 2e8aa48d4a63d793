"""What pages say of approvals: outcomes, events and times in words.

What belongs here: sentences for people who review. What does not: sentences for agents (`broker.domain.answers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from broker.domain.approvals import Approval, Cause, State
from broker.domain.audit import Kind, Row


@dataclass(frozen=True, slots=True)
class Outcome:
    """A word with its colour (`waits`, `ran`, `refused` or `ended`), and the sentence that goes with it."""

    tone: str
    word: str
    sentence: str


_WORDS: dict[State, tuple[str, str, str]] = {
    State.PENDING: ("waits", "waits", "Nothing ran yet."),
    State.APPROVED: ("ended", "approved", "It runs when the agent comes for it."),
    State.EXECUTING: ("ended", "running", "The server has not answered yet."),
    State.SUCCEEDED: ("ran", "ran", "The server answered."),
    State.FAILED: ("refused", "failed", "It was sent, and the server answered with an error."),
    State.REJECTED: ("refused", "rejected", "Nothing ran."),
    State.EXPIRED: ("ended", "expired", "Nothing ran."),
    State.WITHDRAWN: ("ended", "withdrawn", "Nothing ran."),
    State.INTERRUPTED: ("ended", "interrupted", "Its outcome is unknown: it may or may not have run."),
}

_ASKS = ("waits", "asks", "The tool asks the agent for input before it goes on.")

_CAUSES: dict[Cause, str] = {
    Cause.UNANSWERED: "Nobody answered in time.",
    Cause.UNUSED: "It was approved, and the agent did not come for it in time.",
    Cause.GRANT: "The agent's grant is over.",
    Cause.TOOL: "The tool has changed since it was asked for.",
    Cause.POLICY: "The policy now denies it.",
    Cause.SECRET: "The server's secret is another one now: what is masked of the call cannot be opened any more.",
    Cause.SESSION: "The agent's session is over.",
    Cause.CANCELLED: "The agent cancelled it, and did not come back for it.",
    Cause.ADMINISTRATOR: "An administrator withdrew it.",
}

_EVENTS: dict[Kind, str] = {
    Kind.APPROVAL_SUBMITTED: "asked; the call was held",
    Kind.APPROVAL_REVIEWED: "approved; more are needed",
    Kind.APPROVAL_APPROVED: "approved",
    Kind.APPROVAL_REJECTED: "rejected",
    Kind.APPROVAL_EXPIRED: "ended it: the time was over",
    Kind.APPROVAL_WITHDRAWN: "withdrew it",
    Kind.APPROVAL_REMINDED: "reminded those who may decide",
    Kind.APPROVAL_ESCALATED: "asked more people: nobody had decided",
    Kind.APPROVAL_FORGOTTEN: "let the same call be asked again",
    Kind.APPROVAL_ABANDONED: "stopped waiting",
    Kind.APPROVAL_RESUMED: "came back and waits again",
    Kind.APPROVAL_CLAIMED: "came for it; the call was sent",
    Kind.APPROVAL_RELEASED: "could not reach the server; the approval can still be used",
    Kind.APPROVAL_ASKED: "noted that the tool asks for input first",
    Kind.APPROVAL_CONTINUED: "brought the input; the call goes on",
    Kind.APPROVAL_CANCELLED: "cancelled it while it ran; the server was told",
    Kind.APPROVAL_SUCCEEDED: "noted the server's answer",
    Kind.APPROVAL_FAILED: "noted the server's answer: an error",
    Kind.APPROVAL_INTERRUPTED: "noted that its outcome is unknown",
    Kind.APPROVAL_LATE: "noted a late answer of the server",
}


_KEPT = {"redacted": "Arguments, redacted", "explanation": "Rules looked at"}


def outcome(approval: Approval) -> Outcome:
    """How it stands with `approval`."""
    tone, word, sentence = _WORDS[approval.state] if approval.awaiting is None else _ASKS
    end = approval.resolution
    cause = f"{_CAUSES[end.cause]} " if end is not None and end.cause is not None else ""
    return Outcome(tone, word, cause + sentence)


def event(row: Row) -> str:
    """What the actor of `row` did, after their name."""
    if row.kind is Kind.APPROVAL_ASKED and "why" in row.detail:
        return "could not reach the server with the input; the tool still waits for it"
    return _EVENTS.get(row.kind, row.kind.value)


def kept_as(what: str) -> str:
    """What it is that is kept of a call."""
    return _KEPT.get(what, what.capitalize())


def ago(passed: timedelta) -> str:
    """How long ago, roughly: `12 minutes ago`."""
    seconds = max(0, int(passed.total_seconds()))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return f"{_counted(seconds // length, unit)} ago"
    return "just now" if seconds < 10 else f"{seconds} seconds ago"


def left(remaining: timedelta) -> str:
    """How long still, rounded up: `13 min left`."""
    seconds = ceil(remaining.total_seconds())
    if seconds <= 0:
        return "time is over"
    if seconds <= 60:
        return f"{seconds} s left"
    if seconds <= 7200:
        return f"{ceil(seconds / 60)} min left"
    return f"{ceil(seconds / 3600)} h left" if seconds <= 172800 else f"{ceil(seconds / 86400)} days left"


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
