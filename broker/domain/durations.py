"""Lengths of time as people write them in settings, policies and commands."""

from __future__ import annotations

import re
from datetime import timedelta

_WRITTEN = re.compile(r"([0-9]{1,9})(s|m|h|d)", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

LONGEST = timedelta(days=3650)
"""So that adding one to the present instant never leaves the calendar."""


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


def written_duration(length: timedelta) -> str:
    """The same the other way: `length`, whole seconds, in the largest unit that it is a whole number of."""
    units = ((unit, timedelta(**{name: 1})) for unit, name in reversed(_UNITS.items()))
    return next(f"{length // one}{unit}" for unit, one in units if not length % one)
