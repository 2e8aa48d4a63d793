"""How it stands with an approval, in words for people who review it.

What belongs here: its state, its votes, where its agent is, why it ended. What does not: sentences for agents
(`answers`), what happened before (`history`), what a page or a terminal looks like.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from broker.domain.approvals import Approval, Caller, Cause, Decision, State
from broker.domain.audit import Kind, Row
from broker.domain.history import CAUSES, moment, why_left

_WORDS = {State.PENDING: "waits", State.EXECUTING: "running", State.SUCCEEDED: "ran"}

_SENTENCES = {
    State.PENDING: "Nothing ran yet.",
    State.EXECUTING: "The server has not answered yet.",
    State.SUCCEEDED: "The server answered.",
    State.FAILED: "It was sent, and the server answered with an error.",
}
_NOTHING = "Nothing ran."
_DOUBT = "may or may not have run"
_LATE = {
    Kind.APPROVAL_SUCCEEDED: "It was cut off, and the server's answer came later: it ran.",
    Kind.APPROVAL_FAILED: "It was cut off, and the server's answer came later: an error.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What has to be known of an approval to say how it stands.

    Args:
        given: how many people have approved it, of `quorum`.
        cause: why it ended, if it did without a person's word.
        awaiting: whether its tool waits for input from the agent.
        withdraw_at: until when its agent, which cancelled, is waited for.
        until: how long an approved call can still be used, or the input may take.
    """

    state: State
    caller: Caller
    given: int
    quorum: int
    cause: Cause | None = None
    escalated: bool = False
    awaiting: bool = False
    withdraw_at: datetime | None = None
    until: datetime | None = None

    @property
    def word(self) -> str:
        """Its state, in a word."""
        return "asks" if self.awaiting else _WORDS.get(self.state, self.state.value)

    @property
    def votes(self) -> str:
        """The approvals so far: `1 of 2`."""
        return f"{self.given} of {self.quorum}"

    @property
    def marks(self) -> list[str]:
        """What is to be known of it at a glance, each in a word or two."""
        pending = self.state is State.PENDING
        marks = {
            self.votes: pending and self.quorum > 1,
            "escalated": pending and self.escalated,
            "input awaited": self.awaiting,
            "agent gone": self.caller is Caller.GONE and not self.state.final and not self.awaiting,
        }
        return [mark for mark, holds in marks.items() if holds]

    def sentence(self, history: Iterable[Row]) -> str:
        """Why it ended, if no person decided that, and what came of the call."""
        cause = CAUSES.get(self.cause) if self.cause is not None else None
        return f"{cause} {self._outcome(history)}" if cause is not None else self._outcome(history)

    def agent(self, history: Iterable[Row]) -> str:
        """Where its agent is; nothing once it has ended, or while it is the agent's turn."""
        if self.state.final or self.awaiting:
            return ""
        row = last(history, Kind.APPROVAL_ABANDONED, Kind.APPROVAL_RESUMED)
        if self.caller is Caller.TASK:
            return "The agent asks for the result from time to time."
        if self.caller is Caller.WAITING:
            back = row is not None and row.kind is Kind.APPROVAL_RESUMED
            return f"The agent came back at {moment(row.at)} and waits." if row and back else "The agent waits."
        since = f" at {moment(row.at)}: {_without_stop(why_left(row))}" if row is not None else ""
        return f"The agent stopped waiting{since}.{self._hope()}"

    def _hope(self) -> str:
        if self.state is State.EXECUTING:
            return ""
        if self.withdraw_at is not None:
            return f" It is withdrawn at {moment(self.withdraw_at)} unless the agent comes back for it."
        return " It can come back for it with the identical call."

    def _outcome(self, history: Iterable[Row]) -> str:
        until = f" until {moment(self.until)}" if self.until is not None else ""
        at_latest = f",{until} at the latest" if until else ""
        if self.awaiting:
            return f"The tool asks the agent for input before it goes on. It waits for that{until}."
        if self.state is State.APPROVED:
            runs = {
                Caller.WAITING: "now",
                Caller.TASK: f"now, or is tried again{until}",
                Caller.GONE: f"when the agent comes for it{at_latest}",
            }
            return f"It runs {runs[self.caller]}."
        return _cut_off(list(history)) if self.state is State.INTERRUPTED else _SENTENCES.get(self.state, _NOTHING)


def standing(approval: Approval) -> Standing:
    """How it stands with `approval`."""
    end = approval.resolution
    return Standing(
        state=approval.state,
        caller=approval.caller,
        given=sum(word.decision is Decision.APPROVE for word in approval.reviews),
        quorum=approval.requirement.quorum,
        cause=end.cause if end is not None else None,
        escalated=approval.escalated_at is not None,
        awaiting=approval.awaiting is not None,
        withdraw_at=approval.withdraw_at,
        until=approval.lease_until if approval.awaiting is not None else approval.execute_by,
    )


def last(history: Iterable[Row], *kinds: Kind) -> Row | None:
    """The latest row of one of these kinds, of rows that stand oldest first."""
    found = None
    for row in history:
        found = row if row.kind in kinds else found
    return found


def _cut_off(history: list[Row]) -> str:
    if (late := last(history, Kind.APPROVAL_LATE)) is not None and late.detail.get("outcome") in _LATE:
        return _LATE[late.detail["outcome"]]
    row = last(history, Kind.APPROVAL_INTERRUPTED)
    why = _without_stop(str(row.detail.get("why", ""))) if row is not None else ""
    doubt = "" if _DOUBT in why else f" It {_DOUBT}."
    return f"It was cut off{': ' if why else ''}{why}.{doubt}"


def _without_stop(words: str) -> str:
    return words.rstrip(".")
