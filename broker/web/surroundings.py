"""What surrounds an approval, for one reader: what its agent did about then, how the like was decided, and why not.

What belongs here: choosing a bounded number of what was found, no more than the reader may see. What does not: the
queries (`broker.store.earlier`), who sees an approval (`broker.web.visibility`), markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import Session

from broker.domain.approvals import Approval, Decision, State
from broker.domain.audit import Kind, Row
from broker.domain.people import Person
from broker.domain.recorded import masked_paths
from broker.domain.standing import standing
from broker.domain.text import visible
from broker.store import earlier
from broker.web.visibility import sees

HOUR = timedelta(hours=1)
MOST_BEFORE, MOST_AFTER = 12, 6
MOST_IDENTICAL, MOST_OF_TOOL = 4, 6
MOST_REASONS = 6
LONGEST_OFFERED = 200

_ASKED = {
    Kind.CALL_ALLOWED: "passed",
    Kind.CALL_DENIED: "denied",
    Kind.CALL_LIMITED: "over a limit",
    Kind.APPROVAL_SUBMITTED: "held",
}
"""The rows of which each call has one, and what became of it first."""

_CAME = {
    "succeeded": "passed",
    "answered": "passed",
    "failed": "passed, an error came back",
    "asked": "passed, asked for input",
    "interrupted": "passed, cut off",
    "cancelled": "passed, the agent left",
    "unreachable": "passed, the server was not reached",
}
"""The same of a call that was not held, by its outcome."""


@dataclass(frozen=True, slots=True)
class Did:
    """One call of the agent.

    Args:
        apart: how long after the call that is looked at; negative before it.
        came: what became of it, in a few words.
        seq: of its row in the record.
        approval: the id of its approval, if it was held and the reader sees it.
    """

    at: datetime
    apart: timedelta
    upstream: str | None
    tool: str | None
    came: str
    seq: int
    approval: str | None = None


@dataclass(frozen=True, slots=True)
class Hour:
    """What an agent did in the hour before a call and in the hour after it, oldest first, the nearest of it.

    Args:
        earlier: whether there was more before the first of `before`.
        later: whether there was more after the last of `after`.
    """

    before: Sequence[Did]
    after: Sequence[Did]
    earlier: bool
    later: bool


def hour(session: Session, person: Person, approval: Approval, history: Sequence[Row]) -> Hour:
    """The hours around `approval`, whose rows are `history`."""
    own = next((row.seq for row in history if row.kind is Kind.APPROVAL_SUBMITTED), None)
    if own is None:  # a history that is cut off begins later
        return Hour((), (), earlier=False, later=False)
    near = earlier.rows_near(session, approval.call, own, HOUR, approval.created_at)
    answered = (row for side in near for row in side.rows if row.kind is Kind.CALL_ANSWERED)
    outcomes = {row.call_id: row.detail.get("outcome") for row in answered}
    before, after = ([row for row in side.rows if row.kind in _ASKED] for side in near)
    named = (*before[:MOST_BEFORE][::-1], *after[:MOST_AFTER])
    held = earlier.outlines(session, {row.approval_id for row in named if row.approval_id is not None})

    def did(row: Row) -> Did:
        of_it = held.get(row.approval_id or "")
        came = f"held, {standing(of_it).word}" if of_it is not None else _CAME.get(outcomes.get(row.call_id) or "")
        seen = of_it.id if of_it is not None and sees(person, of_it) else None
        apart = row.at - approval.created_at
        return Did(row.at, apart, row.upstream, row.tool, came or _ASKED[row.kind], row.seq, seen)

    told = list(map(did, named))
    split = min(len(before), MOST_BEFORE)
    more_before, more_after = (side.next is not None for side in near)
    return Hour(
        told[:split],
        told[split:],
        earlier=more_before or len(before) > MOST_BEFORE,
        later=more_after or len(after) > MOST_AFTER,
    )


@dataclass(frozen=True, slots=True)
class Decided:
    """An earlier approval that a person decided.

    Args:
        by: who, all of them.
        same: whether its arguments were the same, as far as people see them.
    """

    approval: Approval
    by: tuple[str, ...]
    why: str | None
    same: bool


@dataclass(frozen=True, slots=True)
class Decisions:
    """How the like was decided, the latest first: the identical call of this agent, and others of the tool."""

    identical: Sequence[Decided]
    of_tool: Sequence[Decided]
    reasons: Sequence[str]


def decisions(session: Session, person: Person, approval: Approval) -> Decisions:
    """Earlier decisions like that on `approval` which `person` sees, and the reasons that can be offered to them."""
    others, same = earlier.of_tool(session, approval)
    masked = masked_paths(approval.call.arguments)  # then nobody can see that another call says the same
    identical = list(_decided(person, earlier.identical(session, approval), frozenset()))
    known = {it.approval.id for it in identical}
    of_tool = [it for it in _decided(person, others, frozenset() if masked else same) if it.approval.id not in known]
    own = earlier.own_reasons(session, person.email, approval.call.upstream)
    given = (it.why for it in (*identical, *of_tool) if it.approval.state is State.REJECTED)
    return Decisions(identical[:MOST_IDENTICAL], of_tool[:MOST_OF_TOOL], _offered((*own, *given)))


def _decided(person: Person, found: Iterable[Approval], same: frozenset[str]) -> Iterator[Decided]:
    for approval in found:
        end = approval.resolution
        if end is not None and end.by is not None and sees(person, approval):
            approved = tuple(word.by for word in approval.reviews if word.decision is Decision.APPROVE)
            yield Decided(
                approval, approved if end.state is State.APPROVED else (end.by,), end.reason, approval.id in same
            )


def _offered(reasons: Iterable[str | None]) -> Sequence[str]:
    """Some of `reasons` for a field of one line, each once; none that is not seen as what it is."""
    fit = (text for text in reasons if text and len(text) <= LONGEST_OFFERED and visible(text) == text)
    return list(dict.fromkeys(fit))[:MOST_REASONS]
