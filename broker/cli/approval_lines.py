"""An approval of the HTTP API as lines for people: in a list, and whole.

What belongs here: from the API's JSON to what a terminal shows. What does not: asking for it (`approvals`), words for
how it stands and what happened (`broker.domain`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from broker.cli import output
from broker.domain.approvals import Caller, Cause, Decision, State
from broker.domain.audit import Row
from broker.domain.exports import row_from_json
from broker.domain.history import happening, moment
from broker.domain.reviewers import place
from broker.domain.standing import Standing

MOST_NAMED = 5
"""How many of those who may still vote are named."""


_VOTED = {Decision.APPROVE: "approved", Decision.REJECT: "rejected"}


def standing(approval: dict[str, Any]) -> Standing:
    """How it stands with it."""
    end: dict[str, str | None] = approval["resolution"] or {}
    return Standing(
        state=State(approval["state"]),
        caller=Caller(approval["caller"]),
        given=sum(one["decision"] == Decision.APPROVE for one in approval["reviews"]),
        quorum=approval["requirement"]["quorum"],
        cause=Cause(end["cause"]) if end.get("cause") else None,
        escalated=approval["escalated_at"] is not None,
        awaiting=approval["awaits_input"],
        withdraw_at=_instant(approval["withdraw_at"]),
        until=_instant(approval["execute_by"]),
    )


def line(approval: dict[str, Any]) -> dict[str, Any]:
    """What a list shows of it, beside its own keys."""
    return approval | {
        "tool": f"{approval['upstream']} / {approval['tool']}",
        "agent": approval["grant"]["label"],
        "left": _left(approval),
        "marks": standing(approval).marks,
    }


def call_of(approval: dict[str, Any]) -> str:
    """Which call it is, and whose."""
    return f"{approval['upstream']} / {approval['tool']} for {approval['grant']['label']}"


def said_of(decided: dict[str, Any], decision: Decision) -> str:
    """What a decision that was taken means for it; the same one again may come long after the end."""
    call = call_of(decided)
    if decision is Decision.REJECT:
        return f"Rejected {call}: it does not run."
    match decided["state"]:
        case State.PENDING:
            return f"Approved {call}: {standing(decided).votes} approvals, so it still waits."
        case State.APPROVED if decided["caller"] != Caller.GONE:
            return f"Approved {call}: it runs now."
        case State.APPROVED:
            return f"Approved {call}: it runs when the agent comes for it."
        case over:
            return f"You had approved {call} already; by now its state is {over}."


def say_whole(approval: dict[str, Any]) -> None:
    """All that there is to know of it."""
    stands, history = standing(approval), [row_from_json(row) for row in approval["history"]]
    output.facts({key: value for key, value in _facts(approval, stands, history).items() if value})
    _say_all("history", (text for row in history for text in _happened(row, approval["grant"])))
    _say_all("rules looked at", (text for step in approval["explanation"] for text in _step(step)))
    for title, value in (("arguments", approval["arguments"]), ("sent along", approval["other_params"])):
        if value or title == "arguments":
            _say_all(title, json.dumps(value, indent=2, ensure_ascii=False).splitlines())


def _facts(approval: dict[str, Any], stands: Standing, history: Sequence[Row]) -> dict[str, Any]:
    grant: dict[str, str] = approval["grant"]
    end: dict[str, str | None] = approval["resolution"] or {}
    reviews: list[dict[str, Any]] = approval["reviews"]
    return {
        "approval": approval["id"],
        "state": approval["state"],
        "call": f"{approval['upstream']} / {approval['tool']}",
        "agent": f"{grant['label']} of {grant['owner']} ({grant['id']})",
        "why": approval["reason"],
        "rule": approval["rule"],
        "risk": approval["risk"],
        "deadline": f"{approval['deadline'][:19]}Z",
        "time left": _left(approval),
        "caller": stands.agent(history),
        "votes": stands.votes if reviews or stands.quorum > 1 else None,
        "reviews": [
            f"{one['by']} {_VOTED[one['decision']]} at {_moment(one['at'])} {place(one['channel'])}" for one in reviews
        ],
        "may decide": _some(approval["may_decide"]),
        "escalated": _moment(approval["escalated_at"]),
        "decided by": end.get("by"),
        "reason": end.get("reason"),
        "outcome": stands.sentence(history),
    }


def _happened(row: Row, grant: dict[str, str]) -> Iterator[str]:
    told = happening(row)
    who = grant["label"] if row.actor == f"agent:{grant['id']}" else row.actor
    yield f"{moment(row.at)}  {who} {told.did}{f' {told.where}' if told.where else ''}"
    yield from (f"  {why}" for why in told.why)


def _step(step: dict[str, str | None]) -> Iterator[str]:
    """A rule that was looked at before the call was held, with what it is for."""
    yield f"{step['rule']}  {step['said']}"
    yield from (f"  {title} {step[title]}" for title in ("saw", "why") if step[title])


def _say_all(title: str, lines: Iterator[str] | Sequence[str]) -> None:
    for number, text in enumerate(lines):
        if number == 0:
            output.say(title)
        output.say(f"  {text}")


def _some(names: Sequence[str]) -> list[str]:
    more = len(names) - MOST_NAMED
    return [*names[:MOST_NAMED], *([f"{more} more"] if more > 0 else [])]


def _left(approval: dict[str, Any]) -> str | None:
    """How long a pending call still waits, to the second."""
    if approval["state"] != State.PENDING:
        return None
    seconds = int((datetime.fromisoformat(approval["deadline"]) - datetime.now(UTC)).total_seconds())
    if seconds <= 0:
        return "over"
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {seconds % 60:02}s"


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _moment(text: str | None) -> str | None:
    return moment(datetime.fromisoformat(text)) if text else None
