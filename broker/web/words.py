"""What pages say beside the words of the domain: colours of states, times, names of what is kept.

What belongs here: words of pages alone. What does not: how it stands with an approval and what happened to it
(`broker.domain.standing`, `broker.domain.history`), sentences for agents (`broker.domain.answers`).
"""

from __future__ import annotations

from datetime import timedelta
from math import ceil

from broker.domain.approvals import State

_TONES = {
    State.PENDING: "waits",
    State.SUCCEEDED: "ran",
    State.FAILED: "refused",
    State.REJECTED: "refused",
}

_KEPT = {"redacted": "Arguments, redacted", "explanation": "Rules looked at"}


def tone(state: State) -> str:
    """The colour of a state: `waits`, `ran`, `refused` or `ended`."""
    return _TONES.get(state, "ended")


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


def hurry(remaining: timedelta, whole: timedelta) -> str:
    """How the share of its time that is left looks: nothing, `short` below a half, `last` below a fifth."""
    return "last" if remaining * 5 < whole else "short" if remaining * 2 < whole else ""


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
