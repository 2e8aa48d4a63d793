"""Lengths of time as people write them in settings, policies and commands."""

from __future__ import annotations

import re
from datetime import timedelta

_WRITTEN = re.compile(r"([0-9]{1,9})(s|m|h|d)", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

_ONE = {1: "a second", 60: "a minute", 3600: "an hour", 86400: "a day"}

LONGEST = timedelta(days=3650)
"""So that adding one to the present instant never leaves the calendar."""


def written_duration(length: timedelta) -> str:
    """`length` in the largest unit that writes it exactly, such as `15m` or `90s`; fractions in seconds: `0.5s`."""
    for unit, name in reversed(_UNITS.items()):
        if length and not length % (one := timedelta(**{name: 1})):
            return f"{length // one}{unit}"
    return f"{length.total_seconds()}s"


def parse_duration(text: str) -> timedelta:
    """A whole number with a unit: `90s`, `15m`, `1h`, `30d`.

    Raises:
        ValueError: it is something else, nothing at all, or more than ten years; the message is a sentence.
    """
    written = _WRITTEN.fullmatch(text.strip())
    length = timedelta(**{_UNITS[written[2]]: int(written[1])}) if written else timedelta()
    if not timedelta() < length <= LONGEST:
        raise ValueError(f"{text!r} is not a duration from 1s to {LONGEST.days}d such as 90s, 15m, 1h or 30d.")
    return length


def in_words(window: timedelta) -> str:
    """The window of a limit, for sentences such as "at most 10 in …": ``a minute``, ``90 seconds``."""
    seconds = int(window.total_seconds())
    return _ONE.get(seconds, f"{seconds} seconds")
