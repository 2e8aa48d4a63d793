"""What pages say beside the words of the domain: colours of states, times, names of what is kept.

What belongs here: words of pages alone. What does not: how it stands with an approval and what happened to it
(`broker.domain.standing`, `broker.domain.history`), sentences for agents (`broker.domain.answers`).
"""

from __future__ import annotations

from datetime import timedelta
from math import ceil

from broker.domain.approvals import State
from broker.domain.searching import Outcome
from broker.web.text import visible

_TONES = {
    State.PENDING: "waits",
    State.SUCCEEDED: "ran",
    State.FAILED: "refused",
    State.REJECTED: "refused",
}

_OUTCOMES = {
    Outcome.RAN: "ran",
    Outcome.HELD: "waits",
    Outcome.FAILED: "refused",
    Outcome.DENIED: "refused",
    Outcome.LIMITED: "refused",
    Outcome.REJECTED: "refused",
    Outcome.INTERRUPTED: "doubt",
}

_KEPT = {"redacted": "Arguments, redacted", "explanation": "Rules looked at"}


def tone(state: State) -> str:
    """The colour of a state: `waits`, `ran`, `refused` or `ended`."""
    return _TONES.get(state, "ended")


def outcome_tone(outcome: Outcome) -> str:
    """The colour of what became of a call: `ran`, `refused`, `waits`, `doubt` or `ended`."""
    return _OUTCOMES.get(outcome, "ended")


def brief(text: object, most: int) -> str:
    """The beginning of a text whose markup takes up to `most` bytes: what hides is spelt out and takes many."""
    given = str(text)
    size = 0
    for number, char in enumerate(given[: most + 1]):
        size += len(visible(char).encode())
        if size > most:
            return given[:number] + "…"
    return given


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


def apart(passed: timedelta) -> str:
    """How long before or after, roughly: `4 min before`. What one commit took in has one time."""
    if not passed:
        return "same time"
    seconds = int(abs(passed).total_seconds())
    length = f"{seconds // 60} min" if seconds >= 60 else f"{seconds} s" if seconds else "just"
    return f"{length} {'before' if passed < timedelta() else 'after'}"


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
