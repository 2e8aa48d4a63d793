"""The history of a call in words: what each row of the record says that somebody did, and why.

What belongs here: one row at a time, for people who look back. What does not: how it stands now (`standing`), finding
the rows (`broker.store.audit`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from broker.domain.approvals import Cause, State
from broker.domain.audit import Kind, Row
from broker.domain.reviewers import place

_DID: Mapping[Kind, str] = {
    Kind.CALL_ALLOWED: "asked; the policy allows it",
    Kind.CALL_DENIED: "asked; it was denied",
    Kind.CALL_LIMITED: "asked; a limit is used up",
    Kind.CALL_ANSWERED: "got an answer",
    Kind.APPROVAL_SUBMITTED: "asked; the call was held",
    Kind.APPROVAL_REVIEWED: "gave one of the approvals",
    Kind.APPROVAL_APPROVED: "approved",
    Kind.APPROVAL_REJECTED: "rejected",
    Kind.APPROVAL_EXPIRED: "ended it",
    Kind.APPROVAL_WITHDRAWN: "withdrew it",
    Kind.APPROVAL_REMINDED: "reminded those who may decide",
    Kind.APPROVAL_ESCALATED: "asked more people",
    Kind.APPROVAL_FORGOTTEN: "let the same call be asked again",
    Kind.APPROVAL_ABANDONED: "stopped waiting",
    Kind.APPROVAL_RESUMED: "came back and waits again",
    Kind.APPROVAL_CLAIMED: "came for it; it was started",
    Kind.APPROVAL_RELEASED: "noted that it was not sent; the approval can still be used",
    Kind.APPROVAL_ASKED: "noted that the tool asks for input first",
    Kind.APPROVAL_BROUGHT: "brought input that the tool asked for",
    Kind.APPROVAL_CONTINUED: "brought the input; the call goes on",
    Kind.APPROVAL_CANCELLED: "cancelled it while it ran",
    Kind.APPROVAL_SUCCEEDED: "noted the server's answer",
    Kind.APPROVAL_FAILED: "noted the server's answer: an error",
    Kind.APPROVAL_INTERRUPTED: "noted that it was cut off: it may or may not have run",
    Kind.APPROVAL_LATE: "noted that the server answered late",
}

CAUSES: Mapping[Cause, str] = {
    Cause.UNANSWERED: "Nobody answered in time.",
    Cause.UNUSED: "It was approved, and the agent did not come for it in time.",
    Cause.GRANT: "The agent's grant is over.",
    Cause.TOOL: "The tool has changed since it was asked for.",
    Cause.POLICY: "The policy now denies it.",
    Cause.SECRET: "The server's secret is another one now: what is sealed of the call cannot be opened any more.",
    Cause.SESSION: "The agent's session is over.",
    Cause.CANCELLED: "The agent cancelled it, and did not come back for it.",
    Cause.TASK: "The agent cancelled its task.",
}
"""Why an approval ended by itself; when an administrator ended it, who did is all there is to say."""

_LEFT = {"cancelled": "it cancelled the call", "lost": "its connection was lost"}
"""The words of the record for why a caller went away, for people; others are phrases already."""

_ANSWERED = {
    "succeeded": "got the server's answer",
    "failed": "got the server's answer: an error",
    "answered": "got the server's answer",
    "asked": "was asked for input by the tool",
    "interrupted": "got no answer: it may or may not have run",
    "cancelled": "left before the answer came",
    "unreachable": "got no answer: the server was not reached, and nothing ran",
}
"""What the caller of a call that was not held got, by the outcome in its row."""

_LATE = {Kind.APPROVAL_SUCCEEDED: "it ran", Kind.APPROVAL_FAILED: "an error"}


_BEFORE: Mapping[str, str] = {
    State.EXECUTING: "was still running",
    State.SUCCEEDED: "ran",
    State.FAILED: "got an error from the server",
    State.INTERRUPTED: "was cut off: it may or may not have run",
}
"""What had become of the identical call when it was asked for again."""


@dataclass(frozen=True, slots=True)
class Happening:
    """What one row says.

    Args:
        did: what its actor did, after their name.
        where: in which channel a person said it: `in the browser`.
        why: what else is known of it, each a phrase or a sentence; texts of people and servers among them.
    """

    did: str
    where: str | None
    why: tuple[str, ...]


def happening(row: Row) -> Happening:
    """What `row` says happened."""
    detail = row.detail
    did = _DID.get(row.kind, row.kind.value)
    if row.kind is Kind.CALL_ANSWERED:
        did = _ANSWERED.get(detail.get("outcome", ""), did)
    elif row.kind is Kind.APPROVAL_ASKED and "why" in detail:
        did = "could not reach the server with the input; the tool still waits for it"
    channel = detail.get("channel")
    return Happening(did, place(channel) if channel is not None else None, tuple(_reasons(row)))


def moment(at: datetime) -> str:
    """An instant for people, to the second: `2026-07-28 12:00:00 UTC`."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def ran_before(row: Row) -> str | None:
    """What had become of the identical call, where `row` says that it was sent before: a yes may run it twice."""
    before = row.detail.get("before")
    if before is None:
        return None
    when = moment(datetime.fromisoformat(before["at"]))
    return f"The identical call was approved before, at {when}, and {_BEFORE.get(before['state'], 'was sent')}."


def why_left(row: Row) -> str:
    """Why the caller went away, of the row that says that it did."""
    why = str(row.detail.get("why") or "why is not known")
    return _LEFT.get(why, why)


def _reasons(row: Row) -> Iterator[str]:
    detail = row.detail
    if (milliseconds := detail.get("ms")) is not None:
        yield f"after {milliseconds:g} ms"
    if (number := detail.get("round")) is not None:
        yield f"request {number}"
    if to := detail.get("to"):
        yield ", ".join(to)
    if remaining := detail.get("left"):
        yield f"{remaining} left"
    if outcome := _LATE.get(detail.get("outcome", "")):
        yield outcome
    if cause := CAUSES.get(detail.get("cause", "")):
        yield cause
    if before := ran_before(row):
        yield before
    for name in ("why", "reason"):
        if text := detail.get(name):
            yield _LEFT.get(text, str(text))
